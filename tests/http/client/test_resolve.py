"""Names, resolved by threads that hold up nobody else."""

import socket
from threading import Event
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from chatgpt_source.http.client import NotSent
from chatgpt_source.http.client.resolve import KEPT, Resolver, Resolving
from tests.http.client.test_client import ClientCase, Peer

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 3))
PATIENCE = 10


class Receiver:
    """Collects addresses; `done` fires with them."""

    def __init__(self) -> None:
        self.addresses: list[Any] = []
        self.done: Deferred[list[Any]] = Deferred()

    def resolutionBegan(self, resolution: Any) -> None:
        self.resolution = resolution

    def addressResolved(self, address: Any) -> None:
        self.addresses.append(address)

    def resolutionComplete(self) -> None:
        self.done.callback(self.addresses)


class Names:
    """Stands in for `getaddrinfo`: names wait until they are let go."""

    def __init__(self, **found: Any) -> None:
        self.found = found
        self.asked: list[str] = []
        self.held: dict[str, Event] = {}

    def hold(self, name: str) -> Event:
        self.held[name] = Event()
        return self.held[name]

    def __call__(self, name: str, *_: Any) -> Any:
        self.asked.append(name)
        if name in self.held:
            self.held[name].wait(PATIENCE)
        found = self.found[name]
        if isinstance(found, BaseException):
            raise found
        return found


class ResolverTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.names = Names(model=[V4], target=[V6, V4], none=socket.gaierror(-2, "unknown"))
        self.resolver = Resolver(reactor, self.names)

    def resolve(self, name: str, *options: Any) -> Receiver:
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, name, 443, *options)  # type: ignore[arg-type]
        return receiver

    def hold(self, name: str) -> Event:
        event = self.names.hold(name)
        self.addCleanup(event.set)
        return event

    async def test_addresses_in_their_order(self) -> None:
        self.assertEqual(
            await self.resolve("target").done,
            [IPv6Address("TCP", "2001:db8::1", 443, 0, 3), IPv4Address("TCP", "192.0.2.1", 443)],
        )

    async def test_of_the_kinds_asked_for(self) -> None:
        addresses = await self.resolve("target", [IPv4Address], "UDP").done
        self.assertEqual(addresses, [IPv4Address("UDP", "192.0.2.1", 443)])

    async def test_of_a_name_that_has_none(self) -> None:
        for name in ("none", "not there either"):
            self.assertEqual(await self.resolve(name).done, [])

    async def test_one_that_hangs_holds_up_no_other(self) -> None:
        event = self.hold("target")
        hung = [self.resolve("target") for _ in range(100)]
        self.assertEqual(len(await self.resolve("model").done), 1)
        for receiver in hung:
            self.assertEqual(receiver.addresses, [])
        event.set()
        await hung[-1].done
        self.assertEqual(self.names.asked.count("target"), 1)

    async def test_all_who_wait_are_told(self) -> None:
        event = self.hold("target")
        waiting = [self.resolve("target") for _ in range(3)]
        event.set()
        for receiver in waiting:
            self.assertEqual(len(await receiver.done), 2)
        self.assertEqual(self.names.asked, ["target"])

    async def test_who_gives_up_leaves_it_to_the_others(self) -> None:
        event = self.hold("target")
        first, second = self.resolve("target"), self.resolve("target")
        for _ in range(2):
            first.resolution.cancel()
        event.set()
        self.assertEqual(len(await second.done), 2)
        self.assertFalse(first.done.called)
        second.resolution.cancel()

    async def test_a_failure_is_not_kept(self) -> None:
        await self.resolve("none").done
        self.names.found["none"] = [V4]
        self.assertEqual(len(await self.resolve("none").done), 1)


class WithoutThreadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.clock.callFromThread = lambda call, *arguments: call(*arguments)
        self.names = Names(model=[V4])
        self.resolver = Resolver(self.clock, self.names)

    def resolve(self, name: str) -> Any:
        receiver = Receiver()
        self.resolver.resolveHostName(receiver, name, 80)  # type: ignore[arg-type]
        return self.successResultOf(receiver.done)

    def test_addresses_stand_for_themselves(self) -> None:
        self.assertEqual(self.resolve("127.0.0.1"), [IPv4Address("TCP", "127.0.0.1", 80)])
        self.assertEqual(self.resolve("::1"), [IPv6Address("TCP", "::1", 80)])
        self.assertEqual(self.names.asked, [])

    def test_addresses_are_kept_for_a_short_time(self) -> None:
        self.resolver._known["model"] = (KEPT, [(socket.AF_INET, "192.0.2.1")])
        self.assertEqual(self.resolve("model"), [IPv4Address("TCP", "192.0.2.1", 80)])
        self.clock.advance(KEPT)
        self.assertIsNone(self.resolver._at_hand("model"))

    def test_interfaces(self) -> None:
        verifyObject(IHostnameResolver, self.resolver)
        verifyObject(IReactorPluggableNameResolver, Resolving(self.clock, self.resolver))


class ConnectingTests(ClientCase):
    async def test_through_it(self) -> None:
        here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
        names = Names(**{"model.example": [here], "other.example": DNSLookupError()})
        self.remake(resolver=Resolver(reactor, names))
        url = self.serve(Peer(), host="model.example")
        for _ in range(2):
            self.assertEqual((await self.post(url, fresh=True)).status, 200)
        self.assertEqual(names.asked, ["model.example"])
        words = await self.error(NotSent, self.post(url.replace(host="other.example")))
        self.assertEqual(words, "its name can't be resolved")

    async def test_giving_up(self) -> None:
        names = Names(**{"model.example": []})
        event = names.hold("model.example")
        self.addCleanup(event.set)
        self.remake(resolver=Resolver(reactor, names))
        url = self.serve(Peer(), host="model.example")
        self.assertEqual(
            await self.error(NotSent, self.post(url, timeout=0.1)), "no answer in time"
        )
