"""Request bodies that are sent from memory, and response bodies that are read into it."""

from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from chatgpt_source.http.client.words import describe


@implementer(IBodyProducer)
class Body:
    """A request's body in memory.

    Attributes:
        started: Whether any of it was handed to a connection.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)
        self.started = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        self.started = True
        consumer.write(self._body)
        return succeed(None)

    def stopProducing(self) -> None:
        """Do nothing: all of it was written."""

    def pauseProducing(self) -> None:
        """As `stopProducing`."""

    def resumeProducing(self) -> None:
        """As `stopProducing`."""


async def read_body(response: IResponse, most: int) -> tuple[bytes, str | None]:
    """The body, up to `most` bytes, and why it is not complete, else None.

    Cancelling it ends the connection, and the body is what came until then.
    """
    collector = _Collector(most)
    response.deliverBody(collector)
    try:
        flaw = await collector.done
    except CancelledError:
        flaw = "did not end in time"
    return collector.body.getvalue(), flaw


class _Collector(Protocol):
    """Collects a body; `done` fires with its flaw, if any; cancelling it closes the connection."""

    def __init__(self, most: int) -> None:
        self.body = BytesIO()
        self.done: Deferred[str | None] = Deferred(lambda _: self._abort())
        self._left = most

    def dataReceived(self, data: bytes) -> None:
        if self._left < 0:
            return
        self.body.write(data[: self._left])
        self._left -= len(data)
        if self._left < 0:
            self._end("was longer than it may be")
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        whole = isinstance(reason.value, ResponseDone)
        self._end(None if whole else f"was cut short ({describe(reason.value)})")

    def _end(self, flaw: str | None) -> None:
        if not self.done.called:
            self.done.callback(flaw)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()
