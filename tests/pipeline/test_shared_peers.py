"""Several daemons and one peer: what one finds all know, and one at a time probes."""

from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.errors import JournalUnavailable, PeerFailure, Transient
from chatgpt_source.journal import PeerState
from chatgpt_source.pipeline.breaker import Breaker
from chatgpt_source.pipeline.shared_peers import LOOK_EVERY, SharedPeers
from tests.clocks import Clocks

UNAUTHORIZED = PeerFailure("the model answered 401: check `token`", status=401)
THROTTLED = Transient("the model answered 429", status=429, retry_after=20)
FIRST_PROBE = 30.0


class PeersInMemory:
    """What several owners store of peers."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[int, int, PeerState]] = {}
        self.version = 0
        self.broken = False

    def store(self, owner: int, peer: str, state: PeerState) -> None:
        self.version += 1
        self.states[peer] = (self.version, owner, state)


class OneOwners:
    """The journal as one owner sees it."""

    is_shared = True

    def __init__(self, peers: PeersInMemory, owner: int) -> None:
        self.peers = peers
        self.owner = owner
        self.known = 0

    def news_of_peers(self) -> Deferred[dict[str, PeerState]]:
        if self.peers.broken:
            return fail(JournalUnavailable("down", retry_after=1))
        told = {
            peer: state
            for peer, (version, owner, state) in self.peers.states.items()
            if version > self.known and owner != self.owner
        }
        self.known = self.peers.version
        return succeed(told)

    def claim_probe(self, peer: str, state: PeerState, now: float) -> Deferred[bool]:
        _, _, stored = self.peers.states.get(peer, (0, 0, PeerState()))
        if stored.held is not None and (stored.probe_at or 0) > now:
            return succeed(False)  # noqa: FBT003 - the answer
        self.peers.store(self.owner, peer, state)
        return succeed(True)  # noqa: FBT003 - the answer


class SharedPeersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(1000)
        self.peers = PeersInMemory()
        self.breakers = [self.another(number) for number in range(3)]

    def another(self, owner: int) -> Breaker:
        breaker = Breaker(
            "the model",
            8,
            lambda: 1.0,
            lambda state: self.peers.store(owner, "model", state),
            shared=True,
        )
        journal = OneOwners(self.peers, owner)
        SharedPeers(cast(Any, self.clock), cast(Any, journal), {"model": breaker}).start()
        return breaker

    def call(self, number: int, error: Any = None) -> None:
        breaker, now = self.breakers[number], self.clock.seconds()
        self.assertGreater(breaker.room(now), 0)
        call = breaker.start(now)
        if error is None:
            breaker.succeeded(call, now)
        else:
            breaker.failed(call, error, now, shared=True)
        breaker.end(call)

    def rooms(self) -> list[int]:
        return [breaker.room(self.clock.seconds()) for breaker in self.breakers]

    def pass_(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_EVERY)):
            self.clock.advance(LOOK_EVERY)

    def test_a_peer_that_one_finds_held_is_held_for_all(self) -> None:
        self.call(0, UNAUTHORIZED)
        self.assertEqual(self.rooms(), [0, 8, 8])
        self.pass_(LOOK_EVERY)
        self.assertEqual(self.rooms(), [0, 0, 0])
        self.assertEqual([each.trouble for each in self.breakers], [UNAUTHORIZED.reason] * 3)

    def test_one_at_a_time_probes(self) -> None:
        self.call(0, UNAUTHORIZED)
        self.pass_(FIRST_PROBE - 1)
        self.assertEqual(self.rooms(), [0, 0, 0])
        self.pass_(2)
        for _ in range(100):  # the one that may has nothing to ask
            self.pass_(LOOK_EVERY)
            self.assertLessEqual(sum(self.rooms()), 1)

    def test_an_operator_tries_it_at_once_and_one_does(self) -> None:
        self.call(0, UNAUTHORIZED)
        self.pass_(FIRST_PROBE + 1)
        self.call(self.rooms().index(1), UNAUTHORIZED)  # the next probe is a minute off
        self.pass_(5)
        self.assertEqual(self.rooms(), [0, 0, 0])
        self.breakers[1].try_now(self.clock.seconds())
        self.pass_(2)
        self.assertEqual(sum(self.rooms()), 1)
        self.call(self.rooms().index(1))
        self.pass_(LOOK_EVERY)
        self.assertEqual(self.rooms(), [8, 8, 8])

    def test_a_probe_that_succeeds_closes_all(self) -> None:
        self.call(0, UNAUTHORIZED)
        self.pass_(FIRST_PROBE + 1)
        self.call(self.rooms().index(1))
        self.pass_(LOOK_EVERY)
        self.assertEqual([each.held for each in self.breakers], [False] * 3)
        self.assertEqual(self.rooms(), [8, 8, 8])

    def test_a_probe_that_fails_puts_off_all(self) -> None:
        self.call(0, UNAUTHORIZED)
        self.pass_(FIRST_PROBE + 1)
        self.call(self.rooms().index(1), UNAUTHORIZED)
        self.pass_(2 * FIRST_PROBE - 1)
        self.assertEqual(self.rooms(), [0, 0, 0])
        self.pass_(2)
        self.assertEqual(sorted(self.rooms()), [0, 0, 1])

    def test_a_hold_that_nobody_could_store_is_probed(self) -> None:
        self.peers.broken = True
        self.call(0, UNAUTHORIZED)
        self.peers.states.clear()
        self.peers.broken = False
        self.pass_(FIRST_PROBE + 2)
        self.assertEqual(sum(self.rooms()), 1)
        self.assertEqual([each.held for each in self.breakers], [True] * 3)

    def test_an_old_call_that_fails_late_does_not_hold_all_again(self) -> None:
        old = self.breakers[1].start(self.clock.seconds())
        self.call(0, UNAUTHORIZED)
        self.pass_(FIRST_PROBE + 1)
        self.call(self.rooms().index(1))
        self.breakers[1].failed(old, Transient("a timeout"), self.clock.seconds(), shared=True)
        self.pass_(2)
        self.assertEqual([each.held for each in self.breakers], [False] * 3)

    def test_a_429_throttles_all(self) -> None:
        self.call(0, THROTTLED)
        self.pass_(LOOK_EVERY)
        self.assertEqual(self.rooms(), [0, 0, 0])
        self.pass_(20)
        self.assertEqual(self.rooms(), [1, 1, 1])

    def test_without_the_journal_each_goes_by_what_it_knows(self) -> None:
        self.peers.broken = True
        self.call(0, UNAUTHORIZED)
        self.pass_(5)
        self.assertEqual(self.rooms(), [0, 8, 8])
        self.peers.broken = False
        self.pass_(LOOK_EVERY)
        self.assertEqual(self.rooms(), [0, 0, 0])
