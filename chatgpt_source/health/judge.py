"""Reads what is known of the daemon, and judges it by `checks` and `peers`."""

from collections.abc import Iterator

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.health import checks
from chatgpt_source.health.peers import DOWN, Peer, of_peer
from chatgpt_source.health.recent import MOST, Recent
from chatgpt_source.health.refusals import Refusals
from chatgpt_source.health.times import Times
from chatgpt_source.health.trouble import Judgement, Trouble, judged
from chatgpt_source.journal import Journal, Waiting
from chatgpt_source.journal.counts import Counted, Counts
from chatgpt_source.journal.pause import ASKING, INTAKE
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.pipeline.batching import NO_ROOM
from chatgpt_source.pipeline.breaker import NEVER, Breaker
from chatgpt_source.pipeline.decide import POSSIBLY_BILLED_ATTEMPTS
from chatgpt_source.pipeline.pauses import in_words
from chatgpt_source.pipeline.peers import BATCHES, FLEX
from chatgpt_source.prompt import (
    DEAD_LETTER,
    MODEL,
    TARGET,
    State,
    is_asked,
    receiver_at,
    receiver_of,
)
from chatgpt_source.quota import Calendar
from chatgpt_source.waiting import results_of

MODEL_CHECK = "openai"
"""The check of the first provider, and the beginning of those of the others."""
_TIERS = {FLEX: "the flex tier: ", BATCHES: "batches: "}
LOOK_EVERY = 1.0
"""Seconds between two looks for how the prompts of other daemons have ended, at the least."""
_IN_TIME = {
    FLEX: "its prompts move to the standard tier in time for their deadlines",
    BATCHES: "prompts that are not at the provider yet move up a tier in time for their deadlines",
}
"""What is done in the place of a tier that does not work, while the model does."""


