"""Reads the journal for several callers at once."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

Result = TypeVar("Result")


@define(eq=False, repr=False)
class SharedReading(Generic[Result]):
    """Calls during a read share the next one, so that each gets what was written before it.

    Args:
        read_once: Reads.
    """

    _read_once: Callable[[], Awaitable[Result]]
    _is_reading: bool = field(init=False, default=False)
    _waiting: list[Deferred[Result]] = field(init=False, factory=list)

    def read(self) -> Deferred[Result]:
        """What is read; it fails as the reading does."""
        waiter: Deferred[Result] = Deferred()
        self._waiting.append(waiter)
        if not self._is_reading:
            self._start()
        return waiter

    def _start(self) -> None:
        self._is_reading = True
        waiting, self._waiting = self._waiting, []
        Deferred.fromCoroutine(self._result()).addBoth(self._end, waiting)

    async def _result(self) -> Result:
        return await self._read_once()

    def _end(self, result: Result | Failure, waiting: list[Deferred[Result]]) -> None:
        self._is_reading = False
        if self._waiting:
            self._start()
        for waiter in waiting:
            waiter.callback(result)
