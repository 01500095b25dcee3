"""The configuration: from YAML and the environment, every mistake named by its key.

A mistake's line never holds the value it is about: a slip of YAML can put the token anywhere.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import attrs
import hyperlink
import yaml

from chatgpt_source.log import LEVELS

DEFAULT_FILE = Path("/vanus-connect/config/config.yml")
FILES_PER_CALL = 2
"""Open files one unit of `concurrency` may need: a call to the model and one to the target."""
FILES_KEPT_FREE = 200
"""Open files kept for callers, the journal and the process itself."""


class ConfigError(Exception):
    """What is wrong with the configuration.

    Attributes:
        mistakes: One line each, starting with the key, with what it must be.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class _Wrong(Exception):
    """A value is not what it must be; the text ends the sentence "`key` must be ..."."""


Reader = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("a string (in quotes, if YAML takes it for something else)")
    if not value.strip():
        raise _Wrong("a string that is not empty")
    if re.search("[\0\ud800-\udfff]", value):
        raise _Wrong("a string of whole characters, without NUL")
    return value


def _token(value: Any) -> str:
    token = _text(value).strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise _Wrong("the API key: printable ASCII without spaces")
    return token


def _url(value: Any) -> str:
    """A URL in ASCII, without its fragment: an internationalised name is encoded (RFC 3490)."""
    expected = "an http:// or https:// URL with a host and without user or password"
    try:
        text = _text(value).strip()
        if not text.isascii():
            text = hyperlink.URL.from_text(text).to_uri().to_text()
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port  # raises if it is not a port
        if ":" in host:
            IPv6Address(host)
    except (_Wrong, ValueError, TypeError) as error:
        raise _Wrong(expected) from error
    known = parts.scheme in {"http", "https"} and re.fullmatch(r"[\w.:-]+", host) and port != 0
    if not known or parts.username is not None or re.search(r"[\x00-\x20\x7f\\]", text):
        raise _Wrong(expected)
    return text.partition("#")[0]


