"""Takes the steps of a stop: each of them, whatever became of those before."""

from collections.abc import Callable

from twisted.internet.defer import maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from chatgpt_source.log import log_unexpected


async def take_all(log: Logger, *steps: tuple[str, Callable[[], object]]) -> None:
    """Take steps one after the other; log what one raises, and take the next.

    Args:
        log: The log for that.
        steps: What each does, for people, and the function that does it.
    """
    for doing, step in steps:
        try:
            await maybeDeferred(step)
        except Exception:  # noqa: BLE001, PERF203 - whatever it was, the next step is needed too
            log_unexpected(log, doing, Failure())
