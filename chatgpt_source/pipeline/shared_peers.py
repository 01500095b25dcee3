"""What the daemons that share a journal tell each other of their peers.

A peer that one finds held or throttled is so for all, and one at a time probes it: who claims the
probe in the journal.
"""

from collections.abc import Mapping

from attrs import define, evolve, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import Journal
from chatgpt_source.journal.watch import Watch
from chatgpt_source.pipeline.breaker import Breaker

LOOK_EVERY = 1.0


@define(eq=False, repr=False)
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
    _watch: Watch = field(init=False)

    @_watch.default
    def _make_watch(self) -> Watch:
        doing = "asking what others know of the peers"
        return Watch(self._clock, self._journal, LOOK_EVERY, self.look, doing)

    def start(self) -> None:
        """Begin to look, if there may be others."""
        self._watch.start()

    def stop(self) -> None:
        """Look no more."""
        self._watch.stop()

    async def look(self) -> None:
        """Look now, and ask for the probes that are due."""
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
