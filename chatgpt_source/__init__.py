"""ChatGPT Source: takes prompts by HTTP, asks a chat model, delivers answers as CloudEvents."""

__version__ = "0.2.0"
