"""The Display sink: prints the CloudEvents it receives over HTTP, as indented JSON.

It takes the three content modes of the CloudEvents HTTP protocol binding 1.0.2 (structured,
binary, batched) and is stricter than the `cloudevents` library, which invents an absent `id`,
`specversion` and `time`, reads no batches and checks few types: what that library would mend, a
sink that shows senders their mistakes must refuse.
"""

import base64
import errno
import json
import re
import socket
import sys
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from io import BytesIO, StringIO
from typing import Any, ClassVar, TextIO, cast
from urllib.parse import unquote_to_bytes

from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime
from twisted.python import usage
from twisted.web import http
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from chatgpt_source.log import get_logger

MAX_BODY = 16 * 1024 * 1024
"""The largest body taken, in bytes; a larger one is answered with 413."""

MAX_TEXT = 4 * MAX_BODY
"""The most characters printed for one body: deep nesting, indented, grows without bounds."""

EXPECTED = (
    "send a CloudEvent 1.0: Content-Type application/cloudevents+json (one event), "
    "application/cloudevents-batch+json (a JSON array of events), "
    "or ce-id, ce-source, ce-type and ce-specversion headers with the data as the body"
)
"""What the sink takes, for those who sent something else."""

_log = get_logger(__name__)

_DATA = ("data", "data_base64")
_STRINGS = ("specversion", "id", "source", "type", "datacontenttype", "dataschema", "subject")
_INT32 = range(-(2**31), 2**31)
# What the type String leaves out: controls, surrogates, noncharacters (CloudEvents 1.0.2, 2.1).
_NOT_IN_STRINGS = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:)(\d\d)(?:\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_URI_REFERENCE = r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+"
_FORMS = {
    "source": (re.compile(_URI_REFERENCE), "a URI-reference (RFC 3986)"),
    "dataschema": (re.compile(f"[A-Za-z][A-Za-z0-9+.-]*:{_URI_REFERENCE}"), "an absolute URI"),
    "datacontenttype": (
        re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+\s*(;.*)?", re.ASCII),
        "a media type",
    ),
}
_JSON_TYPE = re.compile(r"(application|text)/json|[^/]+/[^/]+\+json")
_CHARSET = re.compile(r""";\s*charset\s*=\s*["']?([^"';\s]+)""", re.IGNORECASE)
_CODECS = {"utf-8": "utf-8", "utf8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "latin-1"}
_TERMINAL_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


class Refused(Exception):
    """A request that is not printed.

    Attributes:
        detail: what is wrong, and what was expected instead.
        status: the HTTP status to answer with.
    """

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


def read_events(headers: Headers, body: bytes) -> list[dict[str, Any]]:
    """The events of one request, each in the form of the CloudEvents JSON format 1.0.2.

    Nothing is added, left out or changed: a structured event is the JSON object that was sent, a
    binary one its structured equivalent. The modes are told apart as in the HTTP binding, 3.

    Raises:
        Refused: with 400 for what is malformed, 415 for formats that can't be read.
    """
    content_type = _single(headers, b"content-type")
    media_type = _media_type(content_type)
    if headers.getRawHeaders(b"content-encoding", [b"identity"]) != [b"identity"]:
        raise Refused("compressed bodies are not read: send it without Content-Encoding", 415)
    if media_type.startswith("application/cloudevents"):
        if _CODECS.get(_charset(content_type)) != "utf-8":
            raise Refused("JSON is UTF-8 (RFC 8259): leave charset out or name UTF-8", 415)
        if media_type == "application/cloudevents+json":
            return [check_event(parse_json(body))]
        if media_type == "application/cloudevents-batch+json":
            return _check_batch(parse_json(body))
        raise Refused(f"the format {_quoted(media_type)} can't be read: {EXPECTED}", 415)
    attributes = {
        name.decode("latin-1").lower()[3:]: _decoded(headers, name)
        for name, _ in headers.getAllRawHeaders()
        if name.lower().startswith(b"ce-")
    }
    if not attributes:
        raise Refused(f"this is not a CloudEvent: {EXPECTED}")
    return [check_event(_from_binary(attributes, content_type, body))]


def parse_json(body: bytes) -> Any:
    """The JSON value that is `body`, with NaN, the infinities and what overflows refused.

    Raises:
        Refused: with 400, saying where it stops being JSON (RFC 8259).
    """
    try:
        return json.loads(body.decode(), parse_constant=_not_a_number, parse_float=_finite)
    except RecursionError:
        raise Refused("the JSON is nested too deeply") from None
    except ValueError as error:
        raise Refused(f"the body is not JSON in UTF-8: {error}") from None


def check_event(event: Any) -> dict[str, Any]:
    """`event` itself, unchanged, if it is a CloudEvent 1.0 in the JSON format.

    Raises:
        Refused: with 400, naming the attribute and what it must be.
    """
    if not isinstance(event, dict):
        raise Refused("an event must be a JSON object")
    # A null attribute is an absent one (JSON format, 2.2).
    attributes = {
        name: value for name, value in event.items() if name not in _DATA and value is not None
    }
    missing = [name for name in ("specversion", "id", "source", "type") if name not in attributes]
    if missing:
        raise Refused(f"required and missing: {', '.join(missing)}")
    if attributes["specversion"] != "1.0":
        raise Refused("specversion must be the string '1.0', the one version shown here")
    for name, value in attributes.items():
        attributes[name] = _checked(name, value)
    try:
        CloudEvent(attributes)
    except CloudEventValidationError as error:
        problems = "; ".join(str(found[0]) for found in error.errors.values())
        raise Refused(problems) from None
    if event.get("data_base64") is not None:
        if "data" in event:
            raise Refused("an event has data or data_base64, not both")
        _check_base64(event["data_base64"])
    return event


def render_events(events: list[dict[str, Any]], encoding: str | None) -> str:
    """Indented JSON, a newline after each event, that terminals and streams take.

    Args:
        events: in the CloudEvents JSON format.
        encoding: the stream's; None is UTF-8. What it lacks is escaped, as JSON can.

    Raises:
        Refused: with 400 for what is nested too deeply to be printed, 413 for what indentation
            makes longer than `MAX_TEXT`.
    """
    text = _indented(events, ascii_only=False)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        text = _indented(events, ascii_only=True)
    return text.translate(_TERMINAL_CONTROLS)


def _indented(events: list[dict[str, Any]], *, ascii_only: bool) -> str:
    encoder = json.JSONEncoder(indent=2, ensure_ascii=ascii_only)
    text = StringIO()
    try:
        for event in events:
            for piece in encoder.iterencode(event):
                text.write(piece)
                if text.tell() > MAX_TEXT:
                    raise Refused(f"printed, it would be over {MAX_TEXT} characters", 413)
            text.write("\n")
    except RecursionError:
        raise Refused("the JSON is nested too deeply") from None
    return text.getvalue()


def _check_batch(batch: Any) -> list[dict[str, Any]]:
    if not isinstance(batch, list):
        raise Refused("a batch must be a JSON array of events")
    return [_check_indexed(index, event) for index, event in enumerate(batch)]


def _check_indexed(index: int, event: Any) -> dict[str, Any]:
    try:
        return check_event(event)
    except Refused as error:
        raise Refused(f"event at index {index} of the batch: {error.detail}") from None


def _checked(name: str, value: Any) -> Any:
    """An attribute's value as the library wants it: its type is right, a time is a datetime."""
    where = f"attribute {_quoted(name)}"
    if not re.fullmatch("[a-z0-9]+", name):
        raise Refused(f"{where}: names are lower-case letters a-z and digits only")
    if name == "time":
        return _time(value)
    if not isinstance(value, str):
        if name in _STRINGS or not isinstance(value, int):
            wanted = "a string" if name in _STRINGS else "a string, a boolean or an integer"
            raise Refused(f"{where} must be {wanted}")
        if value not in _INT32:
            raise Refused(f"{where} must be between -2147483648 and 2147483647")
        return value
    if _NOT_IN_STRINGS.search(value):
        raise Refused(f"{where} must hold no control, surrogate or noncharacter")
    form, description = _FORMS.get(name, (None, ""))
    if form and not form.fullmatch(value):
        raise Refused(f"{where} must be {description}, not {_quoted(value)}")
    return value


def _time(value: Any) -> datetime:
    match = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    with suppress(ValueError):
        if match:
            date, hours, seconds, offset = match.groups()
            seconds = "59" if seconds == "60" else seconds  # a leap second
            offset = "+00:00" if offset in "Zz" else offset
            return datetime.fromisoformat(f"{date}T{hours}{seconds}{offset}")
    raise Refused("attribute 'time' must be an RFC 3339 time such as 2026-01-31T12:00:00Z")


def _check_base64(encoded: Any) -> None:
    with suppress(ValueError):
        if isinstance(encoded, str):
            base64.b64decode(encoded, validate=True)
            return
    raise Refused("data_base64 must be a string in Base64 (RFC 4648)")


def _from_binary(
    attributes: dict[str, Any], content_type: str | None, body: bytes
) -> dict[str, Any]:
    """The structured equivalent of an event in binary mode (JSON format, 3.1)."""
    for name in ("datacontenttype", *_DATA):
        if name in attributes:
            raise Refused(f"ce-{name} is no header: data is the body, its type the Content-Type")
    if content_type is not None:
        attributes["datacontenttype"] = content_type
    if not body:
        return attributes
    if not content_type or _JSON_TYPE.fullmatch(_media_type(content_type)):
        try:
            return {**attributes, "data": parse_json(body)}
        except Refused as error:
            if content_type:
                raise Refused(f"the Content-Type says JSON, but {error.detail}") from None
    codec = _CODECS.get(_charset(content_type))
    with suppress(UnicodeDecodeError):
        if codec:
            return {**attributes, "data": body.decode(codec)}
    return {**attributes, "data_base64": base64.b64encode(body).decode()}


def _single(headers: Headers, name: bytes) -> str | None:
    values = headers.getRawHeaders(name, [])
    shown = name.decode("latin-1").lower()
    if len(values) > 1:
        raise Refused(f"the header {shown} came {len(values)} times: send it once")
    try:
        return values[0].decode() if values else None
    except UnicodeDecodeError:
        raise Refused(f"the header {shown} is not UTF-8") from None


def _decoded(headers: Headers, name: bytes) -> str:
    """A ce- header's value, unquoted and percent-decoded once (HTTP binding, 3.1.3.2)."""
    value = _single(headers, name) or ""
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError:
        shown = name.decode("latin-1").lower()
        raise Refused(f"the header {shown} is not percent-encoded UTF-8") from None


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _charset(content_type: str | None) -> str:
    match = _CHARSET.search(content_type or "")
    return match[1].lower() if match else "utf-8"


def _quoted(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:80] + "...")


def _not_a_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number is too large")
    return number


class Display(Resource):
    """Takes events at every path, prints them, and keeps the running count.

    Attributes:
        count: how many events have been printed.
    """

    isLeaf = True

    def __init__(self, out: TextIO) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self._out = out
        self._out_broken = False

    def render(self, request: Request) -> bytes:
        """Answer 200 with no body, or say in problem+json (RFC 9457) why not."""
        try:
            return self._answer(request)
        except Refused as error:
            return _problem(request, error)

    def _answer(self, request: Request) -> bytes:
        healthz = request.path == b"/healthz"
        if request.method == b"OPTIONS":
            # The handshake of HTTP 1.1 Web Hooks for Event Delivery 1.0.2, 4.
            origin = request.getHeader(b"webhook-request-origin") or b"*"
            request.responseHeaders.setRawHeaders(b"allow", [b"POST"])
            request.responseHeaders.setRawHeaders(b"webhook-allowed-origin", [origin])
            request.responseHeaders.setRawHeaders(b"webhook-allowed-rate", [b"*"])
        elif request.method == b"POST":
            self._take(cast(_CappedRequest, request))
        elif not (healthz and request.method in (b"GET", b"HEAD")):
            allowed = "GET, HEAD, OPTIONS, POST" if healthz else "OPTIONS, POST"
            request.responseHeaders.setRawHeaders("allow", [allowed])
            raise Refused(f"this method has no meaning here: use {allowed}", 405)
        return b""

    def _take(self, request: "_CappedRequest") -> None:
        if request.too_large:
            raise Refused(f"a body may have at most {MAX_BODY} bytes", 413)
        events = read_events(request.requestHeaders, request.content.getvalue())
        self._print(render_events(events, self._out.encoding))
        self.count += len(events)
        if len(events) == 1:
            _log.info(
                "event {count}: id {id}, type {type}",
                count=self.count,
                id=_quoted(events[0]["id"]),
                type=_quoted(events[0]["type"]),
            )
        else:
            _log.info("{count} events, with a batch of {size}", count=self.count, size=len(events))

    def _print(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError) as error:  # ValueError: the stream has been closed
            reason = getattr(error, "strerror", None) or str(error)
            if not self._out_broken:
                _log.error("events can't be printed, answering 500: {reason}", reason=reason)
            self._out_broken = True
            raise Refused(f"the event can't be printed: {reason}", 500) from None
        self._out_broken = False


def _problem(request: Request, error: Refused) -> bytes:
    request.setResponseCode(error.status)
    request.responseHeaders.setRawHeaders(b"content-type", [b"application/problem+json"])
    status = HTTPStatus(error.status)
    members = {"title": status.phrase, "status": status.value, "detail": error.detail}
    return json.dumps({"type": "about:blank", **members}).encode()


class _CappedRequest(Request):
    """Keeps the body in memory up to `MAX_BODY`, and drops what comes after as it arrives."""

    too_large = False
    content: BytesIO

    def gotLength(self, length: int | None) -> None:  # noqa: ARG002 - Twisted's
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        if self.too_large or self.content.tell() + len(data) > MAX_BODY:
            self.too_large = True
            self.content = BytesIO()
        else:
            self.content.write(data)


class DisplaySite(Site):
    """What `reactor.listenTCP` takes to run a Display sink that prints to `out`.

    Attributes:
        display: the resource; its `count` is the number of events printed.
    """

    noisy = False

    def __init__(self, out: TextIO, reactor: IReactorTime) -> None:
        self.display = Display(out)
        super().__init__(  # type: ignore[no-untyped-call]
            self.display, _CappedRequest, parsePOSTFormSubmission=False, reactor=reactor
        )

    def log(self, request: http.Request) -> None:
        """Write no access log: an event's own line says all there is to say."""


class DisplayService(Service):
    """Listens with `site` on `port` of `interface` while it runs."""

    def __init__(self, reactor: IReactorTCP, port: int, interface: str, site: Site) -> None:
        self._reactor = reactor
        self._address = (port, interface)
        self._site = site
        self._listening: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """Listen, while ports under 1024 are still allowed.

        Raises:
            CannotListenError: if the port has been taken since `probe` found it free.
        """
        port, interface = self._address
        self._listening = self._reactor.listenTCP(
            port,
            self._site,  # type: ignore[arg-type]
            backlog=1024,
            interface=interface,
        )

    def stopService(self) -> Deferred[None]:
        """Stop listening; fires when the port is free."""
        super().stopService()  # type: ignore[no-untyped-call]
        listening, self._listening = self._listening, None
        stopped = listening.stopListening() if listening else None
        return stopped or succeed(None)


def probe(port: int) -> str:
    """The interface to listen on: "::" for IPv6 and IPv4 alike, "0.0.0.0" where IPv6 is off.

    Raises:
        OSError: if the port can't be listened on.
    """
    try:
        return _probe(socket.AF_INET6, "::", port)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
    return _probe(socket.AF_INET, "0.0.0.0", port)  # noqa: S104 - a sink is for others to reach


def _probe(family: socket.AddressFamily, interface: str, port: int) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Twisted will
        candidate.bind((interface, port))
        candidate.listen(1)
    return interface


def port_number(text: str) -> int:
    """A TCP port from 1 to 65535.

    Raises:
        UsageError: for anything else.
    """
    if re.fullmatch("[0-9]{1,5}", text) and 0 < int(text) < 65536:
        return int(text)
    raise usage.UsageError(f"--port must be a whole number from 1 to 65535, not {_quoted(text)}")


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

    try:
        interface = probe(options["port"])
    except OSError as error:
        # Found out here and not when it starts, it is one line, in the foreground or not.
        raise SystemExit(f"can't listen on port {options['port']}: {error.strerror}") from None
    site = DisplaySite(sys.stdout, cast(IReactorTime, reactor))
    return DisplayService(cast(IReactorTCP, reactor), options["port"], interface, site)
