"""The Display sink: prints the CloudEvents it receives over HTTP, as indented JSON."""

import re
import sys
from typing import Any, ClassVar, TextIO

from attrs import define, field
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTCP
from twisted.logger import ILogObserver
from twisted.python import usage
from twisted.python.components import Componentized

from chatgpt_source.clock import steady
from chatgpt_source.display.printer import Printer, Unread
from chatgpt_source.display.rendering import render_events
from chatgpt_source.http.listen import listen, port_string
from chatgpt_source.http.listen.probe import probe_port
from chatgpt_source.http.listen.string import PortUnavailable
from chatgpt_source.http.server import BoundedRequest, BoundedSite, Problem
from chatgpt_source.http.server.events import quoted, read_events
from chatgpt_source.log import get_logger, is_stdout_the_log, set_format, stdout
from chatgpt_source.log.lines import flush

MAX_BODY = 16 * 2**20
"""Bytes that a body may have; a larger one gets a 413."""
RETRY_AFTER = 5
"""Seconds until a sender may try again, while the output is not read."""

log = get_logger(__name__)


class Display:
    """Accepts events at every path, prints them, and counts them.

    Args:
        printer: Prints them.

    Attributes:
        count: How many events have been printed.
    """

    def __init__(self, printer: Printer) -> None:
        self.count = 0
        self._printer = printer
        self._trouble = ""

    async def answer(self, request: BoundedRequest) -> None:
        """Answer 200 with no body; to an event, once it is printed.

        Raises:
            Problem: With what is wrong with the request.
        """
        healthz = request.route() == "/healthz"
        headers: dict[str, str] = {}
        if request.method == b"OPTIONS":
            # The handshake of HTTP 1.1 Web Hooks for Event Delivery 1.0.2, 4.
            origin = request.only_header("webhook-request-origin") or "*"
            headers = {
                "Allow": "POST",
                "WebHook-Allowed-Origin": origin,
                "WebHook-Allowed-Rate": "*",
            }
        elif request.method == b"POST":
            await self._take(request)
        elif not (healthz and request.method in {b"GET", b"HEAD"}):
            allowed = "GET, HEAD, OPTIONS, POST" if healthz else "OPTIONS, POST"
            raise Problem(405, f"the method must be one of {allowed}", {"Allow": allowed})
        request.answer(200, b"", headers)

    async def _take(self, request: BoundedRequest) -> None:
        encoding = self._printer.encoding
        events = read_events(request.requestHeaders, request.body())
        data = render_events(events, encoding).encode(encoding)
        size = len(events)
        first = {name: quoted(events[0][name]) for name in ("id", "type")} if size == 1 else {}
        del events  # they may be large, and printing may wait
        await self._print(data)
        self.count += size
        if size == 1:
            log.info("event {count}: id {id}, type {type}", count=self.count, **first)
        else:
            log.info("{count} events, with a batch of {size}", count=self.count, size=size)

    async def _print(self, data: bytes) -> None:
        try:
            await self._printer.print(data)
        except Unread:
            self._tell("the output is not read: answering 503")
            again = {"Retry-After": str(RETRY_AFTER)}
            raise Problem(503, "the output is not read: send it again later", again) from None
        except (OSError, ValueError) as error:  # ValueError: the stream has been closed
            reason = getattr(error, "strerror", None) or str(error)
            self._tell(f"events can't be printed, answering 500: {reason}")
            raise Problem(500, f"the event can't be printed: {reason}") from None
        self._trouble = ""

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.error("{trouble}", trouble=trouble)
        self._trouble = trouble


class DisplaySite(BoundedSite):
    """The HTTP site of a Display sink that prints to `out`.

    Attributes:
        display: Its `count` is the number of events printed.
        printer: Prints the events.
    """

    def __init__(self, out: TextIO, reactor: Any) -> None:
        self.printer = Printer(out, reactor)
        self.display = Display(self.printer)
        super().__init__(reactor, self.display.answer, MAX_BODY)


@define(eq=False, repr=False, slots=False)
class DisplayService(Service):
    """Listens with `site` on `port` of `interface` while it runs.

    With `log_to_stdout`, it takes the log of the application it joins.
    """

    _reactor: IReactorTCP
    _port: int
    _interface: str
    _site: DisplaySite
    _log_to_stdout: bool = field(kw_only=True, default=False)
    _listening: IListeningPort | None = field(init=False, default=None)

    def setServiceParent(self, parent: Any) -> None:
        """Join an application; twistd's own log would wait for the reader of stdout."""
        if self._log_to_stdout and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, stdout())
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Listen, while ports under 1024 are still allowed.

        Raises:
            PortUnavailable: If the port has been taken since `probe_port` found it free.
        """
        steady(self._reactor)
        where = port_string(self._port, self._interface)
        self._listening = listen(self._reactor, where, self._site, "--port")
        log.info("the Display sink prints the events that arrive at port {port}", port=self._port)

    def stopService(self) -> Deferred[None]:
        """Stop listening; fires when the port is closed and nothing waits to be printed."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        super().stopService()
        listening, self._listening = self._listening, None
        stopped = listening.stopListening() if listening else None
        if stopped is not None:
            await stopped
        await self._site.printer.stop()
        flush()  # twistd may end this process by a signal after this


def port_number(text: str) -> int:
    """A TCP port from 1 to 65535.

    Raises:
        UsageError: for anything else.
    """
    if re.fullmatch("[0-9]{1,5}", text) and 0 < int(text) < 65536:
        return int(text)
    raise usage.UsageError(f"--port must be a whole number from 1 to 65535, not {quoted(text)}")


class Options(usage.Options):
    """The options of `twistd cloudevents-display`."""

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
        # Checked here and not at the start, so that it is one line also in the background.
        interface = probe_port(port)
    except PortUnavailable as error:
        raise SystemExit(str(error)) from None
    set_format("text")  # the log is text, like the events on the same stream
    real: Any = reactor
    to_stdout = is_stdout_the_log(options.parent or {})
    site = DisplaySite(sys.stdout, real)
    return DisplayService(real, port, interface, site, log_to_stdout=to_stdout)