@define(eq=False, repr=False)
class Judge:
    """Judges the daemon's health.

    Attributes:
        clock: The time.
        config: The limits.
        calendar: Says which day it is.
        journal: What waits, and how much of the day is used.
        pipeline: What is known of the peers.
        recent: Observes how prompts end.
        refusals: Observes which callers are turned away.
        counted: The journal's counts by which the last judgement was made.
        counts: Reads them.
    """

    clock: IReactorTime
    config: Config
    calendar: Calendar
    journal: Journal
    pipeline: Pipeline
    recent: Recent
    refusals: Refusals
    counted: Counted = field(init=False, factory=Counted)
    counts: Counts = field(init=False)
    _seen: dict[str, float] = field(init=False, factory=dict)
    """When troubles were first seen that do not know since when they are there."""
    _looked: float = field(init=False, default=NEVER)

    @counts.default
    def _make_counts(self) -> Counts:
        return Counts(self.clock, self.calendar, self.journal)

    async def judge(self) -> Judgement:
        """How well the daemon is now."""
        counting = self.counts.read()  # what can be read at once takes no turns
        await self._look_at_others()
        await self._forget_mended()
        self.counted = await counting
        times = Times.of(self.clock, self.config.timezone)
        troubles = [*self._of_daemon(times), *self._of_missing()]
        troubles += [of_peer(each, times) for each in await self._peers(times)]
        return judged(self._dated(troubles, times), self._untried())

    async def _look_at_others(self) -> None:
        """Learn how the prompts have ended that other daemons took, where there are others."""
        now = self.clock.seconds()
        if not self.journal.is_shared or now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            self.recent.seed(await self.journal.ends(0.0, MOST), self.journal.date)
        except JournalUnavailable:
            return

    async def _forget_mended(self) -> None:
        """Forget the failures that were redriven or purged by another process."""
        if self.recent.failures() is None:
            return
        known = self.recent.failed
        try:
            still = await self.journal.still_failed(known)
        except JournalUnavailable:
            return
        self.recent.forget({*known} - {*still})

    def _of_daemon(self, times: Times) -> Iterator[Trouble]:
        """What is not well with the daemon itself, and with the prompts."""
        config, counted = self.config, self.counted
        tally = counted.tally
        failed = tally.prompts[State.FAILED] if tally else 0
        midnight = self.calendar.day(wall(self.clock)).end
        found = [
            checks.of_journal(self.journal.fault, counted.trouble),
            checks.of_failures(self.recent.failures(), failed, times),
            checks.of_refusals(self.refusals.turned_away(), times),
        ]
        if tally is not None:
            found.append(checks.of_quota(tally.used, config.everyday_limit, midnight, times))
        yield from (each for each in found if each is not None)
        paused, known = self.pipeline.pauses.current, self.pipeline.pauses.what
        for pause in paused:
            words, is_set = in_words(pause.what), pause.what in known
            yield checks.of_pause(pause.what, words, pause.who, pause.since, is_set=is_set)
        # What is due for long may wait for the end of a pause.
        ages = all(each.what in {INTAKE, DEAD_LETTER.label} for each in paused)
        yield from checks.of_backlog(
            tally.backlog if tally else 0,
            config.max_backlog,
            times.date(tally.due) if tally and ages else None,
            times,
            draining=self.pipeline.draining,
        )

    def _of_missing(self) -> Iterator[Trouble]:
        for name, told in self.pipeline.missing_fallbacks.items():
            yield checks.of_missing(f"{MODEL_CHECK}.{name}", told)
        for name, told in self.pipeline.missing.items():
            yield checks.of_missing(receiver_at(name).label, told)

    async def _peers(self, times: Times) -> list[Peer]:
        """The peers that do not work, and how the look-ups of submitted prompts fare."""
        batching = self.pipeline.batching
        now = self.clock.seconds()
        of_batches = {} if batching is None else {BATCHES: batching.breaker}
        breakers = {
            label: breaker
            for label, breaker in {**self.pipeline.breakers, **of_batches}.items()
            if breaker.trouble is not None or breaker.unsteady(now) is not None
        }
        reading = (self._waiting(label) for label in breakers)
        waiting = await results_of(map(Deferred.fromCoroutine, reading))
        unwell = [
            self._peer(label, breaker, what, times)
            for (label, breaker), what in zip(breakers.items(), waiting, strict=True)
        ]
        polls = self.pipeline.polls
        if polls.trouble is not None:
            since = times.date(polls.since)
            told = "their answers wait at the provider"
            unwell.append(Peer(MODEL, MODEL_CHECK, polls.trouble, since=since, stand_in=told))
        if batching is not None and batching.trouble == NO_ROOM:
            unwell.append(self._without_room(times.date(batching.opens_at)))
        return unwell

    def _without_room(self, opens_at: float | None) -> Peer:
        """Batches for which the provider has no room; the next one tries it again."""
        return Peer(
            BATCHES,
            f"{MODEL_CHECK}.batch",
            NO_ROOM,
            opens_at=opens_at,
            stand_in=_IN_TIME[BATCHES],
            is_triable=False,
        )

    def _peer(self, label: str, breaker: Breaker, waiting: Waiting | None, times: Times) -> Peer:
        now = self.clock.seconds()
        unsteady = breaker.unsteady(now)
        what = ASKING if is_asked(label) else label
        since = now if unsteady or breaker.since is None else breaker.since
        until = max(breaker.failed_at, min(now, breaker.opens_at))  # then perhaps nothing was tried
        peer = Peer(
            label,
            label,
            unsteady or breaker.trouble or "",
            held=breaker.held,
            since=times.date(breaker.unsteady_since if unsteady else breaker.since),
            opens_at=None if breaker.opens_at == NEVER else times.date(breaker.opens_at),
            waiting=waiting,
            give_up_after=self.config.give_up_after,
            under_way=breaker.under_way,
            attempts=POSSIBLY_BILLED_ATTEMPTS if breaker.maybe_billed else 0,
            is_down=self.pipeline.pauses.waited(what, since, until) >= DOWN,
            paused=what if self.pipeline.pauses.is_paused(what) else None,
        )
        if is_asked(label):
            return self._provider(peer)
        receiver = receiver_of(label)
        if receiver == DEAD_LETTER:
            return evolve(peer, names="dead letter", ails=receiver.name)
        attempts = self.config.send_event_attempts
        return evolve(peer, names="event", ails=receiver.name, attempts=attempts)

    def _provider(self, peer: Peer) -> Peer:
        """A provider, or a tier of the first one, with who is asked in its place."""
        now, route = self.clock.seconds(), self.pipeline.route
        stop = next((each for each in route.stops if each.peer == peer.label), None)
        check = MODEL_CHECK + peer.label.removeprefix(MODEL)
        stand_in: str | None = None
        if stop is None:  # a tier
            if self.pipeline.model.works(now):
                stand_in = _IN_TIME[peer.label]
            return evolve(peer, check=check, stand_in=stand_in, who=_TIERS[peer.label])
        other = route.stand_in(now)
        if stop.name is None and other is not None:
            stand_in = f"the fallback `{other}` is asked in its place"
        elif stop.name is not None and self.pipeline.model.works(now):
            stand_in = "prompts go to the model"
        elif stop.name is not None and other not in {None, stop.name}:
            stand_in = f"prompts go to the fallback `{other}`"
        who = "" if stop.name is None else f"the fallback `{stop.name}`: "
        # A prompt is asked, and at last given up, as long as anybody on its way is not held.
        tried = [each.breaker for each in route.stops if not each.breaker.held]
        few = any(each.trouble and each.maybe_billed for each in tried)
        return evolve(
            peer,
            check=check,
            stand_in=stand_in,
            who=who,
            gives_up=bool(tried),
            is_passed_over=any(each.opens_at <= now for each in tried if each is not stop.breaker),
            attempts=POSSIBLY_BILLED_ATTEMPTS if few else 0,
        )

    async def _waiting(self, label: str) -> Waiting | None:
        """What waits for a peer; None if that can't be read."""
        try:
            waiting = await self.journal.waiting(self.pipeline.queues[label], self.clock.seconds())
            return await self._with_batches(waiting) if label == BATCHES else waiting
        except JournalUnavailable:
            return None

    async def _with_batches(self, waiting: Waiting) -> Waiting:
        """What waits for batches, and the prompts that are in one: those wait for its calls."""
        batches = (await self.journal.tally_tiers()).batches
        ends = [waiting.ends, *(batch.deadline for batch, _ in batches)]
        return evolve(
            waiting,
            count=waiting.count + sum(prompts for _, prompts in batches),
            ends=min((each for each in ends if each is not None), default=None),
        )

    def _dated(self, troubles: list[Trouble], times: Times) -> list[Trouble]:
        """The troubles, each with a date: of those that have none, when they were first seen."""
        now = self.clock.seconds()
        seen = {each.check: self._seen.get(each.check, now) for each in troubles if not each.since}
        self._seen = seen
        return [evolve(each, since=each.since or times.date(seen[each.check])) for each in troubles]

    def _untried(self) -> str | None:
        """What was not tried yet, in words; None if all was tried."""
        pipeline = self.pipeline
        model = pipeline.has_tried_model
        target = pipeline.receivers[TARGET.destination].tried
        if model and target:
            return None
        if not model and not target:
            return "Nothing tried yet"
        return f"The {'target' if model else 'model'} was not tried yet"
