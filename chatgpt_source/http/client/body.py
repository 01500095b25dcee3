"""Request bodies that are sent from memory, and response bodies that are read into it."""

from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred, succeed
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


class Collector(Protocol):
    """Collects a response and its body.

    Args:
        most: Bytes of the body to keep.

    Attributes:
        response: The response; None before it has come.
        flaw: Why the body is not complete; None if it is.
    """

    def __init__(self, most: int) -> None:
        self.response: IResponse | None = None
        self.flaw: str | None = "did not end in time"
        self._body = BytesIO()  # not a list: each of many tiny chunks would be an object
        self._done: Deferred[None] = Deferred(lambda _: self._abort())
        self._left = most

    def begin(self, response: IResponse) -> Deferred[None]:
        """Collect the body; fires at its end. Cancelling that ends the connection."""
        self.response = response
        response.deliverBody(self)
        return self._done

    @property
    def body(self) -> bytes:
        """The body, as far as it was kept."""
        return self._body.getvalue()

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece, as far as it may be kept."""
        if self._left < 0:
            return
        self._body.write(data[: self._left])
        self._left -= len(data)
        if self._left < 0:
            self._end("was longer than it may be")
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the body."""
        whole = isinstance(reason.value, ResponseDone)
        self._end(None if whole else f"was cut short ({describe(reason.value)})")

    def _end(self, flaw: str | None) -> None:
        if not self._done.called:
            self.flaw = flaw
            self._done.callback(None)

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()
