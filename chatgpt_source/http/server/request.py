"""A request with a bounded body, its response, and its refusal."""

import re
from collections.abc import Callable, Collection, Coroutine, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.http import Request

from chatgpt_source.http.server.channel import Channel
from chatgpt_source.http.server.connections import MOST_CONNECTIONS, Connections
from chatgpt_source.http.server.problem import PROBLEM, Problem, too_large
from chatgpt_source.http.server.response import Fields, encode_head, own_fields
from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

DROPPED_AT_MOST = 16
"""An oversized body of this many times its limit closes its connection."""
DROPPED_FOR = 30.0
"""Seconds that a dropped body may take before its connection is closed."""
SMALL_BODY = 8 * 2**10
"""Bytes of a body that are always held."""
BODIES_AT_MOST = 64 * 2**20
"""Bytes of all larger bodies that are held at once; at least two of the largest fit."""
_SOON = {"Retry-After": "5"}
_AUTHORITY = re.compile(r"\Ahttps?://[^/]*", re.IGNORECASE)


def _all_welcome(_: "BoundedRequest") -> Problem | None:
    return None


@define(eq=False, repr=False, slots=False)
class Site:
    """What a request needs of the site that it came to.

    Args:
        reactor: The clock for timeouts.
        handler: Answers each request, or raises Problem; any other exception becomes a 500.
        max_body_size: Bytes that a request's body may have; a larger one gets a 413.
        admits: Says why a request is refused by its head; its body is then dropped.
        connections_at_most: How many connections there may be.
        refused: Is told of each refused request, and why.
        access: Is told of each response.
        probes: Paths that are answered however many callers wait; a few connections are reserved
            for them. Their responses must not take long.

    Attributes:
        connections: The callers' connections.
        held: Bytes of larger bodies in memory.
    """

    reactor: Any
    handler: "Handler"
    max_body_size: int
    admits: "Admits" = _all_welcome
    connections_at_most: int = MOST_CONNECTIONS
    refused: "Refused" = lambda *_: None
    access: "Access" = lambda *_: None
    probes: Collection[str] = ()
    connections: Connections = field(init=False)
    held: int = field(init=False, default=0)

    @connections.default
    def _make_connections(self) -> Connections:
        most = min(self.connections_at_most, MOST_CONNECTIONS)
        return Connections(self.reactor, most, keep=bool(self.probes))


