"""What the journal's counts were when it last answered, for all who look at the daemon.

A disk that hangs must not keep from them that it does: a look ends when the journal's own patience
does, and shows what was known last, with its age. However many look, one reads.
"""

import attrs
from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.clock import wall
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Journal, Tally
from chatgpt_source.quota import Calendar


@frozen
class Counted:
    """What is known of the journal.

    Attributes:
        tally: Its counts; None if it has never answered.
        oldest: When the oldest of the prompts that waited was accepted, if one did.
        at: When that was so, by the steady clock.
        trouble: Why it can't be read now, in words; None if it was.
    """

    tally: Tally | None = None
    oldest: float | None = None
    at: float | None = None
    trouble: str | None = None


@attrs.define
class Counts:
    """Reads the journal's counts.

    Args:
        clock: The time.
        calendar: Whose day is counted.
        journal: What is read.
    """

    _clock: IReactorTime
    _calendar: Calendar
    _journal: Journal
    _known: Counted = field(init=False, factory=Counted)
    _reading: bool = field(init=False, default=False)
    _waiting: list[Deferred[Counted]] = field(init=False, factory=list)

    def read(self) -> Deferred[Counted]:
        """The counts of this moment, or the last ones and why there are none.

        Those who ask while a read is under way share the next one: theirs is to show what was
        written before they asked.
        """
        waiter: Deferred[Counted] = Deferred()
        self._waiting.append(waiter)
        if not self._reading:
            self._start()
        return waiter

    def _start(self) -> None:
        self._reading = True
        waiting, self._waiting = self._waiting, []
        Deferred.fromCoroutine(self._read()).addBoth(self._end, waiting)

    def _end(self, result: Counted | Failure, waiting: list[Deferred[Counted]]) -> None:
        self._reading = False
        if self._waiting:
            self._start()
        for waiter in waiting:
            waiter.callback(result)

    async def _read(self) -> Counted:
        now = self._clock.seconds()
        tallying = self._journal.tally(self._calendar.day(wall(self._clock)).date)
        aging = self._journal.oldest().addErrback(_trouble)  # both at once: they share a commit
        try:
            tally, oldest = await tallying, await aging
        except JournalUnavailable as error:
            return attrs.evolve(self._known, trouble=error.reason)
        if isinstance(oldest, JournalUnavailable):
            return attrs.evolve(self._known, trouble=oldest.reason)
        self._known = Counted(tally, oldest, now)
        return self._known


def _trouble(failure: Failure) -> JournalUnavailable:
    failure.trap(JournalUnavailable)
    return JournalUnavailable(failure.value.reason, retry_after=failure.value.retry_after)  # type: ignore[union-attr]
