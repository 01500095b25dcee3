"""Counts what happens, by the minute and by the hour, and writes it to the journal.

What is counted is in memory at once and in the journal within `WRITE_EVERY` seconds, or once that
can be written again: an event only adds to the current minute, and no prompt waits for any of this.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from math import floor

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chatgpt_source.admin.costs import Costs, Tokens, is_cheap
from chatgpt_source.clock import wall
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Journal
from chatgpt_source.journal.counts import Counts
from chatgpt_source.journal.period import HOUR, KEPT, MINUTE, Period
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import AskEnded, DeliveryEnded, Observer, RefusalReason

log = get_logger(__name__)

WRITE_EVERY = 4.0
"""Seconds between two looks whether there is something to write: what a crash may lose."""
MOST_UNWRITTEN = sum(int(seconds // step) for step, seconds in KEPT.items())
"""Periods that wait for the journal at the most; further ones take the place of the oldest."""
MOST_AT_ONCE = 100
"""Periods that are over and are written at once, so that it takes few milliseconds."""


def _ignore(_: Period) -> None:
    """Do nothing with a period that is in the journal."""


class History(Observer):
    """Counts what happens.

    Args:
        clock: The time.
        journal: Keeps the periods.
        counts: The journal's counts, for the samples.
        costs: The prices.

    Attributes:
        written: Told of each period that is over, and as it is in the journal.
    """

    def __init__(self, clock: IReactorTime, journal: Journal, counts: Counts, costs: Costs) -> None:
        self._clock = clock
        self._journal = journal
        self._counts = counts
        self._costs = costs
        self.written: Callable[[Period], None] = _ignore
        self._over: dict[int, Period] = {}
        self._minute, self._hour = self._begin(MINUTE), self._begin(HOUR)
        self._changed = True
        self._writing = DeferredLock()
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock

    # The observer's methods.

    def accepted(self, **_: object) -> None:
        """A prompt was accepted."""
        self._now().accepted += 1

    def repeated(self) -> None:
        """A request came again."""
        self._now().repeated += 1

    def refused(self, *, reason: RefusalReason) -> None:
        """A prompt was refused."""
        self._now().refused[reason.value] += 1

    def asked(self, ended: AskEnded) -> None:
        """A call to the model has ended."""
        if ended.answer is not None:
            self._answered(ended)
        self._ended(ended)

    def sent(self, ended: DeliveryEnded) -> None:
        """A call to a receiver of events has ended."""
        self._ended(ended)

    def cancelled(self, **_: object) -> None:
        """A prompt was cancelled."""
        self._now().cancelled += 1

    def redriven(self, **_: object) -> None:
        """A failed prompt was taken up again."""
        self._now().redriven += 1

    def _ended(self, ended: AskEnded | DeliveryEnded) -> None:
        if ended.state is State.DELIVERED:
            minute = self._now()
            minute.delivered += 1
            minute.latencies.add(ended.date - ended.accepted)
        elif ended.state is State.FAILED:
            self._now().failed += 1

    def _answered(self, ended: AskEnded) -> None:
        answer, minute = ended.answer, self._now()
        assert answer is not None  # noqa: S101 - the caller looked
        tokens = Tokens.of(answer)
        minute.cheap += is_cheap(ended, answer)
        minute.input_tokens += tokens.input
        minute.output_tokens += tokens.output
        if self._costs.are_known:
            cost = self._costs.cost(ended, answer, tokens)
            minute.cost += cost or 0.0
            minute.unpriced += cost is None

    # The periods.

    def _begin(self, step: int) -> Period:
        return Period(step, floor(wall(self._clock) / step) * step)

    def _now(self) -> Period:
        """The current minute, which is about to change."""
        self._changed = True
        minute = self._minute
        if not minute.start <= wall(self._clock) < minute.start + MINUTE:
            self._turn()
        return self._minute

    def _turn(self) -> None:
        """Begin a new minute; and a new hour, if it is of another one."""
        self._hour.add(self._minute)
        self._end(self._minute)
        self._minute = self._begin(MINUTE)
        if self._minute.start // HOUR * HOUR != self._hour.start:
            self._end(self._hour)
            self._hour = self._begin(HOUR)

    def _end(self, period: Period) -> None:
        self._over[period.owner] = period
        if len(self._over) > MOST_UNWRITTEN:
            del self._over[next(iter(self._over))]

    def open(self, step: int) -> Sequence[Period]:
        """The periods of a step of which the journal does not have the last state."""
        over = [each for each in self._over.values() if each.step == step]
        return [*over, self._minute if step == MINUTE else self._current_hour()]

    def _current_hour(self) -> Period:
        hour = Period(HOUR, self._hour.start, self._hour.owner)
        hour.add(self._hour)
        hour.add(self._minute)
        return hour

    # The journal.

    def start(self) -> None:
        """Write what has changed, from now on."""
        self._loop.start(WRITE_EVERY)

    def stop(self) -> None:
        """Write no more."""
        if self._loop.running:
            self._loop.stop()

    def _tick(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.write()).addErrback(
            lambda failure: log_unexpected(log, "keeping the history", failure)
        )

    async def write(self) -> None:
        """Write what has changed; if the journal can't be written, the next call does."""
        await self._writing.acquire()
        try:
            await self._write()
        except JournalUnavailable:
            self._changed = True  # the journal has told the log
        finally:
            self._writing.release()

    async def _write(self) -> None:
        if not self._minute.start <= wall(self._clock) < self._minute.start + MINUTE:
            self._now()  # an idle minute is known too
        if not self._changed:
            return
        await self.sample()
        self._changed = False
        over = list(islice(self._over.values(), MOST_AT_ONCE))
        await self._journal.keep_history([*over, self._minute, self._current_hour()])
        for period in over:
            if self._over.pop(period.owner, None) is not None:
                self.written(period)
        self._changed |= bool(self._over)

    async def sample(self) -> None:
        """Note how many prompts wait now, and how much of the day is used."""
        counted = await self._counts.read()
        if counted.tally is None or counted.trouble is not None:
            return
        seen = counted.tally.backlog, counted.tally.used
        if seen != (self._minute.backlog, self._minute.used):
            minute = self._now()
            minute.backlog, minute.used = seen
            minute.sampled = round(wall(self._clock), 3)
