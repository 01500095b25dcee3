"""Reads whether a caller waits for the answer (RFC 7240), and in which form (RFC 9110). Pure."""

import re
from collections.abc import Iterator, Mapping
from enum import Enum

from attrs import frozen

from chatgpt_source.delivery.event import CONTENT_TYPE
from chatgpt_source.http.server import BoundedRequest, Problem

_ITEM = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
"""An element of a list; a comma in quotes does not end it."""
_SECONDS = re.compile("[0-9]{1,18}")
_QUALITY = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")


class Form(str, Enum):
    """The form of an answer, by the media type that asks for it; the first is the default."""

    STRUCTURED = CONTENT_TYPE
    BINARY = "application/json"
    TEXT = "text/plain"


@frozen
class Want:
    """A caller waits for the answer.

    Attributes:
        seconds: For how long.
        form: The form of the answer.
        applied: The preference, as `Preference-Applied` repeats it.
        reply: Whether the response is the only delivery of the event.
    """

    seconds: float
    form: Form
    applied: str
    reply: bool = False


def want_of(request: BoundedRequest, max_wait: float, reply: float = 0) -> Want | None:
    """How a caller waits for the answer; None if it does not.

    Args:
        request: The request.
        max_wait: The seconds that a caller may wait.
        reply: The seconds for which a request that prefers a reply waits; 0: it does not.

    Raises:
        Problem: 406 if the caller waits, but accepts no form of the answer.
    """
    if reply and prefers_reply(request):
        return Want(reply, form_of(request), "reply", reply=True)
    seconds = min(wait_of(request) or 0, int(max_wait))
    return Want(seconds, form_of(request), f"wait={seconds}") if seconds else None


def wait_of(request: BoundedRequest) -> int | None:
    """The seconds of `Prefer: wait`; None if there are none, or they are invalid."""
    value = _preferences(request).get("wait", "")
    return int(value) if _SECONDS.fullmatch(value) else None


def prefers_reply(request: BoundedRequest) -> bool:
    """Whether the caller prefers the event as the response, as Knative's dispatcher does."""
    return _preferences(request).get("reply") == ""


def form_of(request: BoundedRequest) -> Form:
    """The form that the caller accepts best; one that it names comes before a wildcard's.

    Raises:
        Problem: 406 if it accepts none.
    """
    ranges = _media_ranges(request)
    if not ranges:
        return Form.STRUCTURED
    best = max(Form, key=lambda form: _rank(form, ranges))
    if not _rank(best, ranges)[0]:
        forms = ", ".join(form.value for form in Form)
        raise Problem(406, f"the Accept header must allow one of {forms}")
    return best


def _rank(form: Form, ranges: Mapping[str, float]) -> tuple[float, int]:
    """The quality of the most specific media range of a form, and how specific that is."""
    family = form.value.partition("/")[0] + "/*"
    for specific, name in ((3, form.value), (2, family), (1, "*/*")):
        if name in ranges:
            return ranges[name], specific
    return 0, 0


def _media_ranges(request: BoundedRequest) -> Mapping[str, float]:
    """The qualities of the media ranges; their other parameters do not matter."""
    found: dict[str, float] = {}
    for item in _items(request, "accept"):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        if _QUALITY.fullmatch(quality):
            found[name] = max(found.get(name, 0), min(1, float(quality)))
    if "*" in found:  # old clients of Java
        found.setdefault("*/*", found["*"])
    return found


def _preferences(request: BoundedRequest) -> Mapping[str, str]:
    """The preferences and their values; of one that comes several times, the first."""
    found: dict[str, str] = {}
    for item in _items(request, "prefer"):
        name, _, value = item.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def _items(request: BoundedRequest, header: str) -> Iterator[str]:
    """The elements of a header that is a list (RFC 9110, section 5.6.1)."""
    for value in request.requestHeaders.getRawHeaders(header.encode("ascii"), []):
        for item in _ITEM.findall(value.decode("latin-1")):
            if item.strip():
                yield item