def _whole(low: int, high: int) -> Reader:
    def read(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            kind = "positive whole number" if low == 1 else "whole number, 0 or more"
            raise _Wrong(f"a {kind}, at most {high}")
        return value

    return read


def _seconds(*, above_zero: bool) -> Reader:
    def read(value: Any) -> float:
        expected = f"a number of seconds, {'more than 0' if above_zero else '0 or more'}"
        if type(value) not in {int, float} or not 0 <= value <= 1e9:
            raise _Wrong(expected)
        if above_zero and value == 0:
            raise _Wrong(expected)
        return float(value)

    return read


def _zone(value: Any) -> ZoneInfo:
    try:
        return ZoneInfo(_text(value))
    except (_Wrong, ValueError, OSError, LookupError) as error:
        raise _Wrong("the IANA name of a time zone, like UTC or America/New_York") from error


def _log_level(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in LEVELS:
        raise _Wrong(f"one of {', '.join(LEVELS)}")
    return value.lower()


def _log_config(value: Any) -> str | None:
    if not isinstance(value, dict) or set(value) - {"log_level"}:
        raise _Wrong("a mapping with the one key `log_level`")
    try:
        level = value.get("log_level")
        return None if level is None or level == "" else _log_level(level)
    except _Wrong as wrong:
        raise _Wrong(f"a mapping whose `log_level` is {wrong}") from wrong


def _key(
    read: Reader,
    default: Any = attrs.NOTHING,
    *,
    key: str = "",
    env: tuple[str, ...] = (),
    read_env: Reader | None = None,
) -> Any:
    """A setting: how to read it, and the variables it is taken from if the file lacks it."""
    metadata = {"read": read, "key": key, "env": env, "read_env": read_env or read}
    return attrs.field(default=default, repr=read is not _token, metadata=metadata)


_UTC = ZoneInfo("UTC")


@attrs.frozen
class Config:
    """The settings, checked; the README's table says what each means. Durations are seconds."""

    target: str = _key(_url, env=("CONNECTOR_TARGET", "K_SINK"))
    token: str = _key(_token, env=("OPENAI_API_KEY",))
    port: int = _key(_whole(1, 65535), 8080)
    everyday_limit: int = _key(_whole(1, 10**12), 100)
    timezone: ZoneInfo = _key(_zone, _UTC)  # noqa: RUF009 - attrs, not dataclasses
    base_url: str = _key(_url, "https://api.openai.com/v1", env=("OPENAI_BASE_URL",))
    model: str = _key(_text, "gpt-6-luna")
    system_prompt: str | None = _key(_text, None)
    max_tokens: int | None = _key(_whole(1, 10**9), None)
    openai_timeout: float = _key(_seconds(above_zero=True), 120.0)
    concurrency: int = _key(_whole(1, 10**6), 64)
    journal: str = _key(_text, "journal.sqlite")
    send_event_attempts: int = _key(_whole(0, 10**9), 0)
    dead_letter: str | None = _key(_url, None)
    give_up_after: float = _key(_seconds(above_zero=False), 86400.0)
    max_body_size: int = _key(_whole(1, 2**28), 1048576)
    max_backlog: int = _key(_whole(1, 10**9), 100000)
    keep: float = _key(_seconds(above_zero=False), 604800.0)
    drain_timeout: float = _key(_seconds(above_zero=False), 8.0)
    log_level: str = _key(
        _log_config, "info", key="log_config", env=("LOG_LEVEL",), read_env=_log_level
    )
    origin: str = "the environment"
    """Where the settings came from, for the log."""
    warnings: tuple[str, ...] = ()
    """What the daemon should say about settings that do nothing."""


_SETTINGS = {
    field.metadata["key"] or field.name: field
    for field in attrs.fields(Config)
    if "read" in field.metadata
}
_WITHOUT_EFFECT = {
    "store_config": "this connector keeps its state in `journal`",
    "batch_size": "events are sent one at a time",
    "context_count": "each prompt is asked on its own",
}


def load(environ: Mapping[str, str], default_file: Path = DEFAULT_FILE) -> Config:
    """Read the file that CONNECTOR_CONFIG names, else `default_file` if there is one.

    Args:
        environ: The environment.
        default_file: Where the file is looked for unless CONNECTOR_CONFIG says.

    Raises:
        ConfigError: With every mistake there is.
    """
    document, origin = _document(environ, default_file)
    mistakes = [
        line for key in document if (line := _objection(key, document[key], document.get("token")))
    ]
    settings: dict[str, Any] = {}
    for key, setting in _SETTINGS.items():
        try:
            value = _value(key, setting, document, environ)
        except ConfigError as error:  # noqa: PERF203 - all mistakes at once
            mistakes += error.mistakes
        else:
            if value is not None:
                settings[setting.name] = value
    if mistakes:
        raise ConfigError(*mistakes)
    warnings = tuple(
        f"`{key}` does nothing here: {why}"
        for key, why in _WITHOUT_EFFECT.items()
        if key in document
    )
    return Config(**settings, origin=origin, warnings=warnings)


def require_files(config: Config, limit: int) -> None:
    """Check that a process that may open `limit` files can carry `concurrency`.

    Raises:
        ConfigError: If it can't.
    """
    most = (limit - FILES_KEPT_FREE) // FILES_PER_CALL
    if config.concurrency > most:
        advice = "lower it, or raise that limit" if most > 0 else "raise that limit"
        raise ConfigError(
            f"`concurrency` must be at most {max(0, most)} with a hard limit of {limit} open files:"
            f" {advice} (`ulimit -Hn`)"
        )


def _value(
    key: str,
    setting: "attrs.Attribute[Any]",
    document: Mapping[str, Any],
    environ: Mapping[str, str],
) -> Any:
    """What the file says of a setting, else the environment; None where neither does.

    Raises:
        ConfigError: If it is wrong, or missing and required.
    """
    variables: tuple[str, ...] = setting.metadata["env"]
    value = document.get(key)
    if value is not None and not (value == "" and variables):
        value = _read(f"`{key}`", setting.metadata["read"], value)
        if value is not None:
            return value
    for variable in variables:
        if environ.get(variable, "").strip():
            name = f"{variable} (for `{key}`)"
            return _read(name, setting.metadata["read_env"], environ[variable])
    if setting.default is attrs.NOTHING:
        raise ConfigError(
            f"`{key}` is missing: set it in the config file, or {' or '.join(variables)}"
            " in the environment"
        )
    return None


def _read(name: str, read: Reader, value: Any) -> Any:
    try:
        return read(value)
    except _Wrong as wrong:
        raise ConfigError(f"{name} must be {wrong}") from wrong


def _objection(key: object, value: Any, token: Any) -> str | None:
    """What is wrong with a key of the file being there at all."""
    if key in _SETTINGS or key in _WITHOUT_EFFECT:
        return None
    if key == "vanus":
        endpoint, eventbus = "<gateway>", "<eventbus>"
        if isinstance(value, dict):
            endpoint = _shown(value.get("endpoint"), endpoint, token)
            eventbus = _shown(value.get("eventbus"), eventbus, token)
        return (
            "`vanus` must be replaced by the gateway's URL:"
            f" target: http://{endpoint}/gateway/{eventbus}"
        )
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z_]{1,40}", key):
        return (
            "a key is unknown and not shown, as it may be a secret: is a colon or a space missing?"
        )
    near = difflib.get_close_matches(key, _SETTINGS, 1)
    advice = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(_SETTINGS)}"
    return f"`{key}` is not a known key: {advice}"


def _shown(value: Any, otherwise: str, token: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[\w.:\[\]-]+", value) and value != token
    return str(value) if plain else otherwise


def _document(environ: Mapping[str, str], default_file: Path) -> tuple[dict[Any, Any], str]:
    """The file's mapping and its name; an empty mapping where there is no file."""
    named = environ.get("CONNECTOR_CONFIG")
    path = Path(named) if named else default_file
    where = f"config file {path}" + (" (named by CONNECTOR_CONFIG)" if named else "")
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        if named:
            raise ConfigError(
                f"{where} does not exist: create it, or unset the variable"
            ) from error
        return {}, "the environment"
    except PermissionError as error:
        raise ConfigError(
            f"{where} can't be read by this user: run as its owner"
            ' (docker run --user "$(id -u):0")'
            " or make it readable (chmod a+r)"
        ) from error
    except OSError as error:
        raise ConfigError(f"{where} can't be read: {error.strerror}") from error
    document = _parsed(raw, where)
    if document is None:
        return {}, str(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{where} must hold a mapping: lines of `key: value`, with a space")
    return document, str(path)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem="twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parsed(raw: bytes, where: str) -> Any:
    try:
        return yaml.load(raw, Loader=_Loader)  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = "a key is given twice" if error.problem == "twice" else "it is not valid YAML"
        raise ConfigError(f"{where}: {what}{place}") from None
    except Exception:  # noqa: BLE001 - yaml's constructors raise what they please
        raise ConfigError(f"{where} must be YAML in UTF-8") from None
