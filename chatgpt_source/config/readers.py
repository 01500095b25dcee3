"""Functions that read and check each kind of value, or say what was expected.

Their messages never hold the value: an error in the YAML can put a key anywhere.
"""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import hyperlink

from chatgpt_source import json_schema
from chatgpt_source.cloudevent import is_attribute, is_extension, is_string
from chatgpt_source.files import read_file
from chatgpt_source.http.pem import read_certificates
from chatgpt_source.log import LEVELS

Environ = Mapping[str, str]
Reader = Callable[[Any, Environ], Any]
"""Reads a value from YAML; the environment holds the secrets that the value may name."""

MOST_ZONE_NAME = 100
"""Characters of a time zone's name; the longest there is has a third of that."""


class Wrong(Exception):
    """A value is wrong; the text completes the sentence "`key` must be ..."."""


@contextmanager
def reworded(before: str, after: str = "") -> Iterator[None]:
    """Says more about what is wrong: puts text before and after the reader's own."""
    try:
        yield
    except Wrong as wrong:
        raise Wrong(f"{before}{wrong}{after}") from None


def text(value: Any, _: Environ) -> str:
    """Text that is not blank and can be encoded."""
    if not isinstance(value, str):
        raise Wrong("a string (in quotes, if YAML takes it for something else)")
    if not value.strip():
        raise Wrong("a string that is not empty")
    if re.search("[\0\ud800-\udfff]", value):
        raise Wrong("a string of whole characters, without NUL")
    return value


def endpoint(example: str) -> Reader:
    """An endpoint string of Twisted's; the port's opening checks the rest of it."""

    def read(value: Any, environ: Environ) -> str:
        if type(value) is int:
            raise Wrong(f"an endpoint string, not a number: for a port, write {example}")
        return text(value, environ)

    return read


def path_or(*schemes: str) -> Reader:
    """A path, or a URL of one of some schemes; another program checks the rest of that."""

    def read(value: Any, environ: Environ) -> str:
        given = text(value, environ)
        scheme, is_url, rest = given.partition("://")
        is_known = is_url and scheme in schemes and rest
        if not is_known and re.match(r"\s*(\w+:|(host|hostaddr|dbname|user|service)\s*=)", given):
            raise Wrong(f"a path, or a URL that begins with {schemes[0]}://")
        return given

    return read


def word(expected: str, characters: str = r"\x21-\x7e") -> Reader:
    """Text of the characters in a regular expression's class; by default, visible ASCII."""

    def read(value: Any, environ: Environ) -> str:
        given = text(value, environ).strip()
        if not re.fullmatch(f"[{characters}]+", given):
            raise Wrong(expected)
        return given

    return read


def url(value: Any, environ: Environ) -> str:
    """A URL in ASCII, without its fragment: an internationalised name is encoded (RFC 3490)."""
    expected = "an http:// or https:// URL with a host and without user or password"
    try:
        given = text(value, environ).strip()
        if not given.isascii():
            given = hyperlink.URL.from_text(given).to_uri().to_text()
        hyperlink.URL.from_text(given)  # the HTTP client accepts less than urlsplit
        parts = urlsplit(given)
        host, port = parts.hostname or "", parts.port  # raises if it is not a port
        if ":" in host:
            IPv6Address(host)
    except (Wrong, ValueError, TypeError) as error:
        raise Wrong(expected) from error
    known = parts.scheme in {"http", "https"} and re.fullmatch(r"[\w.:-]+", host) and port != 0
    if not known or parts.username is not None or re.search(r"[\x00-\x20\x7f\\]", given):
        raise Wrong(expected)
    return given.partition("#")[0]


def base_url(value: Any, environ: Environ) -> str:
    """The URL of the API, without the paths of its calls."""
    base = url(value, environ)
    for path in ("/chat/completions", "/responses"):
        if urlsplit(base).path.rstrip("/").endswith(path):
            raise Wrong(f"the URL before {path}, like https://api.openai.com/v1")
    return base


def _such(kind: Callable[[Any], Any], is_right: Callable[[Any], bool], expected: str) -> Reader:
    """A value for which a condition holds, as a type."""

    def read(value: Any, _: Environ) -> Any:
        if not is_right(value):
            raise Wrong(expected)
        return kind(value)

    return read


