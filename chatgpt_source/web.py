"""HTTP at the edge, for whatever listens: bodies within bounds, answers, and problems.

A refusal is `application/problem+json` (RFC 9457). No prompt, no answer and no header of a caller's
ever appears in one.
"""

import errno
import json
import re
import socket
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

BACKLOG = 1024
"""Connections that may wait to be taken; Twisted's 50 is less than a burst."""
DROPPED_AT_MOST = 16
"""How many times its limit an oversized body may have before its connection is closed."""
DROPPED_FOR = 30.0
"""Seconds an oversized body may take before its connection is closed."""


WORDS = {
    400: "invalid",
    401: "unauthorized",
    404: "unknown",
    405: "method",
    413: "too-large",
    415: "charset",
    422: "key-reused",
    429: "quota",
    500: "defect",
}
"""Why a request is refused, in a word, where the status says it all."""


class Problem(Exception):
    """A refusal that becomes a response.

    Attributes:
        status: The HTTP status.
        detail: What is wrong and what to do about it; nothing of the request's own text.
        headers: Further headers of the response.
        type: The problem's type, a URI.
        word: Why, in a word, for the log.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        type: str = "about:blank",  # noqa: A002 - RFC 9457's name
        word: str = "",
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.type = type
        self.word = word or WORDS.get(status, "")

    def body(self) -> bytes:
        """The problem as JSON (RFC 9457, section 3)."""
        return to_json(
            {
                "type": self.type,
                "title": HTTPStatus(self.status).phrase,
                "status": self.status,
                "detail": self.detail,
            }
        )


class BoundedRequest(Request):
    """A request whose body stays in memory, and within `limit` bytes.

    Of a larger body the excess is dropped as it arrives, and the 413 is sent at its end: an answer
    that came before would be lost to a client that is still sending.

    Attributes:
        limit: Bytes the body may have.
        oversized: Whether it has more.
        began: When it began to arrive.
        about: The id of the prompt it is about, once known.
        why: Why it is refused, in a word.
        told: Whether the log has its line.
    """

    def __init__(
        self, limit: int, access: "Access", channel: HTTPChannel, *args: Any, **options: Any
    ) -> None:
        super().__init__(channel, *args, **options)
        self.limit = limit
        self.oversized = False
        self.began: float = channel.site.reactor.seconds()  # type: ignore[attr-defined]
        self.about = self.why = ""
        self.told = False
        self._access = access
        self._body = BytesIO()
        self._size = 0
        self._gone = False
        self._deadline: Any = None

    def body(self) -> bytes:
        """The whole body."""
        return self._body.getvalue()

    def route(self) -> str:
        """The path, without the scheme and host a proxy's client may send (RFC 9112, 3.2.2)."""
        path = self.path.decode("utf-8", "replace")
        return re.sub(r"\Ahttps?://[^/]*", "", path, flags=re.IGNORECASE) or "/"

    def gotLength(self, length: int | None) -> None:
        """Prepare for the body; an oversized one that waits for our word is refused at once."""
        self.content = self._body
        if length is not None and length > self.limit:
            self._drop()
            expect = self.requestHeaders.getRawHeaders(b"expect", [b""])[0]
            if expect.lower() == b"100-continue":
                self.requestHeaders.removeHeader(b"expect")
                self._refuse_and_close()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, or drop it if the body is too large."""
        self._size += len(data)
        if self._size > self.limit and not self.oversized:
            self._drop()
        if not self.oversized:
            self._body.write(data)
        elif self._size > DROPPED_AT_MOST * self.limit:
            self._refuse_and_close()

    def _handleStar(self) -> None:
        """Answer `OPTIONS *` as any other path; Twisted has an answer of its own."""
        self.render(self.channel.site.resource)  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure) -> None:
        """Take note that nobody listens any more."""
        self._gone = True
        self._disarm()
        super().connectionLost(reason)

    def answer(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        """Send a response, unless the caller has hung up."""
        self._disarm()
        if self._gone:
            self.why = "hung-up"
            self._tell(status, 0)
            return
        self._tell(status, len(body))
        self.setResponseCode(status, HTTPStatus(status).phrase.encode("ascii"))
        self.setHeader("Content-Type", media_type)
        self.setHeader("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.setHeader(name, value)
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def refuse(self, problem: Problem) -> None:
        """Send a problem."""
        self.why = problem.word
        self.answer(problem.status, problem.body(), problem.headers, "application/problem+json")

    def _drop(self) -> None:
        self.oversized = True
        self._body.truncate(0)
        self._deadline = self.channel.callLater(DROPPED_FOR, self._refuse_and_close)

    def _refuse_and_close(self) -> None:
        """Answer before the body's end, by hand: the request is not complete."""
        self._disarm()
        if self._gone:
            return
        self._gone = True
        self.why = WORDS[413]
        body = too_large(self.limit).body()
        self._tell(413, len(body))
        self.channel.transport.write(  # type: ignore[union-attr] # it is connected
            b"HTTP/1.1 413 %s\r\nContent-Type: application/problem+json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s"
            % (HTTPStatus(413).phrase.encode("ascii"), len(body), body)
        )
        self.channel.loseConnection()

    def _tell(self, status: int, size: int) -> None:
        if not self.told:
            self.told = True
            self._access(self, status, size)

    def _disarm(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


Handler = Callable[[BoundedRequest], Coroutine[Deferred[Any], Any, None]]
Access = Callable[[BoundedRequest, int, int], None]
"""Takes note of a request, the status it is answered with, and the bytes of the answer's body."""


class _Leaf(Resource):
    """Hands every request to one handler, and sees to it that it is answered."""

    isLeaf = True

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler

    def render(self, request: BoundedRequest) -> int:
        answering = Deferred.fromCoroutine(self._answer(request))
        answering.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: BoundedRequest) -> None:
        try:
            await self._handler(request)
        except Problem as problem:
            request.refuse(problem)

    def _failed(self, failure: Failure, request: BoundedRequest) -> None:
        log_unexpected(log, "answering a request", failure)
        request.refuse(Problem(500, "something went wrong here; the log says where"))


