"""One request: its body within bounds, its answer, and how it is refused."""

import re
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure

from chatgpt_source.http.server.channel import Channel
from chatgpt_source.http.server.connections import Connections
from chatgpt_source.http.server.problem import Problem, too_large
from chatgpt_source.http.server.twisted_private import OpenRequest

DROPPED_AT_MOST = 16
"""How many times its limit an oversized body may have before its connection is closed."""
DROPPED_FOR = 30.0
"""Seconds a body that is dropped may take before its connection is closed."""
SMALL_BODY = 8 * 2**10
"""Bytes a body may have that are always held."""
BODIES_AT_MOST = 64 * 2**20
"""Bytes that all larger bodies may have that are held at once, or two of the largest."""
_SOON = {"Retry-After": "5"}


class Edge(Protocol):
    """The site that a request came to.

    Attributes:
        reactor: Says how late it is.
        connections: The callers' connections.
        held: Bytes of larger bodies in memory.
        probes: Paths that are answered however many callers wait.
        admits: Says of a request whose head alone is there why it is refused.
        refused: Told of each request that is refused, and why.
        access: Told of each answer.
    """

    reactor: Any
    connections: Connections
    held: int
    probes: Collection[str]
    admits: "Admits"
    refused: "Refused"
    access: "Access"


class BoundedRequest(OpenRequest):
    """A request whose body stays in memory, and within `limit` bytes.

    What is refused for its head alone has no body in memory, and of a larger body the excess is
    dropped as it arrives. The refusal is sent at the body's end: an answer that came before would
    be lost to a client that is still sending.

    Attributes:
        refusal: Why the body is dropped, if it is.
        limit: Bytes that the body may have.
        began: When it began to arrive.
        about: The id of the prompt it is about, once known.
        why: Why it is refused, in a word.
        told: Whether the log has its line.
        taken: Whether it was handed to who answers it.
    """

    channel: Channel

    def __init__(self, limit: int, channel: Channel, *args: Any, **options: Any) -> None:
        super().__init__(channel, *args, **options)
        self.limit = limit
        self.refusal: Problem | None = None
        self._site: Edge = channel.site  # type: ignore[attr-defined]
        self.began: float = self._site.reactor.seconds()
        self.about = self.why = ""
        self.told = self.taken = False
        self._give_up: Callable[[], object] | None = None
        self._body = BytesIO()
        self._size = 0
        self._counted = 0
        self._gone = False

    def body(self) -> bytes:
        """The whole body."""
        return self._body.getvalue()

    def take_body(self) -> bytes:
        """The whole body, which is then held by who takes it alone."""
        body = self._body.getvalue()
        self._body = self.content = BytesIO()
        return body

    def on_hang_up(self, give_up: Callable[[], object]) -> None:
        """Have a function called if the caller hangs up before it is answered."""
        if self._gone:
            give_up()
        else:
            self._give_up = give_up

    def route(self) -> str:
        """The path, without the scheme and host a proxy's client may send (RFC 9112, 3.2.2)."""
        path = self.path.decode("utf-8", "replace")
        return re.sub(r"\Ahttps?://[^/]*", "", path, flags=re.IGNORECASE) or "/"

    def gotLength(self, length: int | None) -> None:
        """Prepare for the body; one that waits for our word and is unwelcome is refused at once."""
        self.content = self._body
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
            self.requestHeaders.removeHeader(b"expect")  # else Twisted tells it to go on
            self._refuse_and_close(self.refusal)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a piece of the body, or drop it."""
        self._size += len(data)
        if self.refusal is None and self._size > self.limit:
            self._drop(too_large(self.limit))
        if self.refusal is None and self._size > SMALL_BODY and not self._count():
            self._drop(
                Problem(
                    503,
                    "too many large bodies arrive at once: send it again later",
                    _SOON,
                )
            )
        if self.refusal is None:
            self._body.write(data)
        if max(self._size, self.channel.arrived) > DROPPED_AT_MOST * self.limit:
            self._refuse_and_close(self.refusal or too_large(self.limit))

    def connectionLost(self, reason: Failure) -> None:
        """Take note that nobody listens any more; who took the request still holds its body."""
        self._gone = True
        if not self.taken:
            self._release()
        super().connectionLost(reason)
        if self._give_up is not None:
            self._give_up()

    def answer(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str | tuple[str, ...]] | None = None,
        media_type: str = "application/json",
    ) -> None:
        """Send a response, unless the caller has hung up."""
        self._release()
        if self._gone:
            self.why = "hung_up"
            self.tell(status, 0)
            return
        self.tell(status, len(body))
        self.setResponseCode(status, HTTPStatus(status).phrase.encode("ascii"))
        self.setHeader("Content-Type", media_type)
        self.setHeader("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            values = [value] if isinstance(value, str) else list(value)
            self.responseHeaders.setRawHeaders(name, values)
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def refuse(self, problem: Problem) -> None:
        """Send a problem."""
        self.why = problem.word
        self._site.refused(self, problem)
        self.answer(problem.status, problem.body(), problem.headers, "application/problem+json")

    def begin(self, headers: Mapping[str, str], producer: IPushProducer) -> None:
        """Begin a response that has no foreseeable end; `send` goes on with it.

        Args:
            headers: Its headers.
            producer: Told to pause while what was sent is not read, and to resume.
        """
        self._release()
        for name, value in headers.items():
            self.setHeader(name, value)
        self.registerProducer(producer, True)  # noqa: FBT003 - Twisted's own

    def send(self, data: bytes) -> None:
        """Send a piece, unless the caller has hung up."""
        if not self._gone:
            self.write(data)

    def abort(self) -> None:
        """Drop the connection at once, and what is still unsent."""
        if not self._gone:
            self.channel.abort()

    def _drop(self, refusal: Problem) -> None:
        self.refusal = refusal
        self._body.truncate(0)
        self._release()
        self.channel.let_end_within(DROPPED_FOR)

    def _refuse_and_close(self, refusal: Problem) -> None:
        """Answer before the body's end."""
        self._release()
        self._gone = True
        self._site.refused(self, refusal)
        self.channel.refuse(refusal)

    def tell(self, status: int, size: int) -> None:
        """Have the answer's status, and its body's bytes, noted once."""
        if not self.told:
            self.told = True
            self._site.access(self, status, size)

    def _count(self) -> bool:
        """Take note of what is held; whether it may be."""
        more = self._size - self._counted
        if self._site.held + more > max(BODIES_AT_MOST, 2 * self.limit):
            return False
        self._counted += more
        self._site.held += more
        return True

    def _release(self) -> None:
        self._site.held -= self._counted
        self._counted = 0


Admits = Callable[[BoundedRequest], Problem | None]
"""Says of a request whose head alone is there (`method`, `path`, headers) why it is refused."""
Refused = Callable[[BoundedRequest, Problem], None]
"""Takes note of a request that is refused, and why."""
Access = Callable[[BoundedRequest, int, int], None]
"""Takes note of a request, the status it is answered with, and the bytes of the answer's body."""
