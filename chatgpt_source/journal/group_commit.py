"""Group commit: operations run in one thread; arrivals during a commit form the next group.

There is no batch size. A single operation commits at once, unless it may wait for others to share
its group; under load, one fsync commits all that arrived during the one before, and all that a few
turns of the reactor bring then.

`twisted.enterprise.adbapi` does not fit: it runs one transaction for each interaction, and it
reconnects by itself, which loses the connection's pragmas and locks.
"""

import math
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
InThread = Callable[[Callable[[], None]], Deferred[None]]
"""Runs a function in the journal's own thread."""

MOST_TOGETHER = 256
"""Operations in a group at the most."""
CALLBACK_TIME = 0.005
"""Seconds of one turn of the reactor that callbacks may take; the rest run in the next turn."""
TURNS = 3
"""Turns of the reactor that a group which has others to follow leaves between them, for more to
come: a group costs as much as tens of operations. While little happens, a turn takes no time."""
MOST_WAITING = 10_000
"""Operations that may wait; further ones with patience are refused."""
STALLED = 5.0
"""Seconds after which a busy thread counts as stalled: operations with patience are refused at
once."""
LOOK = 0.1
"""Seconds between two checks for operations that have waited too long."""
RETRY_AFTER = 5.0
"""Seconds after which a caller whom the journal refused may try again."""


class Stalled(JournalUnavailable):
    """The journal's thread has not answered; the reason says for how long."""


@define(eq=False, repr=False)
class Operation(Generic[Connection]):
    """An operation on the journal.

    Attributes:
        run: A function of the connection; may run again if its group could not commit.
        writes: Whether it runs in the transaction.
        until: When its waiter gives up, if it does.
        waiter: Fires with the result or the error.
        result: What it returned; set in the thread.
        error: What it raised, if it did; set in the thread.
    """

    run: Callable[[Connection], Any]
    writes: bool
    until: float | None = None
    waiter: "Deferred[Any]" = field(factory=Deferred)
    result: Any = None
    error: Exception | None = None


class Withdrawable(Deferred[Result]):
    """The wait for an operation; `cancel` withdraws the operation, unless it has begun.

    An operation that has begun may be on disk, so then `cancel` does nothing.
    """

    def __init__(self, withdraw: Callable[["Withdrawable[Result]"], object]) -> None:
        super().__init__()
        self._withdraw = withdraw

    def cancel(self) -> None:
        """Withdraw the operation if it has not begun; the wait then fails with a CancelledError."""
        if not self.called:
            self._withdraw(self)


