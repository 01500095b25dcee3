"""An HTTP server that passes all requests to one handler, and always sends a response."""

from collections.abc import Callable, Collection, Coroutine
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request as BaseRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from chatgpt_source.http.server.channel import Channel
from chatgpt_source.http.server.connections import MOST_CONNECTIONS, Connections
from chatgpt_source.http.server.problem import Problem
from chatgpt_source.http.server.request import Access, Admits, BoundedRequest, Refused
from chatgpt_source.http.server.scheduler import ReadScheduler
from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

Handler = Callable[[BoundedRequest], Coroutine[Deferred[Any], Any, None]]


class _Leaf(Resource):
    """Passes every request to one handler, and makes sure that it is answered."""

    isLeaf = True

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler

    def render(self, request: BoundedRequest) -> int:
        request.taken = True
        answering = Deferred.fromCoroutine(self._answer(request))
        answering.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: BoundedRequest) -> None:
        try:
            if request.refusal is not None:
                raise request.refusal
            await self._handler(request)
        except Problem as problem:
            request.refuse(problem)

    def _failed(self, failure: Failure, request: BoundedRequest) -> None:
        log_unexpected(log, "answering a request", failure)
        request.refuse(Problem(500, "an internal error occurred; the log says where"))


class BoundedSite(Site):
    """An HTTP server, without Twisted's slow access log.

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

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        handler: Handler,
        max_body_size: int,
        admits: Admits | None = None,
        connections_at_most: int = MOST_CONNECTIONS,
        refused: Refused = lambda *_: None,
        access: Access = lambda *_: None,
        probes: Collection[str] = (),
    ) -> None:
        super().__init__(
            _Leaf(handler),
            reactor=reactor,
            requestFactory=partial(BoundedRequest, max_body_size),
            parsePOSTFormSubmission=False,  # curl's default media type is not a form here
            timeout=None,  # Channel has deadlines of its own
        )
        self.held = 0
        self.refused = refused
        self.access = access
        self.probes = probes
        self.connections = Connections(
            reactor, min(connections_at_most, MOST_CONNECTIONS), keep=bool(probes)
        )
        self.admits = admits or _all_welcome
        self.protocol = partial(  # type: ignore[assignment,method-assign]
            Channel, self.connections, ReadScheduler(reactor)
        )

    def acceptableProtocols(self) -> list[bytes]:
        """Only HTTP/1.1: HTTP/2 would bypass the bounds of Channel."""
        return [b"http/1.1"]

    def log(self, request: BaseRequest) -> None:
        """Write nothing."""


def _all_welcome(_: BoundedRequest) -> Problem | None:
    return None
