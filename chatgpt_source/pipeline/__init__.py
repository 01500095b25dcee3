"""The workers that ask the model and deliver events: started together, drained in order."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from random import random as system_random
from types import MappingProxyType

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chatgpt_source.config import Config
from chatgpt_source.errors import NotTried
from chatgpt_source.journal import Admitted, Journal, PeerState, Queue, Recovered
from chatgpt_source.journal.pause import ASKING
from chatgpt_source.journal.unforeseen import log_unforeseen
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline.asking import Asking
from chatgpt_source.pipeline.batching import Batching
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import miss
from chatgpt_source.pipeline.delivering import Delivering
from chatgpt_source.pipeline.expiring import Expiring
from chatgpt_source.pipeline.lease import Lease
from chatgpt_source.pipeline.pauses import Pauses, in_words
from chatgpt_source.pipeline.peers import BATCHES, FLEX, fallback_peer
from chatgpt_source.pipeline.polling import Polling
from chatgpt_source.pipeline.recording import Recording
from chatgpt_source.pipeline.route import Route, Stop
from chatgpt_source.pipeline.shared_peers import SharedPeers
from chatgpt_source.pipeline.tidying import Tidying
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import (
    DEAD_LETTER,
    MODEL,
    Ask,
    Delivery,
    Leftover,
    Tier,
    receiver_at,
)
from chatgpt_source.providers import Provider
from chatgpt_source.providers.openai_batch import OpenAIBatch
from chatgpt_source.telemetry.observer import NO_OBSERVER, Observer
from chatgpt_source.telemetry.spans import NO_SPANS, Spans
from chatgpt_source.waiting import completes

log = get_logger(__name__)

TELL_INTERVAL = 5.0
"""Seconds from one log line to the next that says how far a stop has come."""
NOTHING_RECOVERED = Recovered({}, ())
NO_FALLBACKS: Mapping[str, Provider] = MappingProxyType({})


def _asks(config: Config) -> int:
    """How many calls to a provider may be under way at once."""
    # A crash loses the ids of what is on its way to the provider, and pays for it twice.
    return 1 if config.background else config.concurrency


class Pipeline:
    """Asks and delivers each prompt, or fails it with a reason.

    Args:
        clock: The time.
        journal: Where the prompts are.
        config: How long and how often to try.
        provider: Makes the calls to the model.
        deliver: For each destination, makes one call to it, and returns the HTTP status; raises
            CallError.
        random: Numbers from 0 to 1, for the backoff's jitter.
        observer: Receives the outcome of each call.
        spans: Traces the calls.
        batches: Makes the calls for batches; None: there are none.
        fallbacks: The providers that are asked when those before them fail, by their names.

    Attributes:
        model: The breaker of the model at the first provider.
        route: The providers that may be asked.
        receivers: The breakers of the destinations.
        polls: What is known of polls of submitted prompts.
        tidying: Stops and deletes at the providers what nobody needs.
        missing: The targets for which events wait and that are not set, each with words for people.
        missing_fallbacks: The fallbacks that have prompts and are not set, likewise.
        pauses: What operators have paused.
        draining: Whether a stop has begun.
        offers_batches: Whether prompts go into batches by the settings.
    """

    def __init__(
        self,
        clock: IReactorTime,
        journal: Journal,
        config: Config,
        provider: Provider,
        deliver: Mapping[str, Callable[[Delivery], Awaitable[int]]],
        random: Callable[[], float] = system_random,
        observer: Observer = NO_OBSERVER,
        spans: Spans = NO_SPANS,
        *,
        batches: OpenAIBatch | None = None,
        fallbacks: Mapping[str, Provider] = NO_FALLBACKS,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._random = random
        self._drain_timeout = config.drain_timeout
        self.offers_batches = config.batch_over is not None
        self.draining = False
        self.missing: dict[str, str] = {}
        self._shared = SharedPeers(clock, journal, {})
        labels = [receiver_at(name).label for name in deliver]
        self.pauses = Pauses(clock, journal, labels, self._look_for_work)

        stops = self._stops(config, provider, fallbacks)
        self.model, self.route = stops[0].breaker, Route(stops)
        providers = {stop.name: stop.provider for stop in stops}
        self.receivers = {
            name: self._breaker(name, receiver_at(name).name, config.concurrency)
            for name in deliver
        }
        self.tidying = Tidying(clock, journal, random, providers, config.forget_responses)
        self._lease = Lease(clock, journal, self._lease_ended, self._look_for_work)
        common = clock, journal, config, random, observer, spans, self.tidying, self._lease

        def delivering(name: str, letters: Worker[Delivery] | None = None) -> Delivering:
            return Delivering(
                *common,
                receiver_at(name),
                deliver[name],
                self.receivers[name],
                self.pauses,
                letters,
            )

        letters = DEAD_LETTER.destination
        self._dead_letters = delivering(letters) if letters in deliver else None
        dead_letters = None if self._dead_letters is None else self._dead_letters.worker
        self._deliveries = [delivering(name, dead_letters) for name in deliver if name != letters]
        workers = {each.receiver.destination: each.worker for each in self._deliveries}
        recording = Recording(
            clock,
            journal,
            config,
            observer,
            workers,
            dead_letters,
            self.tidying,
            self.missing,
            self.pauses,
        )
        self._expiring = Expiring(clock, journal, random, recording)
        self._polling = Polling(clock, journal, config, random, providers, recording, self.tidying)
        self.polls = self._polling.breaker
        self.missing_fallbacks = self._polling.missing
        self._batching: list[Batching] = []
        self._of_batches: dict[str, Breaker] = {}
        if batches is not None:
            own = self._breaker(BATCHES, "the model's batch tier", config.concurrency)
            work = clock, journal, config, random, batches, recording, own, self._lease
            self._batching = [Batching(*work, partial(self.pauses.is_paused, ASKING))]
            self._of_batches = {BATCHES: own}

        def asking(route: Route, standard: Breaker | None = None) -> Asking:
            polls = self._polling.worker
            work = clock, journal, config, random, spans, route, recording, self._expiring, polls
            return Asking(*work, self._lease, self.pauses, standard)

        self._asks = asking(self.route)
        self._flex = []
        if config.flex_over is not None:
            own = self._breaker(FLEX, "the model's flex tier", _asks(config), has_other=True)
            self._flex = [asking(Route([Stop(None, provider, own, FLEX)]), self.model)]

    def _stops(
        self, config: Config, provider: Provider, fallbacks: Mapping[str, Provider]
    ) -> Sequence[Stop]:
        """The providers that may be asked, each with its breaker; the first is the model's."""
        others = list(config.of_fallbacks.items())[: len(fallbacks)]
        first = self._breaker(MODEL, "the model", _asks(config), has_other=bool(others))
        stops = [Stop(None, provider, first)]
        for number, (name, settings) in enumerate(others, 1):
            peer, limit, has_other = fallback_peer(name), _asks(settings), number < len(others)
            own = self._breaker(peer, f"the fallback `{name}`", limit, has_other=has_other)
            stops.append(Stop(name, fallbacks[name], own, peer))
        return stops

    def _breaker(self, peer: str, name: str, limit: int, *, has_other: bool = False) -> Breaker:
        remember = partial(self._remember, peer)
        return Breaker(name, limit, self._random, remember, has_other, self._journal.is_shared)

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The breaker of each peer, by the peer's label."""
        labelled = {receiver_at(name).label: each for name, each in self.receivers.items()}
        batches = self._of_batches if self.offers_batches else {}
        return {**self._of_asks, **batches, **labelled}

    @property
    def queues(self) -> Mapping[str, Queue]:
        """Where the work of each peer waits, by the peer's label."""
        tiers = {FLEX: Tier.FLEX, BATCHES: Tier.BATCH}
        asks = [*self._of_asks, *self._of_batches]
        return {
            **{peer: tiers.get(peer, Tier.STANDARD) for peer in asks},
            **{receiver_at(name).label: name for name in self.receivers},
        }

    @property
    def batching(self) -> Batching | None:
        """What gathers batches and sees them through; None: there are none."""
        return self._batching[0] if self._batching else None

    @property
    def has_tried_model(self) -> bool:
        """Whether any call to the first provider has ended, on whichever tier."""
        tiers = [self.model, self.polls, *self._of_batches.values()]
        tiers += [stop.breaker for each in self._flex for stop in each.route.stops]
        return any(breaker.tried for breaker in tiers)

    @property
    def _of_asks(self) -> Mapping[str, Breaker]:
        routes = [self.route, *(each.route for each in self._flex)]
        return {stop.peer: stop.breaker for route in routes for stop in route.stops}

    def _remember(self, peer: str, state: PeerState) -> None:
        remembering = self._journal.remember(peer, state)  # without it, the next start calls it
        remembering.addErrback(log_unforeseen, log, "remembering a peer")

    def start(self, recovered: Recovered = NOTHING_RECOVERED) -> None:
        """Start the workers.

        Args:
            recovered: What the journal has of earlier processes. Calls to a peer that failed begin
                one at a time. Calls to a peer that was held or throttled wait as long as they
                would have without the restart.
        """
        peers = {**self._of_asks, **self.receivers, **self._of_batches}
        for peer, breaker in peers.items():
            if peer in recovered.failing:
                breaker.resume_gradually()
            if peer in recovered.peers:
                breaker.restore(recovered.peers[peer], self._clock.seconds())
        for name in sorted({*recovered.destinations} - {*self.receivers, DEAD_LETTER.destination}):
            miss(self.missing, name)
        self._shared = SharedPeers(self._clock, self._journal, peers)
        self.pauses.start(recovered.pauses)  # before anything is claimed
        self._shared.start()
        self._lease.start()
        for worker in self._all:
            worker.start()

    def _lease_ended(self) -> None:
        for each in self._batching:
            each.restart()

    def _look_for_work(self) -> None:
        """Look at once for what is due."""
        for worker in self._all:
            if isinstance(worker, Worker):
                worker.wake()

    @property
    def _answering(self) -> Sequence[Worker[Ask] | Batching]:
        """The workers that bring answers."""
        steps: Sequence[Asking | Polling] = (self._asks, *self._flex, self._polling)
        return [*(each.worker for each in steps), *self._batching]

    @property
    def _all(self) -> Sequence[Worker[Ask] | Worker[Delivery] | Worker[Leftover] | Batching]:
        letters = [] if self._dead_letters is None else [self._dead_letters]
        delivering = (each.worker for each in (*self._deliveries, *letters))
        return [*self._answering, self._expiring.worker, *delivering, self.tidying.worker]

    def reserve(self) -> Call | None:
        """Take a slot for a prompt that is to be accepted; None if there is no room."""
        return self._asks.worker.reserve()

    def accepted(self, slot: Call | None, admitted: Admitted | None) -> None:
        """Ask a prompt in its slot, or look for an accepted prompt now; None: it was refused."""
        if admitted is not None and not admitted.repeated:
            self._asks.worker.fill(slot, admitted.ask)
            if admitted.ask is None:
                self._wake_flex()
        elif slot is not None:
            self._asks.worker.release(slot)

    def _wake_flex(self) -> None:
        for each in self._flex:
            each.worker.wake()

    def cancelled(self) -> None:
        """Look for what a cancelled prompt has left at its provider now."""
        self.tidying.worker.wake()

    async def try_now(self, label: str) -> str:
        """Make one call at once to a peer that is held or throttled; what waits for it is due.

        If it succeeds, the others follow at once. If nothing waits, the next one is tried. Of a
        peer whose calls pass, what was put off after a failed attempt is due at once.

        Args:
            label: One of `queues`.

        Returns:
            Its name for people.

        Raises:
            NotTried: If calls to it are paused, one is under way, or nothing waits for it.
            JournalUnavailable: If the journal can't be used.
        """
        breaker = {**self.breakers, **self._of_batches}[label]
        queue, now = self.queues[label], self._clock.seconds()
        what = label if label in self.pauses.what else ASKING
        if self.pauses.is_paused(what):
            raise NotTried(f"{in_words(what)} is paused: resume it first")
        before = self._before(label, now)
        if not breaker.waits(now):
            if not await self._journal.hasten(queue, now):
                raise NotTried(f"{breaker.peer} is not held: its calls are made as they are due")
            self._look_for_work()
            return breaker.peer
        if breaker.probes:
            raise NotTried(f"a try of {breaker.peer} is under way: wait for its end")
        await self._journal.hasten(queue, now)
        waiting = (await self._journal.waiting(queue, now)).count
        if queue is Tier.BATCH:
            waiting += len(await self._journal.batches())
        breaker.try_now(now)
        if self._journal.is_shared:
            await self._shared.look()
        if before is not None:
            raise NotTried(f"prompts go to {before}: {breaker.peer} is tried once that fails")
        if not waiting:
            raise NotTried(f"nothing waits for {breaker.peer}: send a prompt to try it")
        self._look_for_work()
        return breaker.peer

    def _before(self, label: str, now: float) -> str | None:
        """The provider that takes the prompts before another has its turn; None: there is none."""
        peers = [stop.peer for stop in self.route.stops]
        earlier = self.route.stops[: peers.index(label)] if label in peers else ()
        well = (stop.breaker.peer for stop in earlier if stop.breaker.is_well(now))
        return next(well, None)

    def redriven(self) -> None:
        """Look for a redriven prompt now."""
        self._asks.worker.wake()
        for each in self._deliveries:
            each.worker.wake()

    async def drain(self) -> None:
        """Finish the calls under way, within `drain_timeout`; the rest stays in the journal.

        No prompt is claimed any more. Each answer that still arrives gets one delivery attempt.
        """
        self.draining = True
        try:
            await self._finish_calls()
        finally:
            self.end()

    async def _finish_calls(self) -> None:
        for each in self._deliveries:
            each.untried_since = self._clock.seconds()
            each.breaker.paced = False
        for worker in (*self._answering, self._expiring.worker):
            worker.stop()
        if self._dead_letters is not None:
            self._dead_letters.worker.stop()
        telling = LoopingCall(self._tell_stop, self._clock.seconds() + self._drain_timeout)
        telling.clock = self._clock
        telling.start(TELL_INTERVAL)
        done = Deferred.fromCoroutine(self._drained())
        try:
            in_time = await completes(done, self._drain_timeout, self._clock)
        finally:
            telling.stop()
        if not in_time:
            whose = "another daemon" if self._journal.is_shared else "the next start"
            log.warn("stopping with calls under way: {whose} takes them up", whose=whose)

    def _tell_stop(self, until: float) -> None:
        """Log how many calls a stop waits for, and the seconds that it may still take."""
        breakers = [*self.breakers.values(), self.polls]
        calls = sum(breaker.under_way for breaker in breakers)
        if not calls:
            log.info("stopping: no calls under way")
            return
        log.info(
            "stopping: {calls} call{s} under way, at most {seconds:.0f} s",
            calls=calls,
            s="" if calls == 1 else "s",
            seconds=until - self._clock.seconds(),
        )

    async def _drained(self) -> None:
        for worker in self._answering:
            await worker.idle()
        for each in self._deliveries:
            each.worker.finish()
        for each in self._deliveries:
            await each.worker.idle()
        self.tidying.worker.finish()
        for other in self._all:
            await other.idle()

    def end(self) -> None:
        """Cancel the calls under way; the next start repeats them."""
        self._shared.stop()
        self.pauses.stop()
        self._lease.stop()
        for worker in self._all:
            worker.stop()
            worker.cancel()
