"""Reads the configuration from YAML and the environment, and names every mistake by its key.

The line about a mistake never holds the value: an error in the YAML can put the token anywhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attrs

from chatgpt_source.config import readers, secrets
from chatgpt_source.config.credentials import Credentials, credentials
from chatgpt_source.config.document import read_document
from chatgpt_source.config.mistakes import ConfigError, objection
from chatgpt_source.config.readers import Reader, Wrong
from chatgpt_source.config.secret import Secret
from chatgpt_source.http.client.proxy import Proxies, ProxyMistake
from chatgpt_source.log import FORMATS

__all__ = [
    "DEFAULT_FILE",
    "INCLUDABLE",
    "Config",
    "ConfigError",
    "Credentials",
    "files_for_callers",
    "load",
    "require_files",
]

DEFAULT_FILE = Path("/vanus-connect/config/config.yml")
FILES_PER_CALL = 2
"""Open files one unit of `concurrency` may need: a call to the model and one to the target."""
FILES_KEPT_FREE = 200
"""Open files kept for callers, the journal and the process itself."""
FILES_OF_OUR_OWN = 100
"""The part of them that is not for callers."""


INCLUDABLE = ("prompt", "usage", "model", "finish_reason", "request_id")
"""The names that `include` may list."""
_OWN_MEMBERS = {
    "model": "model",
    "max_completion_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "reasoning_effort": "reasoning_effort",
}
"""Members of a chat request with a setting of their own."""
_NO_MEMBERS = ("messages", "n", "stream", "stream_options")
"""Members that would make an answer more or other than one text."""
_CALLS_OWN = (
    "host",
    "accept-encoding",
    "connection",
    "content-*",
    "expect",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "proxy-*",
    "traceparent",
    "tracestate",
)
"""Headers of a request that the call itself sets."""


def _key(
    read: Reader,
    default: Any = attrs.NOTHING,
    *,
    key: str = "",
    env: tuple[str, ...] = (),
    read_env: Reader | None = None,
    from_file: tuple[str, Reader] | None = None,
) -> Any:
    """A setting.

    Args:
        read: How it is read.
        default: Its default; without one it is required.
        key: Its key in the file, unless that is the attribute's name.
        env: The variables it comes from if the file does not have it.
        read_env: How those are read, if differently.
        from_file: Another key, which names a file with the value, and how that is read.
    """
    metadata = {
        "read": read,
        "key": key,
        "env": env,
        "read_env": read_env or read,
        "from_file": from_file,
    }
    return attrs.field(default=default, metadata=metadata)


def _platform(read: Reader, default: Any, variable: str) -> Any:
    """A value that a platform sets in the environment; it has no key."""
    return attrs.field(default=default, metadata={"variable": variable, "read_env": read})


_UTC = ZoneInfo("UTC")
_API_KEY = secrets.secret(secrets.api_key, secrets.API_KEY)
_API_KEY_FILE = secrets.secret_file(secrets.api_key, secrets.API_KEY)
_WORD = readers.word("text without spaces, in ASCII")
_VERSION = readers.word("a version like 2024-10-21 or preview", "0-9A-Za-z._-")


@attrs.frozen
class Config:
    """The checked settings; the README's tables explain them. Durations are in seconds."""

    target: str = _key(readers.url, env=("CONNECTOR_TARGET", "K_SINK"))
    token: Secret = _key(  # noqa: RUF009 - attrs, not dataclasses
        _API_KEY, env=("OPENAI_API_KEY",), from_file=("token_file", _API_KEY_FILE)
    )
    port: int = _key(readers.whole(1, 65535), 8080)
    listen: str | None = _key(readers.text, None)
    auth: Credentials | None = _key(credentials, None)  # noqa: RUF009 - attrs, not dataclasses
    allow_origins: tuple[str, ...] = _key(readers.origins, ())
    admin: str | None = _key(readers.text, None)
    admin_auth: Credentials | None = _key(credentials, None)  # noqa: RUF009 - attrs, not dataclasses
    everyday_limit: int = _key(readers.whole(1, 10**12), 100)
    timezone: ZoneInfo = _key(readers.zone, _UTC)  # noqa: RUF009 - attrs, not dataclasses
    base_url: str = _key(readers.base_url, "https://api.openai.com/v1", env=("OPENAI_BASE_URL",))
    api_version: str | None = _key(_VERSION, None)
    organization: str | None = _key(_WORD, None, env=("OPENAI_ORG_ID",))
    project: str | None = _key(_WORD, None, env=("OPENAI_PROJECT_ID",))
    headers: Mapping[str, Secret] = _key(secrets.headers(*_CALLS_OWN), attrs.Factory(dict))
    model: str = _key(readers.text, "gpt-6-luna")
    system_prompt: str | None = _key(readers.text, None)
    max_tokens: int | None = _key(readers.whole(1, 10**9), None)
    temperature: float | None = _key(readers.number(0, 2), None)
    top_p: float | None = _key(readers.number(0, 1), None)
    reasoning_effort: str | None = _key(_WORD, None)
    body: Mapping[str, Any] = _key(readers.members(_NO_MEMBERS, _OWN_MEMBERS), attrs.Factory(dict))
    openai_timeout: float = _key(readers.seconds(above_zero=True), 120.0)
    concurrency: int = _key(readers.whole(1, 10**6), 64)
    journal: str = _key(readers.text, "journal.sqlite")
    include: tuple[str, ...] = _key(readers.some_of(*INCLUDABLE), ())
    content_mode: str = _key(readers.one_of("structured", "binary"), "structured")
    ca_file: tuple[bytes, ...] = _key(readers.authorities_file, ())
    target_headers: Mapping[str, Secret] = _key(
        secrets.headers(*_CALLS_OWN, "ce-*", "webhook-*"), attrs.Factory(dict)
    )
    signing_secret: tuple[Secret, ...] = _key(secrets.webhook_secrets, ())
    send_event_attempts: int = _key(readers.whole(0, 10**9), 0)
    dead_letter: str | None = _key(readers.url, None)
    give_up_after: float = _key(readers.seconds(above_zero=False), 86400.0)
    max_body_size: int = _key(readers.whole(1, 2**28), 1048576)
    max_backlog: int = _key(readers.whole(1, 10**9), 100000)
    keep: float = _key(readers.seconds(above_zero=False), 604800.0)
    drain_timeout: float = _key(readers.seconds(above_zero=False), 8.0)
    log_level: str = _key(
        readers.log_config,
        "info",
        key="log_config",
        env=("LOG_LEVEL",),
        read_env=readers.log_level,
    )
    log_format: str = _key(readers.one_of(*FORMATS), "auto")
    extensions: Mapping[str, str] = _platform(
        readers.extensions, attrs.Factory(dict), "K_CE_OVERRIDES"
    )
    """Attributes that go on every event."""
    authorities: tuple[bytes, ...] = _platform(readers.authorities, (), "K_CA_CERTS")
    """Certificates in PEM that are trusted beside `ca_file` and the platform's."""
    proxies: Proxies = attrs.Factory(Proxies)
    origin: str = "the environment"
    """Where the settings came from, for the log."""
    warnings: tuple[str, ...] = ()
    """Warnings about settings that do nothing."""