class BoundedSite(Site):
    """An HTTP server; Twisted's own access log would cost a third of a small request.

    Args:
        reactor: Times the connections out.
        handler: Answers each request, or raises Problem; any other exception becomes a 500.
        max_body_size: Bytes a request's body may have; the handler is to refuse `oversized` ones
            with `too_large`.
        access: Takes note of each answer.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        handler: Handler,
        max_body_size: int,
        access: Access = lambda *_: None,
    ) -> None:
        super().__init__(
            _Leaf(handler),
            reactor=reactor,
            requestFactory=partial(BoundedRequest, max_body_size, access),
            parsePOSTFormSubmission=False,  # what curl sends by default is not a form here
        )

    def log(self, request: BaseRequest) -> None:
        """Write nothing."""


class PortUnavailable(Exception):
    """A port that can't be listened on; the text is one line that says why and what to do.

    Attributes:
        taken: Whether it is because somebody else listens there.
    """

    def __init__(self, text: str, *, taken: bool = False) -> None:
        super().__init__(text)
        self.taken = taken


def probe_port(port: int) -> str:
    """The interface to listen on: "::" for IPv6 and IPv4 alike, "0.0.0.0" where IPv6 is off.

    Raises:
        PortUnavailable: If the port is taken, or not for this user.
    """
    try:
        try:
            return _probe(socket.AF_INET6, "::", port)
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise
        return _probe(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 - others are to reach it
    except OSError as error:
        raise PortUnavailable(
            f"port {port} can't be listened on ({error.strerror}): stop what uses it, or choose"
            " another port",
            taken=error.errno == errno.EADDRINUSE,
        ) from None


def _probe(family: socket.AddressFamily, interface: str, port: int) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Twisted will
        candidate.bind((interface, port))
        candidate.listen(1)
    return interface


def listen(reactor: IReactorTCP, port: int, interface: str, site: Site) -> IListeningPort:
    """Listen, with room for a burst of callers.

    Raises:
        PortUnavailable: If the port was taken since `probe_port` found it free.
    """
    try:
        return reactor.listenTCP(port, site, backlog=BACKLOG, interface=interface)  # type: ignore[arg-type]
    except CannotListenError as error:
        raise PortUnavailable(f"port {port} can't be listened on: {error.socketError}") from None


def too_large(limit: int) -> Problem:
    """The refusal of a body over its limit."""
    return Problem(413, f"the body must have at most {limit} bytes")


def to_json(value: Mapping[str, Any]) -> bytes:
    """A JSON object in ASCII."""
    return json.dumps(value).encode("ascii")
