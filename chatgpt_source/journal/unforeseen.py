"""What goes wrong with work on the journal, beside that it can't be used now."""

from twisted.logger import Logger
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.log import log_unexpected


def log_unforeseen(failure: Failure, log: Logger, doing: str) -> None:
    """Log a failure, unless the journal can't be used: the journal itself tells that.

    Args:
        failure: The failure.
        log: The logger of who does the work.
        doing: What it does, for people.
    """
    if not failure.check(JournalUnavailable):
        log_unexpected(log, doing, failure)
