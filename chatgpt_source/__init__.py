"""ChatGPT Source: takes prompts by HTTP, asks a chat model, delivers answers as CloudEvents."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("chatgpt-source")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "0+unknown"
