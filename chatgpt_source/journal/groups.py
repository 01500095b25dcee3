"""The failed prompts by reason, for the page and the API, read no more often than is cheap."""

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.journal import Group, Journal

SHARE = 50
"""How many times longer a reading is kept than it took: a few ms for thousands of failures, a
minute for a million."""
MOST = 100
"""Groups in a reading."""


@define(eq=False)
class Groups:
    """Reads the groups of failed prompts, the largest first.

    Args:
        clock: The time.
        journal: The journal.
    """

    _clock: IReactorTime
    _journal: Journal
    _known: Sequence[Group] = field(init=False, default=())
    _fresh_until: float | None = field(init=False, default=None)
    _is_reading: bool = field(init=False, default=False)
    _is_stale: bool = field(init=False, default=False)
    """Whether the reading under way may miss what has changed."""
    _waiting: list[Deferred[Sequence[Group]]] = field(init=False, factory=list)

    def forget(self) -> None:
        """Read anew: many prompts are failed no longer."""
        self._fresh_until, self._is_stale = None, self._is_reading

    def read(self) -> Deferred[Sequence[Group]]:
        """The groups, the largest first; as they are now, or were shortly before.

        Callers at the same time share a reading. It fails with JournalUnavailable.
        """
        waiter: Deferred[Sequence[Group]] = Deferred()
        now = self._clock.seconds()
        if self._fresh_until is not None and now < self._fresh_until:
            waiter.callback(self._known)
            return waiter
        self._waiting.append(waiter)
        if not self._is_reading:
            self._is_reading = True
            self._journal.groups(MOST).addBoth(self._end, now)
        return waiter

    def _end(self, result: Sequence[Group] | Failure, began: float) -> None:
        now = self._clock.seconds()
        is_stale, self._is_reading, self._is_stale = self._is_stale, False, False
        if not isinstance(result, Failure):
            self._known = result
            self._fresh_until = None if is_stale else now + SHARE * (now - began)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(result)