_SETTINGS = {
    field.metadata["key"] or field.name: field
    for field in attrs.fields(Config)
    if "read" in field.metadata
}
_KEYS = [
    key
    for name, field in _SETTINGS.items()
    for key in (name, *(field.metadata["from_file"] or ())[:1])
]
_WITHOUT_EFFECT = {
    "store_config": "this connector keeps its state in `journal`",
    "batch_size": "events are sent one at a time",
    "context_count": "each prompt is asked on its own",
}


def load(environ: Mapping[str, str], default_file: Path = DEFAULT_FILE) -> Config:
    """Read the file that CONNECTOR_CONFIG names, else `default_file` if it exists.

    Args:
        environ: The environment.
        default_file: The file to read if CONNECTOR_CONFIG is not set.

    Raises:
        ConfigError: With every mistake.
    """
    document, origin = read_document(environ, default_file)
    mistakes = [
        objection(key, document[key], document.get("token"), _KEYS)
        for key in document
        if key not in _KEYS and key not in _WITHOUT_EFFECT
    ]
    settings: dict[str, Any] = {}
    for setting in attrs.fields(Config):
        try:
            value = _value(setting, document, environ)
        except ConfigError as error:  # noqa: PERF203 - all mistakes at once
            mistakes += error.mistakes
        else:
            if value is not None:
                settings[setting.name] = value
    try:
        settings["proxies"] = Proxies.from_environ(environ)
    except ProxyMistake as mistake:
        mistakes += mistake.lines
    if "port" in settings and "listen" in settings:
        mistakes.append("`listen` must not be set beside `port`: keep one of them")
    if settings.get("max_tokens") and "max_tokens" in settings.get("body", ()):
        mistakes.append(
            "`body` must be without `max_tokens` where the setting `max_tokens` is used, which is"
            " sent as `max_completion_tokens`: keep the one that your server knows"
        )
    if mistakes:
        raise ConfigError(*mistakes)
    warnings = tuple(
        f"`{key}` does nothing here: {why}"
        for key, why in _WITHOUT_EFFECT.items()
        if key in document
    )
    return Config(**settings, origin=origin, warnings=warnings)


