"""Group commit: operations run in one thread, and what arrives during a commit rides the next.

There is no timer and no batch size: alone, an operation commits at once; under load, one fsync
serves all that came while the one before it was under way.

Not `twisted.enterprise.adbapi`: its interactions are one transaction each, and it reconnects
behind one's back, where a journal needs one connection whose pragmas and locks stand.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable

Connection = TypeVar("Connection")
Result = TypeVar("Result")

MOST_TOGETHER = 256
"""Operations a group may have."""
TELLING = 0.005
"""Seconds of a turn of the event loop in which those who waited are told; the rest come later."""
MOST_WAITING = 10_000
"""Operations with patience that may wait."""
STALLED = 5.0
"""Seconds the thread may take for a group before it counts as stalled: operations that would wait
longer than that are refused at once."""
LOOK = 0.1
"""Seconds between two looks at who has waited for too long."""
TOLD_AT_ONCE = 50
"""Of those, how many are told so in one turn of the event loop."""
RETRY_AFTER = 5.0
"""Seconds after which one who met a stalled thread may try again."""


@define(eq=False)
class Operation(Generic[Connection]):
    """Something to do to the journal, and who waits for it.

    Attributes:
        run: What to do, given the connection; may be run again if its group could not commit.
        writes: Whether it belongs in the transaction.
        until: When its waiter gives up, if it does.
        waiter: Who waits for it.
        result: What it returned; set in the thread.
        error: What it raised instead, if it did.
    """

    run: Callable[[Connection], Any]
    writes: bool
    until: float | None = None
    waiter: "Deferred[Any]" = field(factory=Deferred)
    result: Any = None
    error: Exception | None = None


class Withdrawable(Deferred[Result]):
    """The wait for an operation that is given up by `cancel`, unless it has begun.

    What has begun may be on disk already: then `cancel` does nothing, and the outcome comes.
    """

    def __init__(self, withdraw: Callable[[], object]) -> None:
        super().__init__()
        self._withdraw = withdraw

    def cancel(self) -> None:
        """Withdraw the operation if it has not begun; the wait ends with a CancelledError."""
        if not self.called:
            self._withdraw()


class GroupCommit(Generic[Connection]):
    """Hands operations to a thread in groups, in the order they came.

    Args:
        in_thread: Runs a function in the journal's thread, the only one that it runs there.
        transact: Called there with a group, to commit it or roll it back; sets the result or the
            error of each operation.
        clock: Says how long the thread takes.
    """

    def __init__(
        self,
        in_thread: Callable[[Callable[[], None]], Deferred[None]],
        transact: Callable[[Sequence[Operation[Connection]]], None],
        clock: IReactorTime,
    ) -> None:
        self._in_thread = in_thread
        self._transact = transact
        self._clock = clock
        self._waiting: dict[Operation[Connection], None] = {}
        self._under_way: Sequence[Operation[Connection]] = ()
        self._busy_since: float | None = None
        self._done: deque[tuple[Operation[Connection], object]] = deque()
        self._telling = False
        self._idle: list[Deferred[None]] = []
        self._next_look: IDelayedCall | None = None

    @property
    def silent_for(self) -> float:
        """How many seconds the thread has been busy with one group; 0 if it is idle."""
        return 0.0 if self._busy_since is None else self._clock.seconds() - self._busy_since

    def submit(
        self,
        run: Callable[[Connection], Result],
        *,
        writes: bool,
        patience: float | None = None,
    ) -> Deferred[Result]:
        """Run an operation in the next group; fires once that is committed.

        Args:
            run: What to do.
            writes: Whether it belongs in the transaction.
            patience: How many seconds its waiter waits, until it has begun if it writes; None: for
                ever. One with patience can be cancelled until it has begun.

        Returns:
            Fails with JournalUnavailable, having done nothing, once the patience is at its end, and
            at once while the thread is stalled or too many wait.
        """
        if patience is None:
            operation = Operation(run, writes)
        elif self.silent_for >= min(patience, STALLED):
            return fail(self.silence())
        elif len(self._waiting) >= MOST_WAITING:
            return fail(JournalUnavailable("too many wait for it", retry_after=RETRY_AFTER))
        else:
            until = self._clock.seconds() + patience
            waiter: Withdrawable[Any] = Withdrawable(lambda: self._withdraw(operation))
            operation = Operation(run, writes, until, waiter)
        self._waiting[operation] = None
        if self._busy_since is None:
            self._start()
        return operation.waiter

    def silence(self) -> JournalUnavailable:
        """What is wrong with a thread that does not answer."""
        reason = f"it has not answered for {self.silent_for:.0f} s"
        return JournalUnavailable(reason, retry_after=RETRY_AFTER)

    def when_idle(self) -> Deferred[None]:
        """Fires once nothing runs, and nothing waits or is to be told."""
        if self._is_idle:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        return idle

    def stop(self) -> None:
        """Let all wait for as long as it takes."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None

    def _withdraw(self, operation: Operation[Connection]) -> None:
        if operation in self._waiting:
            del self._waiting[operation]
            operation.waiter.errback(CancelledError())

    def _start(self) -> None:
        self._busy_since = self._clock.seconds()
        group = list(islice(self._waiting, MOST_TOGETHER))
        for operation in group:
            del self._waiting[operation]
        self._under_way = group
        done = self._in_thread(lambda: self._transact(group))
        done.addBoth(self._finish, group)
        if self._busy_since is not None and self._next_look is None:
            self._next_look = self._clock.callLater(LOOK, self._look)

    def _finish(self, result: object, group: Sequence[Operation[Connection]]) -> None:
        self._busy_since = None
        self._under_way = ()
        if self._waiting:
            self._start()  # before the callbacks, so that the disk does not wait for them
        self._done.extend((operation, result) for operation in group)
        if not self._telling:
            self._tell()

    @property
    def _is_idle(self) -> bool:
        return self._busy_since is None and not self._done and not self._telling

    def _tell(self) -> None:
        """Tell the outcome to those who waited, in the order they came, as far as the turn goes."""
        self._telling = True
        over = self._clock.seconds() + TELLING
        while self._done:
            operation, result = self._done.popleft()
            if not operation.waiter.called:  # else it gave up
                _fire(operation, result)
            if self._done and self._clock.seconds() >= over:
                self._clock.callLater(0, self._tell)
                return
        self._telling = False
        if self._is_idle:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    def _look(self) -> None:
        """Tell those who have waited for too long; of what has begun, those who only read."""
        self._next_look = None
        if self._busy_since is None:
            return
        late = list(islice(self._late(), TOLD_AT_ONCE))
        self._next_look = self._clock.callLater(LOOK if len(late) < TOLD_AT_ONCE else 0, self._look)
        error = self.silence()
        for operation in late:
            self._waiting.pop(operation, None)
            operation.waiter.errback(error)

    def _late(self) -> Iterable[Operation[Connection]]:
        now = self._clock.seconds()
        reads = (each for each in self._under_way if not each.writes)
        for operation in (*reads, *self._waiting):
            late = operation.until is not None and operation.until <= now
            if late and not operation.waiter.called:
                yield operation


def _fire(operation: Operation[Any], result: object) -> None:
    """Tell one who waits for an operation how it ended, or that its whole group failed."""
    if isinstance(result, Failure):
        operation.waiter.errback(result)
    elif operation.error is not None:
        operation.waiter.errback(operation.error)
    else:
        operation.waiter.callback(operation.result)
