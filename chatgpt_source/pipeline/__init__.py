"""The workers that ask the model and deliver events: started together, drained in order."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from random import random as system_random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Admitted, Journal, PeerState, Recovered
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.asking import Asking
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.calls import miss
from chatgpt_source.pipeline.delivering import Delivering
from chatgpt_source.pipeline.expiring import Expiring
from chatgpt_source.pipeline.polling import Polling
from chatgpt_source.pipeline.recording import Recording
from chatgpt_source.pipeline.tidying import Tidying
from chatgpt_source.pipeline.worker import Worker
from chatgpt_source.prompt import DEAD_LETTER, MODEL, TARGET, Delivery, receiver_at
from chatgpt_source.providers import Provider
from chatgpt_source.telemetry.observer import NO_OBSERVER, Observer
from chatgpt_source.telemetry.spans import NO_SPANS, Spans
from chatgpt_source.waiting import completes

log = get_logger(__name__)

NOTHING_RECOVERED = Recovered({}, ())


def peers_of(config: Config) -> Mapping[str, str]:
    """The settings that decide how each peer answers, as one text a peer.

    If they change, the next start forgets the peer's stored state, and calls it at once.
    """
    mode = config.content_mode
    return {
        MODEL: _as_text(
            config.base_url,
            config.api,
            config.background,
            config.token,
            config.api_version,
            config.organization,
            config.project,
            config.headers,
            config.model,
            config.system_prompt,
            config.max_tokens,
            config.temperature,
            config.top_p,
            config.reasoning_effort,
            config.response_format,
            config.body,
        ),
        TARGET.destination: _as_text(
            config.target, mode, config.target_headers, config.signing_secret
        ),
        **{
            name: _as_text(each.url, each.content_mode, each.headers, each.signing_secret)
            for name, each in config.targets.items()
        },
        DEAD_LETTER.destination: _as_text(config.dead_letter, mode),
    }


def _as_text(*settings: object) -> str:
    return "\n".join(repr(_revealed(each)) for each in settings)


def _revealed(setting: object) -> object:
    """A setting with the texts of its secrets, whose own `repr` hides them."""
    match setting:
        case Secret():
            return setting.read()
        case Mapping():
            return {name: _revealed(each) for name, each in setting.items()}
        case tuple():
            return tuple(map(_revealed, setting))
    return setting


class Pipeline:
    """Asks and delivers each prompt, or fails it with a reason.

    Args:
        clock: The time.
        journal: Where the prompts are.
        config: How long and how often to try.
        provider: Makes the calls to the model.
        deliver: For each destination, makes one call to it; raises CallError.
        random: Numbers from 0 to 1, for the backoff's jitter.
        observer: Receives the outcome of each call.
        spans: Traces the calls.

    Attributes:
        model: The model's breaker.
        receivers: The breakers of the destinations.
        polls: What is known of polls of submitted prompts.
        missing: The targets for which events wait and that are not set, each with words for people.
        draining: Whether a stop has begun.
    """

    def __init__(
        self,
        clock: IReactorTime,
        journal: Journal,
        config: Config,
        provider: Provider,
        deliver: Mapping[str, Callable[[Delivery], Awaitable[None]]],
        random: Callable[[], float] = system_random,
        observer: Observer = NO_OBSERVER,
        spans: Spans = NO_SPANS,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._drain_timeout = config.drain_timeout
        self.draining = False
        self.missing: dict[str, str] = {}

        def breaker(peer: str, name: str, limit: int) -> Breaker:
            return Breaker(name, limit, random, partial(self._remember, peer))

        # A crash loses the ids of what is on its way to the provider, and pays for it twice.
        asks = 1 if config.background else config.concurrency
        self.model = breaker(MODEL, "the model", asks)
        self.receivers = {
            name: breaker(name, receiver_at(name).name, config.concurrency) for name in deliver
        }
        self._tidying = Tidying(clock, provider, config.forget_responses)
        common = clock, journal, config, random, observer, spans, self._tidying

        def delivering(name: str, letters: Worker[Delivery] | None = None) -> Delivering:
            return Delivering(
                *common, receiver_at(name), deliver[name], self.receivers[name], letters
            )

        letters = DEAD_LETTER.destination
        self._dead_letters = delivering(letters) if letters in deliver else None
        dead_letters = None if self._dead_letters is None else self._dead_letters.worker
        self._deliveries = [delivering(name, dead_letters) for name in deliver if name != letters]
        workers = {each.receiver.destination: each.worker for each in self._deliveries}
        recording = Recording(
            clock, journal, config, observer, workers, dead_letters, self._tidying, self.missing
        )
        self._expiring = Expiring(clock, journal, random, recording)
        self._polling = Polling(clock, journal, config, random, provider, recording, self._tidying)
        self.polls = self._polling.breaker
        self._asks = Asking(
            clock,
            journal,
            random,
            spans,
            provider,
            self.model,
            recording,
            self._expiring,
            self._polling.worker,
        )

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The breaker of each peer, by the peer's label."""
        labelled = {receiver_at(name).label: each for name, each in self.receivers.items()}
        return {MODEL: self.model, **labelled}

    def _remember(self, peer: str, state: PeerState) -> None:
        def failed(failure: Failure) -> None:
            if not failure.check(JournalUnavailable):  # without it, the next start calls the peer
                log_unexpected(log, "remembering a peer", failure)

        self._journal.remember(peer, state).addErrback(failed)

    def start(self, recovered: Recovered = NOTHING_RECOVERED) -> None:
        """Start the workers.

        Args:
            recovered: What the journal has of earlier processes. Calls to a peer that failed begin
                one at a time. Calls to a peer that was held or throttled wait as long as they
                would have without the restart.
        """
        for peer, breaker in {MODEL: self.model, **self.receivers}.items():
            if peer in recovered.failing:
                breaker.resume_gradually()
            if peer in recovered.peers:
                breaker.restore(recovered.peers[peer], self._clock.seconds())
        for name in sorted({*recovered.destinations} - {*self.receivers, DEAD_LETTER.destination}):
            miss(self.missing, name)
        for each in self._all:
            each.worker.start()

    @property
    def _all(self) -> Sequence[Asking | Polling | Expiring | Delivering]:
        letters = [] if self._dead_letters is None else [self._dead_letters]
        return [self._asks, self._polling, self._expiring, *self._deliveries, *letters]

    def reserve(self) -> Call | None:
        """Take a slot for a prompt that is to be accepted; None if there is no room."""
        return self._asks.worker.reserve()

    def accepted(self, slot: Call | None, admitted: Admitted | None) -> None:
        """Ask a prompt in its slot, or look for an accepted prompt now; None: it was refused."""
        if admitted is not None and not admitted.repeated:
            self._asks.worker.fill(slot, admitted.ask)
        elif slot is not None:
            self._asks.worker.release(slot)

    def cancelled(self, submitted: str) -> None:
        """Let the provider stop its work on a prompt that was cancelled; best effort."""
        self._tidying.cancel(submitted)

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
        for each in self._deliveries:
            each.untried_since = self._clock.seconds()
            each.breaker.paced = False
        for worker in (self._asks.worker, self._polling.worker, self._expiring.worker):
            worker.stop()
        if self._dead_letters is not None:
            self._dead_letters.worker.stop()
        done = Deferred.fromCoroutine(self._drained())
        if not await completes(done, self._drain_timeout, self._clock):
            log.warn("stopping with calls under way: the next start takes them up")
        self.end()

    async def _drained(self) -> None:
        await self._asks.worker.idle()
        await self._polling.worker.idle()
        for each in self._deliveries:
            each.worker.finish()
        for other in self._all:
            await other.worker.idle()
        await self._tidying.idle()

    def end(self) -> None:
        """Cancel the calls under way; the next start repeats them."""
        for each in self._all:
            each.worker.stop()
            each.worker.cancel()
        self._tidying.end()
