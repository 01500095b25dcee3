"""Runs an engine's operations, and knows whether its journal can be written."""

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal.group_commit import RETRY_AFTER, GroupCommit, Stalled
from chatgpt_source.log import get_logger

log = get_logger(__name__)

Connection = TypeVar("Connection")
Result = TypeVar("Result")

READ_PATIENCE = 0.9
"""Seconds that a caller waits for a read; under 1 s, as pages are refreshed every second."""
WRITE_PATIENCE = 10.0
"""Seconds that a caller waits for its write to begin."""


@define(eq=False, repr=False)
class Executor(Generic[Connection]):
    """Runs operations until it is closed; each write tells whether the journal can be written.

    A reason why it can't is logged once, until there is another or it can be written again.

    Args:
        location: The journal's place, for people.
        group: Commits the operations.
    """

    location: str
    _group: GroupCommit[Connection]
    _closing: bool = field(init=False, default=False)
    _fault: str | None = field(init=False, default=None)
    _is_stalled: bool = field(init=False, default=False)

    @property
    def fault(self) -> str | None:
        """Why the last write failed, or that nothing is answered now; None if all is well."""
        if self._group.silent_for >= READ_PATIENCE:
            return self._group.silence().reason
        return self._fault

    def write(
        self,
        run: Callable[[Connection], Result],
        patience: float | None = None,
        delay: float = 0.0,
    ) -> Deferred[Result]:
        """Run an operation in a transaction; see `GroupCommit.submit`."""
        if self._closing:
            return fail(_closed())
        return self._group.submit(run, writes=True, patience=patience, delay=delay).addCallbacks(
            self._well, self._unwell
        )

    def read(
        self, run: Callable[[Connection], Result], patience: float | None = READ_PATIENCE
    ) -> Deferred[Result]:
        """Run an operation that writes nothing; see `GroupCommit.submit`."""
        if self._closing:
            return fail(_closed())
        return self._group.submit(run, writes=False, patience=patience)

    def look(self, run: Callable[[Connection], Result]) -> Deferred[Result]:
        """As `read`; if it fails, the journal can't be written either."""
        return self.read(run).addErrback(self._unwell)

    def close(self) -> Deferred[None]:
        """Take nothing more; fires once all that was taken is done."""
        self._closing = True
        return self._group.when_idle().addCallback(lambda _: self._group.stop())

    def _well(self, result: Result) -> Result:
        if self._fault is not None:
            log.info("journal {path} can be written again", path=self.location)
            self._fault = None
        return result

    def _unwell(self, failure: Failure) -> Failure:
        error = failure.value
        if isinstance(error, JournalUnavailable):
            was, was_stalled = self._fault, self._is_stalled
            self._fault, self._is_stalled = error.reason, isinstance(error, Stalled)
            is_longer = was is not None and was_stalled and self._is_stalled
            if self._fault != was and not is_longer:
                log.error(
                    "journal {path} can't be written: {reason}; accepting no prompts until it can",
                    path=self.location,
                    reason=error.reason,
                )
        return failure


def _closed() -> JournalUnavailable:
    return JournalUnavailable("the journal is closed", retry_after=RETRY_AFTER)
