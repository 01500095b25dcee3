"""The lease under which a shared journal's claims are this daemon's own.

Once it ends, another daemon may take the claims over and make their calls. So a call is cancelled
shortly before, and none begins then: fencing keeps a late result out of the journal, but not a
second bill.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import Journal
from chatgpt_source.journal.watch import Watch
from chatgpt_source.log import get_logger

log = get_logger(__name__)

MARGIN = 2.0
"""Seconds before the end of the lease at which calls end."""
LOOK_EVERY = 0.5

Result = TypeVar("Result")


async def _running(call: Awaitable[Result]) -> Result:
    return await call


@define(eq=False, repr=False)
class Lease:
    """Cancels the calls under way when the lease is about to end.

    Args:
        clock: The time.
        journal: Has the lease.
        over: Called when it is about to end, after the calls were cancelled.
        taken_over: Called when leases of others were ended here.
    """

    _clock: IReactorTime
    _journal: Journal
    _over: Callable[[], None] = field(default=lambda: None)
    _taken_over: Callable[[], None] = field(default=lambda: None)
    _calls: set[Deferred[Any]] = field(init=False, factory=set)
    _watch: Watch = field(init=False)
    _is_over: bool = field(init=False, default=False)
    _losses: int = field(init=False, default=0)
    _takeovers: int = field(init=False, default=0)
    _was_over: bool = field(init=False, default=False)
    """Whether a call could not begin since the last look."""

    @_watch.default
    def _make_watch(self) -> Watch:
        return Watch(self._clock, self._journal, LOOK_EVERY, self._look, "watching the lease")

    def start(self) -> None:
        """Begin to watch the lease, if there is one."""
        self._watch.start()

    def stop(self) -> None:
        """Watch it no more; the calls go on."""
        self._watch.stop()

    async def within(self, call: Awaitable[Result]) -> Result:
        """Make a call within the lease.

        Raises:
            CancelledError: If the lease is about to end, or ends before the call.
        """
        if not self._journal.is_shared:
            return await call
        if self._journal.lease_left <= MARGIN:
            if isinstance(call, Coroutine):
                call.close()
            # Before the next look a group may renew the lease, and with it a claim without a call.
            self._journal.forsake()
            self._was_over = True
            raise CancelledError
        running = Deferred.fromCoroutine(_running(call))
        self._calls.add(running)
        try:
            return await running
        finally:
            self._calls.discard(running)

    async def _look(self) -> None:
        is_lost = self._was_over or self._journal.losses != self._losses
        self._was_over, self._losses = False, self._journal.losses
        is_over = self._journal.lease_left <= MARGIN
        if is_lost or (is_over and not self._is_over):
            log.warn(
                "the journal could not be written for so long that its lease ends: calls under way"
                " ({number}) are cancelled, as another daemon may make them",
                number=len(self._calls),
            )
            self._journal.forsake()
            for call in list(self._calls):
                call.cancel()
            self._over()
        self._is_over = is_over
        if self._journal.takeovers != self._takeovers:
            self._takeovers = self._journal.takeovers
            self._taken_over()
