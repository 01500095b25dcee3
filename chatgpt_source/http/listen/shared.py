"""Ports that several processes share: each has a listening socket of its own (SO_REUSEPORT).

The kernel chooses the socket of each new connection by a hash of its addresses, and resets the
connections that wait at a socket when that is closed. So a stop first accepts those that wait.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

_A_TURN = 50
"""Connections that one turn of the reactor may get from a stop."""


def bind(interface: str, port: int) -> socket.socket:
    """A socket bound to a port that other processes of this user may share; it does not listen.

    Raises:
        OSError: If the port is not free, and its user does not share it.
    """
    family, address = _address(interface, port)
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Twisted does
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def _address(interface: str, port: int) -> tuple[socket.AddressFamily, Any]:
    if not isIPv6Address(interface):
        return socket.AF_INET, (interface, port)
    kind, flags = socket.SOCK_STREAM, socket.AI_NUMERICHOST
    found = socket.getaddrinfo(interface, port, socket.AF_INET6, kind, 0, flags)
    return socket.AF_INET6, found[0][4]  # with the scope of a link-local address


@implementer(IStreamServerEndpoint)
@frozen(eq=False, repr=False)
class Endpoint:
    """Listens at a port that other processes may share.

    Args:
        reactor: Listens.
        port: The port.
        backlog: How many connections may wait to be accepted.
        interface: The interface.
        certificates: What the connections' TLS takes; None without TLS.
    """

    _reactor: Any
    _port: int
    _backlog: int
    _interface: str
    certificates: IOpenSSLServerConnectionCreator | None = None

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen (Twisted's interface)."""
        return execute(self._listen, factory)

    def _listen(self, factory: Any) -> IListeningPort:
        if self.certificates is not None:
            factory = TLSMemoryBIOFactory(self.certificates, False, factory)  # noqa: FBT003
        listening = bind(self._interface, self._port)
        try:
            listening.listen(self._backlog)
            listening.settimeout(0)
            port = Port(self._reactor, listening, self._backlog, factory)
            port.startListening()
        except BaseException:
            listening.close()
            raise
        return port


@implementer(IListeningPort)
@define(eq=False, repr=False)
class Port:
    """Accepts connections; a stop does not lose those that wait.

    Args:
        reactor: Accepts.
        listening: The socket.
        backlog: How many connections may wait to be accepted.
        factory: Makes the protocols.
    """

    _reactor: Any
    _listening: socket.socket
    _backlog: int
    _factory: Any
    _port: Any = field(init=False, default=None)

    def startListening(self) -> None:
        """Accept connections."""
        self._port = self._reactor.adoptStreamPort(
            self._listening.fileno(), self._listening.family, self._factory
        )
        self._factory.doStart()  # until the last connection is accepted

    def stopListening(self) -> Deferred[None]:
        """Accept the connections that wait, and no more; fires once their data has been read."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._port.stopListening()  # closes a duplicate: the socket still listens
        waiting = self._close()
        try:
            for number, connection in enumerate(waiting, 1):
                self._serve(connection)
                if number % _A_TURN == 0:
                    await deferLater(self._reactor, 0)
        finally:
            for connection in waiting:
                connection.close()
            self._factory.doStop()
        await deferLater(self._reactor, 0)

    def _close(self) -> list[socket.socket]:
        """Close the socket; returns the connections that waited there.

        Nothing else happens between: a connection that comes after the last `accept` is reset.
        """
        with self._listening:
            return list(self._accepted())

    def _accepted(self) -> Iterator[socket.socket]:
        for _ in range(self._backlog + 1):  # which is how many the kernel lets wait
            try:
                yield self._listening.accept()[0]
            except ConnectionAbortedError:  # noqa: PERF203 - others may wait behind it
                continue
            except OSError:  # nobody waits, or no more files may be open
                return

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        with suppress(OSError):  # the caller has hung up
            self._reactor.adoptStreamConnection(
                connection.fileno(), connection.family, self._factory
            )

    def getHost(self) -> IAddress:
        """Where it listens."""
        host: IAddress = self._port.getHost()
        return host
