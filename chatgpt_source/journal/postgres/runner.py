"""Runs operations that are steps, each in its place of a group."""

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from chatgpt_source.errors import JournalError, JournalUnavailable
from chatgpt_source.journal.executor import READ_PATIENCE, Executor
from chatgpt_source.journal.postgres.session import OTHER, Session, Steps, Together
from chatgpt_source.journal.postgres.together import Ranked

Result = TypeVar("Result")

AGAIN_EVERY = 2.0
"""Seconds between two attempts of a start, while the database can't be reached."""


@frozen(eq=False, repr=False)
class Runner:
    """Runs operations, as an `Executor` does; see there.

    Args:
        clock: The time.
        executor: Runs them; what it gets is a `Ranked` or a `Together`.
    """

    _clock: IReactorTime
    _executor: Executor[Any]

    def write(
        self,
        steps: Callable[[Session], Steps[Result]],
        patience: float | None = None,
        rank: int = OTHER,
    ) -> Deferred[Result]:
        """Run an operation in a transaction, at its place in the group."""
        return self._executor.write(Ranked(rank, steps), patience)  # type: ignore[arg-type]

    def write_with_others(
        self, request: Together, patience: float | None = None, delay: float = 0.0
    ) -> Deferred[Any]:
        """Run an operation in the same statements as all of its kind in the group."""
        return self._executor.write(request, patience, delay)  # type: ignore[arg-type]

    def read(
        self,
        steps: Callable[[Session], Steps[Result]],
        patience: float | None = READ_PATIENCE,
    ) -> Deferred[Result]:
        """Run an operation that writes nothing."""
        return self._executor.read(Ranked(OTHER, steps), patience)  # type: ignore[arg-type]

    async def write_once_reachable(self, steps: Callable[[Session], Steps[Result]]) -> Result:
        """As `write`, but wait for a database that can't be reached, for as long as it takes.

        Raises:
            JournalError: If the journal can't be written.
        """
        while True:
            try:
                return await self.write(steps)
            except JournalUnavailable as error:
                if not error.is_passing:
                    raise JournalError(
                        f"journal {self._executor.location} can't be written: {error.reason}"
                    ) from None
            await deferLater(self._clock, AGAIN_EVERY)
