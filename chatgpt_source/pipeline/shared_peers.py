"""What the daemons that share a journal tell each other of their peers.

A peer that one finds held or throttled is so for all, and one at a time probes it: who claims the
probe in the journal.
"""

from collections.abc import Mapping

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Journal
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.pipeline.breaker import Breaker

log = get_logger(__name__)

LOOK_EVERY = 1.0


@define(eq=False)
class SharedPeers:
    """Tells breakers what other daemons know.

    Args:
        clock: The time.
        journal: Has the states of the peers.
        breakers: The breakers, by their peers.
    """

    _clock: IReactorTime
    _journal: Journal
    _breakers: Mapping[str, Breaker]
    _watch: LoopingCall | None = field(init=False, default=None)

    def start(self) -> None:
        """Begin to look, if there may be others."""
        if self._journal.is_shared:
            self._watch = LoopingCall(self._look)
            self._watch.clock = self._clock
            self._watch.start(LOOK_EVERY, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._watch is not None and self._watch.running:
            self._watch.stop()

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look_once()).addErrback(_failed)

    async def _look_once(self) -> None:
        told = await self._journal.news_of_peers()
        now = self._clock.seconds()
        for peer, state in told.items():
            if peer in self._breakers:
                self._breakers[peer].adopt(state, now)
        for peer, breaker in self._breakers.items():
            until = breaker.probe_until(now)
            if until is None:
                continue
            state = evolve(breaker.state, probe_at=until)
            if await self._journal.claim_probe(peer, state, now):
                breaker.grant_probe(until)


def _failed(failure: Failure) -> None:
    if not failure.check(JournalUnavailable):
        log_unexpected(log, "asking what others know of the peers", failure)