class GroupCommit(Generic[Connection]):
    """Runs operations in a thread, in groups, in the order of their arrival.

    Args:
        in_thread: Runs a function in the journal's thread; nothing else runs there.
        transact: Called there with a group; commits it or rolls it back, and sets the result or the
            error of each operation.
        clock: The time.
    """

    def __init__(
        self,
        in_thread: InThread,
        transact: Callable[[Sequence[Operation[Connection]]], None],
        clock: IReactorTime,
    ) -> None:
        self._in_thread = in_thread
        self._transact = transact
        self._clock = clock
        self._waiting: dict[Deferred[Any], Operation[Connection]] = {}
        self._under_way: Sequence[Operation[Connection]] = ()
        self._busy_since: float | None = None
        self._done: deque[tuple[Operation[Connection], object]] = deque()
        self._firing = self._calling_back = self._gathering = False
        self._idle: list[Deferred[None]] = []
        self._due = math.inf
        self._next_start: IDelayedCall | None = None
        self._next_look: IDelayedCall | None = None

    @property
    def silent_for(self) -> float:
        """The seconds that the thread has been busy with one group; 0 if it is idle."""
        return 0.0 if self._busy_since is None else self._clock.seconds() - self._busy_since

    def submit(
        self,
        run: Callable[[Connection], Result],
        *,
        writes: bool,
        patience: float | None = None,
        delay: float = 0.0,
    ) -> Deferred[Result]:
        """Run an operation in the next group; fires once that is committed.

        Args:
            run: A function of the connection.
            writes: Whether it runs in the transaction.
            patience: The seconds to wait: for a write until it has begun, for a read until its
                result; None: no limit. With patience, it can be cancelled until it has begun.
            delay: Seconds that the group may wait for others, if it waits for this one alone. A
                group costs as much as tens of operations, and most of that is to wake a thread.

        Returns:
            Fails with JournalUnavailable, without a change, when the patience ends, and at once
            while the thread is stalled or too many wait.
        """
        if patience is None:
            operation = Operation(run, writes)
        elif self.silent_for >= min(patience, STALLED):
            return fail(self.silence())
        elif len(self._waiting) >= MOST_WAITING:
            return fail(JournalUnavailable("too many wait for it", retry_after=RETRY_AFTER))
        else:
            until = self._clock.seconds() + patience
            operation = Operation(run, writes, until, Withdrawable(self._withdraw))
        self._waiting[operation.waiter] = operation
        self._due = min(self._due, self._clock.seconds() + delay)
        self._start_waiting()
        return operation.waiter

    def silence(self) -> Stalled:
        """The error for a thread that does not answer."""
        reason = f"it has not answered for {self.silent_for:.0f} s"
        return Stalled(reason, retry_after=RETRY_AFTER)

    def when_idle(self) -> Deferred[None]:
        """Fires once no operation runs or waits, and all callbacks have run."""
        if self._is_idle:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._due = -math.inf
        self._start_waiting()
        return idle

    def stop(self) -> None:
        """Call nothing more later: all that was submitted is done."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        self._unschedule()

    def _withdraw(self, waiter: Deferred[Any]) -> None:
        if waiter in self._waiting:
            del self._waiting[waiter]
            waiter.errback(CancelledError())

    def _start_waiting(self) -> None:
        """Start the next group, unless one is under way, or more may come for it."""
        may_grow = self._calling_back or self._gathering
        if self._waiting and self._busy_since is None and not may_grow:
            left = self._due - self._clock.seconds()
            if left <= 0:
                self._start()
            elif self._next_start is None or self._next_start.getTime() > self._due:
                self._schedule(left)
        if self._is_idle:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    def _schedule(self, seconds: float) -> None:
        self._unschedule()  # `reset` would search all that the reactor is to call
        self._next_start = self._clock.callLater(seconds, self._hurry)

    def _unschedule(self) -> None:
        if self._next_start is not None:
            self._next_start.cancel()
            self._next_start = None

    def _hurry(self) -> None:
        """Let what waits wait no longer for others."""
        self._next_start = None
        self._due = -math.inf
        self._start_waiting()

    def _gather(self, turns: int) -> None:
        """Let more operations come for some turns of the reactor, then start the next group."""
        self._gathering = turns > 0
        if turns:
            self._clock.callLater(0, self._gather, turns - 1)
        else:
            self._start_waiting()

    def _start(self) -> None:
        self._busy_since = self._clock.seconds()
        group = list(islice(self._waiting.values(), MOST_TOGETHER))
        for operation in group:
            del self._waiting[operation.waiter]
        self._due = -math.inf if self._waiting else math.inf
        self._unschedule()
        self._under_way = group
        done = self._in_thread(lambda: self._transact(group))
        done.addBoth(self._finish, group)
        if self._busy_since is not None and self._next_look is None:
            self._next_look = self._clock.callLater(LOOK, self._look)

    def _finish(self, result: object, group: Sequence[Operation[Connection]]) -> None:
        self._busy_since = None
        self._under_way = ()
        if self._waiting:
            self._gather(TURNS)
        self._tell(group, result)  # first: the thread would contend with it for the GIL
        self._start_waiting()

    @property
    def _is_idle(self) -> bool:
        is_working = self._busy_since is not None or self._gathering
        return not (is_working or self._waiting or self._done or self._firing)

    def _tell(self, operations: Iterable[Operation[Connection]], result: object) -> None:
        self._done.extend((operation, result) for operation in operations)
        if not self._firing:
            self._fire_waiters()

    def _fire_waiters(self) -> None:
        """Fire the waiters in order, for up to `CALLBACK_TIME` seconds of this turn."""
        self._firing = self._calling_back = True
        over = self._clock.seconds() + CALLBACK_TIME
        while self._done:
            operation, result = self._done.popleft()
            if not operation.waiter.called:  # else it has given up
                _fire(operation, result)
            if self._done and self._clock.seconds() >= over:
                self._clock.callLater(0, self._fire_waiters)
                break
        else:
            self._firing = False
        self._calling_back = False
        self._start_waiting()

    def _look(self) -> None:
        """Fail the waiters that have waited too long; of a group under way, only its reads."""
        self._next_look = None
        if self._busy_since is None:
            return
        self._next_look = self._clock.callLater(LOOK, self._look)
        now = self._clock.seconds()
        reads = (each for each in self._under_way if not (each.writes or each.waiter.called))
        late = [
            operation
            for operation in (*reads, *self._waiting.values())
            if operation.until is not None and operation.until <= now
        ]
        for operation in late:
            self._waiting.pop(operation.waiter, None)
        self._tell(late, Failure(self.silence()))


def _fire(operation: Operation[Any], result: object) -> None:
    """Fire a waiter with the result, its error, or the failure of the whole group."""
    if isinstance(result, Failure):
        operation.waiter.errback(result)
    elif operation.error is not None:
        operation.waiter.errback(operation.error)
    else:
        operation.waiter.callback(operation.result)