def whole(low: int, high: int) -> Reader:
    """A whole number in a range."""
    kind = "positive whole number" if low == 1 else "whole number, 0 or more"
    return _such(int, lambda v: type(v) is int and low <= v <= high, f"a {kind}, at most {high}")


def seconds(*, above_zero: bool) -> Reader:
    """A duration."""
    least = "more than 0" if above_zero else "0 or more"
    return _such(
        float,
        lambda v: _is_from(v, 0, 1e9) and not (above_zero and v == 0),
        f"a number of seconds, {least}",
    )


def number(low: float, high: float) -> Reader:
    """A number in a range."""
    return _such(float, lambda v: _is_from(v, low, high), f"a number from {low} to {high}")


def _is_from(value: Any, low: float, high: float) -> bool:
    return type(value) in {int, float} and low <= value <= high


def zone(value: Any, environ: Environ) -> ZoneInfo:
    """A time zone."""
    try:
        # zoneinfo looks for a package as deep as there are slashes
        return ZoneInfo(text(value, environ)[:MOST_ZONE_NAME])
    except (Wrong, ValueError, OSError, LookupError) as error:
        raise Wrong("the IANA name of a time zone, like UTC or America/New_York") from error


log_level = _such(
    str.lower, lambda v: isinstance(v, str) and v.lower() in LEVELS, f"one of {', '.join(LEVELS)}"
)
"""One of the Go connector's level names."""


def log_config(value: Any, environ: Environ) -> str | None:
    """The Go connector's `log_config`; its level, None if it has none."""
    if not isinstance(value, dict) or set(value) - {"log_level"}:
        raise Wrong("a mapping with the one key `log_level`")
    level = value.get("log_level")
    with reworded("a mapping whose `log_level` is "):
        return None if level is None or level == "" else log_level(level, environ)


def origins(value: Any, _: Environ) -> tuple[str, ...]:
    """A list of origins of web pages, as browsers send them (RFC 6454, 6.2)."""
    with suppress(ValueError):
        if isinstance(value, list):
            return tuple(map(_origin, value))
    raise Wrong(
        "a list of origins of pages, each like https://app.example.com or http://localhost:3000:"
        " http or https, the host, and the port unless it is the usual one; no path, no `*`"
    )


