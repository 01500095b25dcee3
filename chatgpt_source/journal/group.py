"""Group commit: operations run in one thread, and what arrives during a commit rides the next.

There is no timer and no batch size: alone, an operation commits at once; under load, one fsync
serves all that came while the one before it was under way.

Not `twisted.enterprise.adbapi`: its interactions are one transaction each, and it reconnects
behind one's back, where a journal needs one connection whose pragmas and locks stand.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

Connection = TypeVar("Connection")
Result = TypeVar("Result")


@define
class Operation(Generic[Connection]):
    """Something to do to the journal, and who waits for it.

    Attributes:
        run: What to do, given the connection; may be run again if its group could not commit.
        writes: Whether it belongs in the transaction.
        result: What it returned; set in the thread.
        error: What it raised instead, if it did.
    """

    run: Callable[[Connection], Any]
    writes: bool
    waiter: Deferred[Any] = field(factory=Deferred)
    result: Any = None
    error: Exception | None = None


class GroupCommit(Generic[Connection]):
    """Hands operations to a thread in groups, in the order they came.

    Args:
        in_thread: Runs a function in the journal's thread, the only one that it runs there.
        transact: Called there with a group, to commit it or roll it back; sets the result or the
            error of each operation.
    """

    def __init__(
        self,
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        transact: Callable[[Sequence[Operation[Connection]]], None],
    ) -> None:
        self._in_thread = in_thread
        self._transact = transact
        self._waiting: list[Operation[Connection]] = []
        self._busy = False
        self._idle: list[Deferred[None]] = []

    def submit(self, run: Callable[[Connection], Result], *, writes: bool) -> Deferred[Result]:
        """Run an operation in the next group; fires once that is committed."""
        operation = Operation(run, writes)
        self._waiting.append(operation)
        if not self._busy:
            self._start()
        return operation.waiter

    def when_idle(self) -> Deferred[None]:
        """Fires once nothing runs and nothing waits."""
        if not self._busy:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def _start(self) -> None:
        self._busy = True
        group, self._waiting = self._waiting, []
        done = self._in_thread(lambda: self._transact(group))
        done.addBoth(self._finish, group)

    def _finish(self, result: object, group: Sequence[Operation[Connection]]) -> None:
        self._busy = False
        if self._waiting:
            self._start()  # before the callbacks, so that the disk does not wait for them
        for operation in group:
            if isinstance(result, Failure):
                operation.waiter.errback(result)
            elif operation.error is not None:
                operation.waiter.errback(operation.error)
            else:
                operation.waiter.callback(operation.result)
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)