class BoundedRequest(Request):
    """A request with a body of at most `limit` bytes, in memory. It is always answered.

    If the request's head is refused, its body is dropped. If the body is too large, the excess is
    dropped as it arrives. The refusal is sent at the body's end: a client that is still sending
    would lose an earlier response.

    Attributes:
        refusal: Why the body is dropped, if it is.
        limit: Bytes that the body may have.
        began: When the request began to arrive.
        about: The id of its prompt, once known.
        why: The reason of a refusal, in one word.
        told: Whether the access log has its line.
        taken: Whether it was passed to its handler.
    """

    channel: Channel
    content: BytesIO

    def __init__(self, channel: Channel, *_: object) -> None:
        # curl's default media type is not a form here
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.content = BytesIO()
        self.refusal: Problem | None = None
        self._site: Site = channel.site
        self.limit = self._site.max_body_size
        self.began: float = self._site.reactor.seconds()
        self.about = self.why = ""
        self.told = self.taken = False
        self._size = 0
        self._counted = 0
        self._gone = False
        self._when_gone: Callable[[], object] | None = None
        self._when_answered: Callable[[int | None], object] = lambda _: None
        self._fields: Fields = {}

    def body(self) -> bytes:
        """The whole body; the request does not hold it any more."""
        body = self.content.getvalue()
        self.content = BytesIO()
        return body

    def route(self) -> str:
        """The path, without the scheme and host a proxy's client may send (RFC 9112, 3.2.2)."""
        path = self.path.decode("utf-8", "replace")
        return _AUTHORITY.sub("", path) or "/"

    def only_header(self, name: str) -> str | None:
        """The value of a header, a character for each byte; None if it did not come.

        It is empty, which is never valid, if it came more than once.
        """
        values = self.requestHeaders.getRawHeaders(name.encode("ascii"))
        if values is None:
            return None
        return values[0].decode("latin-1").strip() if len(values) == 1 else ""

    def gotLength(self, length: int | None) -> None:
        """Prepare for the body; refuse it at once if it awaits 100 Continue and is unwanted."""
        site = self._site
        if site.connections.is_kept(self.channel) and self.route() not in site.probes:
            self._refuse_and_close(
                Problem(503, "too many callers wait already: send it again later", _SOON)
            )
            return
        refusal = site.admits(self)
        if refusal is not None:
            self._drop(refusal)
        elif length is not None and length > self.limit:
            self._drop(too_large(self.limit))
        if self.refusal is not None and self.requestHeaders.hasHeader(b"expect"):
            self.requestHeaders.removeHeader(b"expect")  # otherwise Twisted sends 100 Continue
            self._refuse_and_close(self.refusal)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, or drop it."""
        self._size += len(data)
        if self.refusal is None and self._size > self.limit:
            self._drop(too_large(self.limit))
        if self.refusal is None and self._size > SMALL_BODY and not self._count():
            detail = "too many large bodies arrive at once: send it again later"
            self._drop(Problem(503, detail, _SOON))
        if self.refusal is None:
            self.content.write(data)
        if max(self._size, self.channel.arrived) > DROPPED_AT_MOST * self.limit:
            self._refuse_and_close(self.refusal or too_large(self.limit))

    def process(self) -> None:
        """Pass the request to the site's handler."""
        self.taken = True
        Deferred.fromCoroutine(self._handle()).addErrback(self._failed)

    async def _handle(self) -> None:
        try:
            if self.refusal is not None:
                raise self.refusal
            await self._site.handler(self)
        except Problem as problem:
            self.refuse(problem)

    def _failed(self, failure: Failure) -> None:
        log_unexpected(log, "answering a request", failure)
        self.refuse(Problem(500, "an internal error occurred; the log says where"))

    def connectionLost(self, reason: Failure) -> None:
        """Note that the caller hung up; a handler that took the request still holds its body."""
        self._gone = True
        if not self.taken:
            self.release()
        if self._when_gone is not None:
            self._when_gone()
        super().connectionLost(reason)

    def when_gone(self, call: Callable[[], object]) -> None:
        """Call this, and nothing else any more, when the caller hangs up; at once if it has."""
        self._when_gone = call
        if self._gone:
            call()

    def when_answered(self, call: Callable[[int | None], object]) -> None:
        """Call this with the response's status; with None if the caller has hung up before."""
        self._when_answered = call

    def setHeader(self, name: str, value: str) -> None:
        """Set a header field of the response, unless it has one of its own by this name."""
        self._fields[name] = value

    def answer(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str | tuple[str, ...]] | None = None,
        media_type: str = "application/json",
    ) -> None:
        """Send a response, unless the caller has hung up; one without a body has no media type."""
        self.release()
        self._when_answered(None if self._gone else status)
        if self._gone:
            self.why = "hung_up"
            self.tell(status, 0)
            return
        self.tell(status, len(body))
        own = {"Content-Type": media_type} if body else {}
        if status != HTTPStatus.NO_CONTENT:  # RFC 9110, section 8.6
            own["Content-Length"] = str(len(body))
        head = encode_head(self.clientproto, status, {**self._fields, **own, **(headers or {})})
        self.startedWriting = 1  # else Twisted would write a head of its own, more slowly
        self.channel.send(head if self.method == b"HEAD" else head + body)
        self.finish()

    def refuse(self, problem: Problem) -> None:
        """Send a problem; with `Connection: close` among its headers, the connection ends."""
        self.why = problem.word
        if problem.headers.get("Connection") == "close":
            self.channel.persistent = False
        self._site.refused(self, problem)
        self.answer(problem.status, problem.body(), problem.headers, PROBLEM)

    def begin(self, headers: Mapping[str, str], producer: IPushProducer) -> None:
        """Begin a response of unknown length; `send` continues it.

        Args:
            headers: Its headers.
            producer: Is paused while the caller does not read.
        """
        self.release()
        for name, value in {**own_fields(), **self._fields, **headers}.items():
            super().setHeader(name, value)
        self.registerProducer(producer, True)  # noqa: FBT003 - Twisted's own

    def send(self, data: bytes) -> None:
        """Send a piece, unless the caller has hung up."""
        if not self._gone:
            self.write(data)

    def abort(self) -> None:
        """Close the connection at once, and drop unsent data."""
        if not self._gone:
            self.channel.abort()

    def _drop(self, refusal: Problem) -> None:
        self.refusal = refusal
        self.content.truncate(0)
        self.release()
        self.channel.let_end_within(DROPPED_FOR)

    def _refuse_and_close(self, refusal: Problem) -> None:
        """Answer before the body's end."""
        self.release()
        self._gone = True
        self._site.refused(self, refusal)
        self.channel.refuse(refusal)

    def tell(self, status: int, size: int) -> None:
        """Report the response's status and size once."""
        if not self.told:
            self.told = True
            self._site.access(self, status, size)

    def _count(self) -> bool:
        """Count held bytes; returns whether they are within the bound."""
        more = self._size - self._counted
        if self._site.held + more > max(BODIES_AT_MOST, 2 * self.limit):
            return False
        self._counted += more
        self._site.held += more
        return True

    def release(self) -> None:
        """Stop counting the body, which the handler holds no more."""
        self._site.held -= self._counted
        self._counted = 0


Handler = Callable[[BoundedRequest], Coroutine[Deferred[Any], Any, None]]
"""Answers a request, or raises Problem."""
Admits = Callable[[BoundedRequest], Problem | None]
"""Says why a request is refused by its head (`method`, `path`, headers); None if it is not."""
Refused = Callable[[BoundedRequest, Problem], None]
"""Is told of a refused request, and why."""
Access = Callable[[BoundedRequest, int, int], None]
"""Is told of a request, its response's status, and the bytes of the response's body."""