def _origin(value: Any) -> str:
    """An origin in its usual form; raises ValueError if it is none."""
    given = str(value).strip().lower()
    found = re.fullmatch(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?", given)
    if found is None or int(found[3] or 0) > 65535:
        raise ValueError("this is no origin")
    scheme, host, port = found.groups()
    if host.startswith("["):
        host = f"[{IPv6Address(host[1:-1])}]"
    usual = {"http": "80", "https": "443"}[scheme]
    return f"{scheme}://{host}" + (f":{port}" if port and port != usual else "")


def hosts(value: Any, _: Environ) -> tuple[str, ...]:
    """A list of host names, or `*` for every one (HTTP 1.1 Web Hooks, 4.1.1)."""
    names = [value] if value == "*" else value
    if isinstance(names, list) and all(map(_is_host, names)):
        return tuple(name.lower() for name in names)
    raise Wrong("a list of host names, each like eventgrid.azure.net, or `*` for every host")


def _is_host(value: Any) -> bool:
    label = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    return isinstance(value, str) and (
        value == "*" or bool(re.fullmatch(rf"(?=.{{1,253}}\Z){label}(\.{label})*", value))
    )


def pointer(value: Any, environ: Environ) -> str:
    """A JSON Pointer (RFC 6901) to a part of a document."""
    given = value if isinstance(value, str) else ""
    if not re.fullmatch("(/([^~/]|~[01])*)+", given):
        raise Wrong("a JSON Pointer (RFC 6901), like /issue/title")
    return text(given, environ)


def copies(value: Any, _: Environ) -> dict[str, str]:
    """A mapping of new extensions to the attributes of another event that they are copied from."""
    if isinstance(value, dict) and all(
        isinstance(name, str) and is_extension(name) and isinstance(of, str) and is_attribute(of)
        for name, of in value.items()
    ):
        return dict(value)
    raise Wrong(
        "a mapping of new extensions to attributes of the event that is answered, like"
        " {replyid: correlationid}; names are at most 64 lower-case letters and digits"
    )


def one_of(*words: str) -> Reader:
    """One of a few words."""
    return _such(str, lambda v: isinstance(v, str) and v in words, f"one of {', '.join(words)}")


yes_or_no = _such(bool, lambda v: type(v) is bool, "true or false")
"""A switch."""


def some_of(*words: str) -> Reader:
    """A list of some of a few words, each once."""
    return _such(
        tuple,
        lambda v: isinstance(v, list) and all(each in words and v.count(each) == 1 for each in v),
        f"a list of some of {', '.join(words)}, each once",
    )


def file(value: Any, environ: Environ) -> Path:
    """An absolute path: twistd changes folders, and a key is not taken for a path by mistake."""
    try:
        path = Path(text(value, environ))
    except Wrong:
        path = Path()
    if not path.is_absolute():
        raise Wrong("the absolute path of a file")
    return path


def members(reserved: Collection[str], settings: Mapping[str, str]) -> Reader:
    """A mapping that JSON can hold.

    Args:
        reserved: Members that the user must not set.
        settings: Members that have a setting of their own, and which.
    """

    def read(value: Any, _: Environ) -> dict[str, Any]:
        if not isinstance(value, dict) or not _is_json(value):
            raise Wrong("a mapping that JSON can hold: text, numbers, lists and mappings")
        for name in sorted(value):
            if name in settings:
                raise Wrong(f"without `{name}`: set `{settings[name]}` instead")
            if name in reserved:
                raise Wrong(f"without `{name}`, which the config can't set")
        return value

    return read


def response_format(value: Any, environ: Environ) -> Mapping[str, Any]:
    """The form of answers, with a schema that answers can be checked against."""
    form = callers_format(value, environ)
    if not _is_json(value):
        raise Wrong("a mapping that JSON can hold: text, numbers, lists and mappings")
    if form["type"] == "json_schema":
        for fault in filter(None, json_schema.faults([(form["json_schema"]["schema"],)])):
            raise Wrong(f"an object with a valid schema, but {fault}")
    return form


def callers_format(value: Any, _: Environ) -> Mapping[str, Any]:
    """The form of an answer, as the chat API has it; its schema is not checked."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise Wrong(
            "an object whose `type` is text, json_object or json_schema, like"
            ' {"type": "json_object"}'
        )
    given = value.get("json_schema")
    if kind == "json_schema" and not (
        isinstance(given, dict)
        and isinstance(given.get("schema"), dict)
        and isinstance(given.get("name"), str)
        and re.fullmatch("[A-Za-z0-9_-]{1,64}", given["name"])
    ):
        raise Wrong(
            "an object whose `json_schema` has a `schema`, which is an object, and a `name` of at"
            ' most 64 letters, digits, _ and -, like {"type": "json_schema", "json_schema":'
            ' {"name": "city", "schema": {"type": "object"}}}'
        )
    return dict(value)


def _is_json(value: Any) -> bool:
    """Whether JSON in UTF-8 brings the same value back; it does not if a key is not text."""
    try:
        encoded = json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
        return bool(json.loads(encoded) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def authorities_file(value: Any, environ: Environ) -> tuple[bytes, ...]:
    """The content of a PEM file of certificates."""
    path = file(value, environ)
    try:
        raw = read_file(path)
    except OSError as error:
        raise Wrong(f"the absolute path of a file that can be read ({error.strerror})") from None
    with reworded("the absolute path of a file that holds "):
        return _certificates(raw)


def authorities(value: Any, environ: Environ) -> tuple[bytes, ...]:
    """K_CA_CERTS: certificates in PEM (Knative's SinkBinding)."""
    return _certificates(text(value, environ).encode("utf-8"))


def _certificates(pem: bytes) -> tuple[bytes]:
    try:
        read_certificates(pem)
    except ValueError as error:
        raise Wrong(str(error)) from None
    return (pem,)


def extensions(value: Any, environ: Environ) -> dict[str, str]:
    """K_CE_OVERRIDES: JSON whose `extensions` go on every event (Knative's SinkBinding)."""
    try:
        document = json.loads(text(value, environ))
        given = document.get("extensions") or {}
        names = all(map(is_extension, given))
        values = all(isinstance(v, str) and is_string(v) for v in given.values())
    except (ValueError, AttributeError, TypeError, RecursionError):
        names = values = False
    if not names or not values:
        raise Wrong(
            'JSON like {"extensions": {"name": "value"}}, names of lower-case letters and digits'
            " that are not attributes of CloudEvents itself"
        )
    return dict(given)
