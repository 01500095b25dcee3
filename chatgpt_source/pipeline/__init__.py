"""The workers that ask the model and deliver events: started together, drained in order."""

from collections.abc import Awaitable, Callable, Mapping
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
from chatgpt_source.pipeline.asking import Asking, Model
from chatgpt_source.pipeline.breaker import Breaker, Call
from chatgpt_source.pipeline.delivering import Delivering
from chatgpt_source.prompt import DEAD_LETTER, MODEL, TARGET, Delivery, State
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
            config.body,
        ),
        TARGET.setting: _as_text(config.target, mode, config.target_headers, config.signing_secret),
        DEAD_LETTER.setting: _as_text(config.dead_letter, mode),
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
        ask: Makes one call to the model; raises CallError.
        deliver: Makes one call to the target; raises CallError.
        deliver_dead_letter: Makes one call to `dead_letter`; None if that is not set.
        random: Numbers from 0 to 1, for the backoff's jitter.
        observer: Receives the outcome of each call.
        spans: Traces the calls.

    Attributes:
        model: The model's breaker.
        target: The target's breaker.
        dead_letter: The breaker of the dead letters' receiver.
        draining: Whether a stop has begun.
    """

    def __init__(
        self,
        clock: IReactorTime,
        journal: Journal,
        config: Config,
        ask: Model,
        deliver: Callable[[Delivery], Awaitable[None]],
        deliver_dead_letter: Callable[[Delivery], Awaitable[None]] | None = None,
        random: Callable[[], float] = system_random,
        observer: Observer = NO_OBSERVER,
        spans: Spans = NO_SPANS,
    ) -> None:
        self._clock = clock
        self._journal = journal
        self._drain_timeout = config.drain_timeout
        self.draining = False

        def breaker(peer: str, name: str) -> Breaker:
            return Breaker(name, config.concurrency, random, partial(self._remember, peer))

        self.model = breaker(MODEL, "the model")
        self.target = breaker(TARGET.setting, TARGET.name)
        self.dead_letter = breaker(DEAD_LETTER.setting, DEAD_LETTER.name)
        common = clock, journal, config, random, observer, spans
        self._sends_dead_letters = deliver_dead_letter is not None
        self._dead_letters = Delivering(
            *common, DEAD_LETTER, deliver_dead_letter or deliver, self.dead_letter, None
        )
        dead_letters = self._dead_letters.worker
        self._deliveries = Delivering(*common, TARGET, deliver, self.target, dead_letters)
        self._asks = Asking(*common, ask, self.model, self._deliveries.worker, dead_letters)

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
        for peer, breaker, state in (
            (MODEL, self.model, State.ACCEPTED),
            (TARGET.setting, self.target, State.ANSWERED),
            (DEAD_LETTER.setting, self.dead_letter, None),
        ):
            if state in recovered.failing:
                breaker.resume_gradually()
            if peer in recovered.peers:
                breaker.restore(recovered.peers[peer], self._clock.seconds())
        self._asks.worker.start()
        self._deliveries.worker.start()
        if self._sends_dead_letters:
            self._dead_letters.worker.start()

    def reserve(self) -> Call | None:
        """Take a slot for a prompt that is to be accepted; None if there is no room."""
        return self._asks.worker.reserve()

    def accepted(self, slot: Call | None, admitted: Admitted | None) -> None:
        """Ask a prompt in its slot, or look for an accepted prompt now; None: it was refused."""
        if admitted is not None and not admitted.repeated:
            self._asks.worker.fill(slot, admitted.ask)
        elif slot is not None:
            self._asks.worker.release(slot)

    def redriven(self) -> None:
        """Look for a redriven prompt now."""
        self._asks.worker.wake()
        self._deliveries.worker.wake()

    async def drain(self) -> None:
        """Finish the calls under way, within `drain_timeout`; the rest stays in the journal.

        No prompt is claimed any more. Each answer that still arrives gets one delivery attempt.
        """
        self.draining = True
        self._deliveries.untried_since = self._clock.seconds()
        self.target.paced = False
        self._asks.worker.stop()
        self._dead_letters.worker.stop()
        done = Deferred.fromCoroutine(self._drained())
        if not await completes(done, self._drain_timeout, self._clock):
            log.warn("stopping with calls under way: the next start takes them up")
        self.end()

    async def _drained(self) -> None:
        await self._asks.worker.idle()
        self._deliveries.worker.finish()
        await self._deliveries.worker.idle()
        await self._dead_letters.worker.idle()

    def end(self) -> None:
        """Cancel the calls under way; the next start repeats them."""
        for each in (self._asks, self._deliveries, self._dead_letters):
            each.worker.stop()
            each.worker.cancel()