def require_files(config: Config, limit: int) -> None:
    """Check that `limit` open files are enough for `concurrency`.

    Raises:
        ConfigError: If they are not.
    """
    most = (limit - FILES_KEPT_FREE) // FILES_PER_CALL
    if config.concurrency > most:
        advice = "lower it, or raise that limit" if most > 0 else "raise that limit"
        raise ConfigError(
            f"`concurrency` must be at most {max(0, most)} with a hard limit of {limit} open files:"
            f" {advice} (`ulimit -Hn`)"
        )


def files_for_callers(config: Config, limit: int) -> int:
    """How many connections of callers are possible with `limit` open files."""
    return max(1, limit - FILES_OF_OUR_OWN - FILES_PER_CALL * config.concurrency)


def _value(
    setting: "attrs.Attribute[Any]", document: Mapping[str, Any], environ: Mapping[str, str]
) -> Any:
    """A setting's value from the file, else from the environment, else None.

    Raises:
        ConfigError: If it is wrong, or missing and required.
    """
    if "read" in setting.metadata:
        return _of_key(setting, document, environ)
    variable = setting.metadata.get("variable", "")
    if environ.get(variable, "").strip():
        return _read(variable, setting.metadata["read_env"], environ[variable], environ)
    return None


def _of_key(
    setting: "attrs.Attribute[Any]", document: Mapping[str, Any], environ: Mapping[str, str]
) -> Any:
    key = setting.metadata["key"] or setting.name
    variables: tuple[str, ...] = setting.metadata["env"]
    value = document.get(key)
    given = value is not None and not (value == "" and variables)
    from_file: tuple[str, Reader] | None = setting.metadata["from_file"]
    if from_file and document.get(from_file[0]) is not None:
        if given:
            raise ConfigError(f"`{from_file[0]}` must not be set beside `{key}`: keep one of them")
        return _read(f"`{from_file[0]}`", from_file[1], document[from_file[0]], environ)
    if given:
        value = _read(f"`{key}`", setting.metadata["read"], value, environ)
        if value is not None:
            return value
    for variable in variables:
        if environ.get(variable, "").strip():
            name = f"{variable} (for `{key}`)"
            return _read(name, setting.metadata["read_env"], environ[variable], environ)
    if setting.default is attrs.NOTHING:
        other = f", or `{from_file[0]}`," if from_file else ""
        raise ConfigError(
            f"`{key}` is missing: set it{other} in the config file, or {' or '.join(variables)}"
            " in the environment"
        )
    return None


def _read(name: str, read: Reader, value: Any, environ: Mapping[str, str]) -> Any:
    try:
        return read(value, environ)
    except Wrong as wrong:
        raise ConfigError(f"{name} must be {wrong}") from wrong
