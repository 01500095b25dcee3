"""Resolves peers' names, so that a silent name server of one peer delays no other.

Twisted's own resolver uses the reactor's ten threads for all names. Lookups of one name that takes
10 s (glibc's time limit) fill them, and go on even if no call waits for them any more.
"""

import socket
from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

from attrs import Factory, define, frozen
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.python.components import proxyForInterface
from zope.interface import implementer

KEPT = 5.0
"""Seconds that the addresses of a name are kept."""

Addresses = Sequence[tuple[Any, ...]]
"""For each address, its family and the socket address without the port: (host, …)."""


@define(eq=False, repr=False)
class _Lookup:
    """A lookup under way, and the calls that wait for it."""

    waiting: list[Callable[[Addresses], None]] = Factory(list)


@frozen(eq=False, repr=False)
class _Resolution:
    """One call's wait for a lookup; cancelling it does not cancel the lookup."""

    name: str
    _give_up: Callable[[], None]

    def cancel(self) -> None:
        """Stop waiting."""
        self._give_up()


@implementer(IHostnameResolver)
class Resolver:
    """Looks names up with `getaddrinfo`, each in a thread of its own, one lookup a name at a time.

    A request for a name that is being looked up waits for the same lookup. The threads are daemon
    threads, so a stop does not wait for them. Addresses are not looked up.

    Args:
        reactor: Gets the threads' results, and measures the age of addresses.
        getaddrinfo: As `socket.getaddrinfo`.
    """

    def __init__(self, reactor: Any, getaddrinfo: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._reactor = reactor
        self._getaddrinfo = getaddrinfo
        self._under_way: dict[str, _Lookup] = {}
        self._known: dict[str, tuple[float, Addresses]] = {}

    def resolveHostName(  # noqa: D102 - as IHostnameResolver says
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: N803
        transportSemantics: Any = "TCP",  # noqa: N803
    ) -> IHostResolution:
        def tell(addresses: Addresses) -> None:
            for family, host, *scope in addresses:
                kind = IPv6Address if family == socket.AF_INET6 else IPv4Address
                if addressTypes is None or kind in addressTypes:
                    resolutionReceiver.addressResolved(
                        kind(transportSemantics, host, portNumber, *scope)
                    )
            resolutionReceiver.resolutionComplete()

        waiting: list[Callable[[Addresses], None]] = []
        resolution: Any = _Resolution(
            hostName, lambda: waiting.remove(tell) if tell in waiting else None
        )
        resolutionReceiver.resolutionBegan(resolution)
        addresses = self._at_hand(hostName)
        if addresses is not None:
            tell(addresses)
        else:
            lookup = self._look_up(hostName)
            waiting = lookup.waiting
            waiting.append(tell)
        return resolution  # type: ignore[no-any-return]

    def _at_hand(self, name: str) -> Addresses | None:
        if isIPAddress(name):
            return [(socket.AF_INET, name)]
        if isIPv6Address(name) and "%" not in name:
            return [(socket.AF_INET6, name)]
        until, addresses = self._known.get(name, (0.0, ()))
        return addresses if self._reactor.seconds() < until else None

    def _look_up(self, name: str) -> _Lookup:
        lookup = self._under_way.get(name)
        if lookup is None:
            lookup = self._under_way[name] = _Lookup()
            thread = Thread(target=self._run, args=(name,), name=f"resolve {name}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no further thread can be started
                self._reactor.callLater(0, self._ended, name, ())
        return lookup

    def _run(self, name: str) -> None:
        """In the thread: look a name up; an unknown name has no addresses."""
        addresses: Addresses = ()
        try:
            found = self._getaddrinfo(name, None, socket.AF_UNSPEC, socket.SOCK_STREAM)
            addresses = [
                (family, address[0], *address[2:])
                for family, _, _, _, address in found
                if family in {socket.AF_INET, socket.AF_INET6}
            ]
        except Exception:  # noqa: BLE001, S110 - whatever it was, there is no address
            pass
        self._reactor.callFromThread(self._ended, name, addresses)

    def _ended(self, name: str, addresses: Addresses) -> None:
        if addresses:
            self._known[name] = (self._reactor.seconds() + KEPT, addresses)
        for tell in self._under_way.pop(name).waiting:
            tell(addresses)


class _TCPAndTime(proxyForInterface(IReactorTCP), proxyForInterface(IReactorTime)):  # type: ignore[misc]
    pass


@implementer(IReactorPluggableNameResolver)
class Resolving(_TCPAndTime):
    """A reactor that wraps another one, with a resolver of its own.

    Args:
        reactor: The other reactor.
        resolver: The resolver; None for a `Resolver`.
    """

    def __init__(self, reactor: Any, resolver: IHostnameResolver | None = None) -> None:
        super().__init__(reactor)
        self.nameResolver = resolver or Resolver(reactor)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Set the resolver; returns the previous one."""
        before, self.nameResolver = self.nameResolver, resolver
        return before
