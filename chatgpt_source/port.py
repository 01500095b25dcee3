"""Listening where an endpoint string of Twisted's says."""

import socket
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from chatgpt_source.web import PortUnavailable


class _Probe:
    """Stands in for a reactor, and lets go of what it was told to listen on."""

    def listenTCP(self, port: int, _: object, backlog: int = 50, interface: str = "") -> None:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Twisted will
            try:
                candidate.bind((interface, port))
                candidate.listen(backlog)
            except OSError as error:
                raise CannotListenError(interface, port, error) from error


def check(string: str, key: str) -> None:
    """See whether an endpoint string can be listened on; nothing is left open.

    Raises:
        PortUnavailable: If it can't.
    """
    taken(listen(_Probe(), string, Factory(), key))


def listen(
    reactor: Any, string: str, factory: IProtocolFactory, key: str
) -> "Deferred[IListeningPort]":
    """Listen where an endpoint string says; fails with PortUnavailable.

    Args:
        reactor: The reactor.
        string: Where.
        factory: Who answers.
        key: The setting the string is from.
    """

    def failed(failure: Failure) -> Failure:
        cause = getattr(failure.value, "socketError", failure.value)
        reason = getattr(cause, "strerror", None) or type(cause).__name__
        return Failure(
            PortUnavailable(
                f"`{key}` can't be listened on ({reason}): stop what uses it, or choose another"
            )
        )

    try:
        endpoint = serverFromString(reactor, string)
    except Exception:  # noqa: BLE001 - a parser raises what it pleases
        return fail(
            PortUnavailable(
                f"`{key}` must be an endpoint string of Twisted's, like"
                " tcp:9464:interface=127.0.0.1"
            )
        )
    listening: Deferred[IListeningPort] = endpoint.listen(factory)
    listening.addErrback(failed)
    return listening


def taken(listening: "Deferred[IListeningPort]") -> IListeningPort:
    """The port that `listen` has taken.

    Raises:
        PortUnavailable: If it could not.
    """
    ended: list[Any] = []
    listening.addBoth(ended.append)
    if ended and isinstance(ended[0], Failure):
        ended[0].raiseException()
    port: IListeningPort = ended[0]
    return port
