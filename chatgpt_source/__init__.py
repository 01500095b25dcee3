"""ChatGPT Source: a prompt in by HTTP, a chat model's answer out as a CloudEvent."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("chatgpt-source")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
