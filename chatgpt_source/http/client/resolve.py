"""Names of peers, resolved so that one whose name servers are silent holds up none of the others.

Twisted's own resolver has the reactor's ten threads for all names: lookups of one name that takes
10 s, glibc's time limit, fill them, and go on when nobody waits for them any more.
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
"""Seconds for which the addresses of a name are kept."""

Addresses = Sequence[tuple[Any, ...]]
"""Of each address, its family and what a socket takes, without the port: (host, …)."""


@define(eq=False)
class _Lookup:
    """A lookup under way, and who waits for it."""

    waiting: list[Callable[[Addresses], None]] = Factory(list)


@frozen
class _Resolution:
    """What a caller may give up, which leaves the lookup to the others."""

    name: str
    _give_up: Callable[[], None]

    def cancel(self) -> None:
        """Hear no more of it."""
        self._give_up()


@implementer(IHostnameResolver)
class Resolver:
    """Looks names up with `getaddrinfo`, each in a thread of its own, one lookup a name at a time.

    Who asks for a name that is being looked up waits for the same lookup. Threads are daemons: a
    stop does not wait for them. Addresses stand for themselves.

    Args:
        reactor: Hears from the threads, and tells how old addresses are.
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
            except RuntimeError:  # there can't be one more thread
                self._reactor.callLater(0, self._ended, name, ())
        return lookup

    def _run(self, name: str) -> None:
        """In the thread: look a name up; one that can't be has no addresses."""
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
    """A reactor that connects and tells the time as another, and has a resolver of its own.

    Args:
        reactor: The other.
        resolver: Its resolver; None for one that `Resolver` is.
    """

    def __init__(self, reactor: Any, resolver: IHostnameResolver | None = None) -> None:
        super().__init__(reactor)
        self.nameResolver = resolver or Resolver(reactor)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Have another resolver; returns the one before."""
        before, self.nameResolver = self.nameResolver, resolver
        return before
