"""Bodies of requests and responses: in memory, or streamed a piece at a time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from chatgpt_source.http.client.words import describe

MOST_HELD = 64 * 2**10
"""Bytes of a streamed response that may wait to be taken; then its connection is not read."""
TOO_LONG = "was longer than it may be"
"""The flaw of a response of which the rest is not read."""


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

    def whole(self) -> bytes:
        """All of it, for a connection that sends it with the head."""
        self.started = True
        return self._body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        consumer.write(self.whole())
        return succeed(None)

    def stopProducing(self) -> None:
        """Do nothing: all of it was written."""

    def pauseProducing(self) -> None:
        """As `stopProducing`."""

    def resumeProducing(self) -> None:
        """As `stopProducing`."""


@implementer(IBodyProducer)
class StreamedBody:
    """A request's body that comes in pieces, and is written as fast as the peer reads it.

    Args:
        length: How many bytes it has.
        pieces: The pieces.
        clock: The time.

    Attributes:
        started: Whether any of it was handed to a connection.
        error: Why it ended early, if that was not the connection's fault.
    """

    def __init__(self, length: int, pieces: AsyncIterator[bytes], clock: IReactorTime) -> None:
        self.length = length
        self.started = False
        self.error: Exception | None = None
        self._pieces = pieces
        self._clock = clock
        self._moved = clock.seconds()
        self._room: Deferred[None] | None = None
        self._writing: Deferred[None] = succeed(None)

    def moved(self) -> float:
        """When the peer last took some of it."""
        return self._moved

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Begin to write it to a transport."""
        self.started = True
        consumer.registerProducer(self, streaming=True)
        self._writing = Deferred.fromCoroutine(self._write(consumer))
        return succeed(None)

    async def _write(self, transport: Any) -> None:
        try:
            await self._write_all(transport)
        except CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self.error = error
            transport.abortConnection()
        finally:
            transport.unregisterProducer()

    async def _write_all(self, transport: Any) -> None:
        left = self.length
        async for piece in self._pieces:
            if self._room is not None:
                await self._room
            left -= len(piece)
            if left < 0:
                break
            transport.write(piece)
            self._moved = self._clock.seconds()
        if left:
            raise ValueError("a streamed body is not as long as was said")

    def pauseProducing(self) -> None:
        """Write no more until `resumeProducing`."""
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        """Write on."""
        self._moved = self._clock.seconds()
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """Write no more."""
        self._writing.cancel()


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
        self._done: Deferred[None] | None = Deferred(lambda _: self._abort())
        self._left = most

    def begin(self, response: IResponse) -> Deferred[None]:
        """Collect the body; fires at its end. Cancelling that ends the connection."""
        assert self._done is not None  # noqa: S101 - the body has not begun
        self.response, done = response, self._done
        response.deliverBody(self)
        return done

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
            self._end(TOO_LONG)
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the body."""
        whole = isinstance(reason.value, ResponseDone)
        self._end(None if whole else f"was cut short ({describe(reason.value)})")

    def _end(self, flaw: str | None) -> None:
        done, self._done = self._done, None  # which has this collector: it would be a cycle
        if done is not None and not done.called:
            self.flaw = flaw
            done.callback(None)

    def _abort(self) -> None:
        self._connection.abortConnection()

    @property
    def _connection(self) -> Any:
        return self.transport


class Passer(Collector):
    """As `Collector`, but passes the body of a 200 on in pieces, one after the other.

    While a piece is taken, the connection is read until `MOST_HELD` bytes wait.

    Args:
        most: Bytes to keep of the body of another response.
        take: Takes a piece.
        clock: The time.

    Attributes:
        error: Why a piece could not be taken, if one could not.
    """

    def __init__(
        self, most: int, take: Callable[[bytes], Awaitable[None]], clock: IReactorTime
    ) -> None:
        super().__init__(most)
        self.error: Exception | None = None
        self._take = take
        self._clock = clock
        self._moved = clock.seconds()
        self._held = bytearray()
        self._passes = self._is_taking = False
        self._taking: Deferred[None] = succeed(None)
        self._reason: Failure | None = None

    def moved(self) -> float:
        """When the peer last sent some of it; while a piece is taken, that is now."""
        return self._clock.seconds() if self._is_taking else self._moved

    def begin(self, response: IResponse) -> Deferred[None]:
        """Pass on the body; fires once all of it is taken. Cancelling that ends the connection."""
        self._passes = response.code == 200
        return super().begin(response)

    def dataReceived(self, data: bytes) -> None:
        """Let a piece be taken, after those before it."""
        self._moved = self._clock.seconds()
        if not self._passes:
            super().dataReceived(data)
            return
        self._held += data
        if not self._is_taking:
            self._taking = Deferred.fromCoroutine(self._pass_on())
        elif len(self._held) >= MOST_HELD:
            self._connection.pauseProducing()

    async def _pass_on(self) -> None:
        self._is_taking = True
        try:
            while self._held:
                piece, self._held = bytes(self._held), bytearray()
                await self._take(piece)
                self._connection.resumeProducing()
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self.error = error
            self._held.clear()
            self._end("was not taken")
            super()._abort()
        finally:
            self._is_taking = False
            self._moved = self._clock.seconds()
        if self._reason is not None:
            super().connectionLost(self._reason)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End the body, once all of it is taken."""
        if self._is_taking:
            self._reason = reason
        else:
            super().connectionLost(reason)

    def _abort(self) -> None:
        super()._abort()
        self._taking.cancel()
