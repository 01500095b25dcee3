"""The Display sink: prints the CloudEvents it receives over HTTP, as indented JSON."""

import re
import sys
from typing import Any, ClassVar, TextIO

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime
from twisted.python import usage

from chatgpt_source.clock import steady
from chatgpt_source.display.events import InvalidEvent, quoted, read_events, render_events
from chatgpt_source.http.listen import PortUnavailable, listen, port_string, probe_port, taken
from chatgpt_source.http.server import BoundedRequest, BoundedSite, Problem, too_large
from chatgpt_source.log import get_logger, set_format

MAX_BODY = 16 * 2**20
"""The largest body taken, in bytes; a larger one is answered with 413."""

log = get_logger(__name__)


class Display:
    """Takes events at every path, prints them, and keeps the running count.

    Args:
        out: Where to print.

    Attributes:
        count: How many events have been printed.
    """

    def __init__(self, out: TextIO) -> None:
        self.count = 0
        self._out = out
        self._out_broken = False

    async def answer(self, request: BoundedRequest) -> None:
        """Answer 200 with no body.

        Raises:
            Problem: With what is wrong with the request.
        """
        healthz = request.route() == "/healthz"
        headers: dict[str, str] = {}
        if request.method == b"OPTIONS":
            # The handshake of HTTP 1.1 Web Hooks for Event Delivery 1.0.2, 4.
            origin = request.getHeader("webhook-request-origin") or "*"
            headers = {
                "Allow": "POST",
                "WebHook-Allowed-Origin": origin,
                "WebHook-Allowed-Rate": "*",
            }
        elif request.method == b"POST":
            self._take(request)
        elif not (healthz and request.method in {b"GET", b"HEAD"}):
            allowed = "GET, HEAD, OPTIONS, POST" if healthz else "OPTIONS, POST"
            raise Problem(
                405, f"this method has no meaning here: use {allowed}", {"Allow": allowed}
            )
        request.answer(200, b"", headers)

    def _take(self, request: BoundedRequest) -> None:
        if request.oversized:
            raise too_large(request.limit)
        try:
            events = read_events(request.requestHeaders, request.body())
            text = render_events(events, self._out.encoding)
        except InvalidEvent as error:
            raise Problem(error.status, error.detail) from None
        self._print(text)
        self.count += len(events)
        if len(events) == 1:
            log.info(
                "event {count}: id {id}, type {type}",
                count=self.count,
                id=quoted(events[0]["id"]),
                type=quoted(events[0]["type"]),
            )
        else:
            log.info("{count} events, with a batch of {size}", count=self.count, size=len(events))

    def _print(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream has been closed
            reason = getattr(error, "strerror", None) or str(error)
            if not self._out_broken:
                log.error("events can't be printed, answering 500: {reason}", reason=reason)
            self._out_broken = True
            raise Problem(500, f"the event can't be printed: {reason}") from None
        self._out_broken = False


class DisplaySite(BoundedSite):
    """What `listen` takes to run a Display sink that prints to `out`.

    Attributes:
        display: Its `count` is the number of events printed.
    """

    def __init__(self, out: TextIO, reactor: IReactorTime) -> None:
        self.display = Display(out)
        super().__init__(reactor, self.display.answer, MAX_BODY)


class DisplayService(Service):
    """Listens with `site` on `port` of `interface` while it runs."""

    def __init__(self, reactor: IReactorTCP, port: int, interface: str, site: BoundedSite) -> None:
        self._reactor = reactor
        self._where = port_string(port, interface)
        self._site = site
        self._listening: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """Listen, while ports under 1024 are still allowed.

        Raises:
            PortUnavailable: If the port has been taken since `probe_port` found it free.
        """
        steady(self._reactor)
        self._listening = taken(listen(self._reactor, self._where, self._site, "--port"))

    def stopService(self) -> Deferred[None]:
        """Stop listening; fires when the port is free."""
        super().stopService()
        listening, self._listening = self._listening, None
        stopped = listening.stopListening() if listening else None
        return stopped or succeed(None)


def port_number(text: str) -> int:
    """A TCP port from 1 to 65535.

    Raises:
        UsageError: for anything else.
    """
    if re.fullmatch("[0-9]{1,5}", text) and 0 < int(text) < 65536:
        return int(text)
    raise usage.UsageError(f"--port must be a whole number from 1 to 65535, not {quoted(text)}")


class Options(usage.Options):
    """What `twistd cloudevents-display` takes."""

    optParameters: ClassVar = [
        ["port", "p", 8080, "TCP port to receive CloudEvents on.", port_number]
    ]


def makeService(options: Options) -> IService:
    """The Display sink as a service that prints to standard output.

    Raises:
        SystemExit: with one line that says why, if the port can't be listened on.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    port = options["port"]
    try:
        # Found out here and not when it starts, it is one line, in the foreground or not.
        interface = probe_port(port)
    except PortUnavailable as error:
        raise SystemExit(str(error)) from None
    set_format("text")  # among the events, which are for people too
    real: Any = reactor
    return DisplayService(real, port, interface, DisplaySite(sys.stdout, real))
