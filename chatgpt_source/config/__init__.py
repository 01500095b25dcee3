"""Reads the configuration from YAML and the environment, and names every mistake by its key.

The line about a mistake never holds the value: an error in the YAML can put the token anywhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import attrs

from chatgpt_source.config.credentials import Credentials
from chatgpt_source.config.document import read_document
from chatgpt_source.config.mistakes import ConfigError, objection
from chatgpt_source.config.prices import Price, price_of
from chatgpt_source.config.readers import Reader, Wrong
from chatgpt_source.config.secret import Secret
from chatgpt_source.config.settings import CALLERS_MEMBERS, INCLUDABLE, RESPONSES_OWN, Config
from chatgpt_source.config.targets import TargetSettings
from chatgpt_source.config.warnings import WITHOUT_EFFECT, warnings_of
from chatgpt_source.http.client.proxy import Proxies, ProxyMistake

__all__ = [
    "CALLERS_MEMBERS",
    "DEFAULT_FILE",
    "INCLUDABLE",
    "Config",
    "ConfigError",
    "Credentials",
    "Price",
    "TargetSettings",
    "files_for_callers",
    "load",
    "price_of",
    "read_journal",
    "require_files",
]

DEFAULT_FILE = Path("/vanus-connect/config/config.yml")
FILES_PER_CALL = 2
"""Open files one unit of `concurrency` may need: a call to the model and one to the target; one
more for each named target, each fallback, and the flex tier."""
FILES_KEPT_FREE = 200
"""Open files kept for callers, the journal and the process itself."""
FILES_OF_OUR_OWN = 100
"""The part of them that is not for callers."""


def _key_of(setting: "attrs.Attribute[Any]") -> str | None:
    key: str | None = setting.metadata["key"]
    return setting.name if key == "" else key


_SETTINGS = [field for field in attrs.fields(Config) if field.metadata]
_KEYS = [
    key
    for setting in _SETTINGS
    for key in (_key_of(setting), *(setting.metadata["from_file"] or ())[:1])
    if key is not None
]


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
        if key not in _KEYS and key not in WITHOUT_EFFECT
    ]
    settings: dict[str, Any] = {}
    for setting in _SETTINGS:
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
    mistakes += _clashes(settings, document)
    if not mistakes:
        mistakes += _mistakes_of_fallbacks(Config(**settings))
    if mistakes:
        raise ConfigError(*mistakes)
    config = Config(**settings, origin=origin)
    return attrs.evolve(config, warnings=tuple(warnings_of(config, document)))


def read_journal(
    environ: Mapping[str, str], default_file: Path = DEFAULT_FILE
) -> tuple[str, Secret | None]:
    """`journal` and `journal_password` alone, for a command that needs nothing else.

    Raises:
        ConfigError: If they can't be read.
    """
    document, _ = read_document(environ, default_file)
    fields = attrs.fields(Config)
    where = _value(fields.journal, document, environ)
    password = _value(fields.journal_password, document, environ)
    return str(fields.journal.default if where is None else where), password


def read_credentials(
    environ: Mapping[str, str], default_file: Path = DEFAULT_FILE
) -> Sequence[Credentials]:
    """`auth` and `admin_auth` alone, those that are set, for a command that needs nothing else.

    Raises:
        ConfigError: If they can't be read.
    """
    document, _ = read_document(environ, default_file)
    fields = attrs.fields(Config)
    found = (_value(each, document, environ) for each in (fields.auth, fields.admin_auth))
    return [each for each in found if each is not None]


def _clashes(settings: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes of settings that exclude or need each other."""
    if "port" in settings and "listen" in settings:
        yield "`listen` must not be set beside `port`: keep one of them"
    if settings.get("reply") and not document.get("keep_answers"):
        yield (
            "`reply` must be 0 where `keep_answers` is 0: set `keep_answers` to the seconds in"
            " which a broker may ask for a reply again"
        )

    if "journal_password" in settings and "://" not in settings.get("journal", ""):
        yield (
            "`journal_password` must not be set for a journal in a file: it belongs to"
            " `journal: postgresql://...`"
        )
    yield from _clashes_of_calls(settings)
    yield from _clashes_of_api(settings, document)


def _mistakes_of_fallbacks(config: Config) -> Iterator[str]:
    """The mistakes of fallbacks with the settings that they share with the first provider."""
    names = [config.provider, *(each.name for each in config.fallbacks)]
    for number, each in enumerate(config.fallbacks, 1):
        if each.name in names[:number]:
            yield (
                f"`fallbacks` must have different names: give no. {number}, which has the name of"
                " one before it, another `name`"
            )
        settings = attrs.asdict(config.of_fallbacks[each.name], recurse=False)
        mistakes = [
            *_clashes_of_calls(settings),
            *_clashes_of_api(settings, {"background": True}),
        ]
        yield from (f"`fallbacks`, in no. {number}: {told}" for told in mistakes)


def _clashes_of_calls(settings: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes of settings that set the same member of a call."""
    if settings.get("max_tokens") and "max_tokens" in settings.get("body", ()):
        yield (
            "`body` must be without `max_tokens` where the setting `max_tokens` is used, which is"
            " sent as `max_completion_tokens`: keep the one that your server knows"
        )
    if settings.get("response_format") and "response_format" in settings.get("body", ()):
        yield "`response_format` must not be set in `body` as well: keep one of them"


def _clashes_of_api(settings: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes of settings that the API does not have."""
    if "api" not in settings and document.get("api") is not None:
        return  # it has a mistake of its own
    responses = settings.get("api") == "responses"
    if settings.get("background") and not responses:
        yield (
            "`background` must be false unless `api` is responses: set `api: responses`, if your"
            " server has that API"
        )
    if settings.get("forget_responses") and not document.get("background"):
        yield (
            "`forget_responses` must be false unless `background` is true: only such responses are"
            " kept under ids that we know"
        )
    if settings.get("background") and settings.get("body", {}).get("store") is False:
        yield "`body` must be without `store: false` where `background` is true, which needs it"
    for member in RESPONSES_OWN if responses else ():
        if member in settings.get("body", ()):
            yield f"`body` must be without `{member}`: {RESPONSES_OWN[member]}"


def require_files(config: Config, limit: int) -> None:
    """Check that `limit` open files are enough for `concurrency`.

    Raises:
        ConfigError: If they are not.
    """
    most = (limit - FILES_KEPT_FREE) // _files_per_call(config)
    if config.concurrency > most:
        advice = "lower it, or raise that limit" if most > 0 else "raise that limit"
        raise ConfigError(
            f"`concurrency` must be at most {max(0, most)} with a hard limit of {limit} open files:"
            f" {advice} (`ulimit -Hn`)"
        )


def files_for_callers(config: Config, limit: int) -> int:
    """How many connections of callers are possible with `limit` open files."""
    return max(1, limit - FILES_OF_OUR_OWN - _files_per_call(config) * config.concurrency)


def _files_per_call(config: Config) -> int:
    fallbacks = (each.concurrency for each in config.of_fallbacks.values())
    others = sum(ceil(each / config.concurrency) for each in fallbacks)
    return FILES_PER_CALL + len(config.targets) + others + (config.flex_over is not None)


def _value(
    setting: "attrs.Attribute[Any]", document: Mapping[str, Any], environ: Mapping[str, str]
) -> Any:
    """A setting's value from the file, else from the environment, else None.

    Raises:
        ConfigError: If it is wrong, or missing and required.
    """
    key = _key_of(setting)
    variables: tuple[str, ...] = setting.metadata["env"]
    value = document.get(key) if key else None
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
            name = f"{variable} (for `{key}`)" if key else variable
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
