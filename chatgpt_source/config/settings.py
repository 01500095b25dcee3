"""The list of settings: how each is read, its environment variables, and its default."""

from collections.abc import Mapping
from math import inf
from typing import Any
from zoneinfo import ZoneInfo

import attrs

from chatgpt_source.config import readers, secrets
from chatgpt_source.config.credentials import Credentials, credentials
from chatgpt_source.config.fallbacks import OF_A_CALL, OWN, Fallback, fallbacks, name_of
from chatgpt_source.config.prices import DEAREST, Price, prices
from chatgpt_source.config.readers import Environ, Reader
from chatgpt_source.config.secret import Secret
from chatgpt_source.config.targets import TargetSettings, targets
from chatgpt_source.http.client.proxy import Proxies
from chatgpt_source.log import FORMATS
from chatgpt_source.tiers import Tiers

INCLUDABLE = (
    "prompt",
    "usage",
    "model",
    "finish_reason",
    "request_id",
    "service_tier",
    "provider",
)
"""The names that `include` may list."""
CALLERS_MEMBERS = (
    "model",
    "max_tokens",
    "temperature",
    "reasoning_effort",
    "response_format",
    "system",
)
"""The names that `callers_may_set` may list."""
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
RESPONSES_OWN = {
    "input": "each prompt is its own",
    "instructions": "set `system_prompt` instead",
    "max_output_tokens": "set `max_tokens` instead",
    "background": "set `background` instead",
}
"""Members of a Responses request that `body` must not have, and what to do."""
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
_DELIVERYS_OWN = (*_CALLS_OWN, "ce-*", "webhook-*")
"""The same, of a delivery."""


def _key(
    read: Reader,
    default: Any = attrs.NOTHING,
    *,
    key: str | None = "",
    env: tuple[str, ...] = (),
    read_env: Reader | None = None,
    from_file: tuple[str, Reader] | None = None,
    shown: bool = True,
) -> Any:
    """A setting.

    Args:
        read: How it is read.
        default: Its default; without one it is required.
        key: Its key in the file, unless that is the attribute's name; None if it has none, but is
            set by a platform in the environment.
        env: The variables it comes from if the file does not have it.
        read_env: How those are read, if differently.
        from_file: Another key, which names a file with the value, and how that is read.
        shown: Whether its value may be shown: it can have no secret.
    """
    metadata = {
        "read": read,
        "key": key,
        "env": env,
        "read_env": read_env or read,
        "from_file": from_file,
    }
    return attrs.field(default=default, metadata=metadata, repr=shown)


_UTC = ZoneInfo("UTC")
_API_KEY = secrets.secret(secrets.API_KEY)
_PASSWORD = secrets.secret(secrets.PASSWORD)
_API_KEY_FILE = secrets.secret_file(secrets.API_KEY)
_WORD = readers.word("text without spaces, in ASCII")
_VERSION = readers.word("a version like 2024-10-21 or preview", "0-9A-Za-z._-")


def _fallbacks(value: Any, environ: Environ) -> tuple[Fallback, ...]:
    fields = attrs.fields_dict(Config)
    read = fallbacks({name: fields[name].metadata["read"] for name in OF_A_CALL}, _API_KEY_FILE)
    return read(value, environ)  # type: ignore[no-any-return]


@attrs.frozen
class Config:
    """The checked settings; the README's tables explain them. Durations are in seconds."""

    target: str = _key(readers.url, env=("CONNECTOR_TARGET", "K_SINK"))
    token: Secret = _key(  # noqa: RUF009 - attrs, not dataclasses
        _API_KEY, env=("OPENAI_API_KEY",), from_file=("token_file", _API_KEY_FILE)
    )
    port: int = _key(readers.whole(1, 65535), 8080)
    listen: str | None = _key(readers.endpoint("tcp:8080, or set `port`"), None)
    auth: Credentials | None = _key(credentials, None)  # noqa: RUF009 - attrs, not dataclasses
    allow_origins: tuple[str, ...] = _key(readers.origins, ())
    admin: str | None = _key(readers.endpoint("tcp:9464:interface=127.0.0.1"), None)
    admin_auth: Credentials | None = _key(credentials, None)  # noqa: RUF009 - attrs, not dataclasses
    everyday_limit: int = _key(readers.whole(1, 10**12), 100)
    timezone: ZoneInfo = _key(readers.zone, _UTC)  # noqa: RUF009 - attrs, not dataclasses
    base_url: str = _key(readers.base_url, "https://api.openai.com/v1", env=("OPENAI_BASE_URL",))
    api_version: str | None = _key(_VERSION, None)
    organization: str | None = _key(_WORD, None, env=("OPENAI_ORG_ID",))
    project: str | None = _key(_WORD, None, env=("OPENAI_PROJECT_ID",))
    headers: Mapping[str, Secret] = _key(secrets.headers(*_CALLS_OWN), attrs.Factory(dict))
    api: str = _key(readers.one_of("chat", "responses"), "chat")
    background: bool = _key(readers.yes_or_no, default=False)
    forget_responses: bool = _key(readers.yes_or_no, default=False)
    model: str = _key(readers.text, "gpt-6-luna")
    system_prompt: str | None = _key(readers.text, None)
    max_tokens: int | None = _key(readers.whole(1, 10**9), None)
    temperature: float | None = _key(readers.number(0, 2), None)
    top_p: float | None = _key(readers.number(0, 1), None)
    reasoning_effort: str | None = _key(_WORD, None)
    response_format: Mapping[str, Any] | None = _key(readers.response_format, None)
    body: Mapping[str, Any] = _key(readers.members(_NO_MEMBERS, _OWN_MEMBERS), attrs.Factory(dict))
    openai_timeout: float = _key(readers.seconds(above_zero=True), 120.0)
    concurrency: int = _key(readers.whole(1, 10**6), 64)
    fallbacks: tuple[Fallback, ...] = _key(_fallbacks, ())
    fallback_after_timeout: bool = _key(readers.yes_or_no, default=False)
    prices: Mapping[str, Price] = _key(prices(readers.number(0, DEAREST)), attrs.Factory(dict))
    journal: str = _key(readers.path_or("postgresql", "postgres"), "journal.sqlite", shown=False)
    journal_password: Secret | None = _key(_PASSWORD, None)  # noqa: RUF009 - attrs, not dataclasses
    include: tuple[str, ...] = _key(readers.some_of(*INCLUDABLE), ())
    content_mode: str = _key(readers.one_of("structured", "binary"), "structured")
    ca_file: tuple[bytes, ...] = _key(readers.authorities_file, ())
    target_headers: Mapping[str, Secret] = _key(
        secrets.headers(*_DELIVERYS_OWN), attrs.Factory(dict)
    )
    signing_secret: tuple[Secret, ...] = _key(secrets.webhook_secrets, ())
    targets: Mapping[str, TargetSettings] = _key(targets(*_DELIVERYS_OWN), attrs.Factory(dict))
    send_event_attempts: int = _key(readers.whole(0, 10**9), 0)
    dead_letter: str | None = _key(readers.url, None)
    give_up_after: float = _key(readers.seconds(above_zero=False), 86400.0)
    deadline: float | None = _key(readers.seconds(above_zero=True), None)
    flex_over: float | None = _key(readers.seconds(above_zero=False), None)
    batch_over: float | None = _key(readers.seconds(above_zero=False), None)
    batch_window: float = _key(readers.seconds(above_zero=False), 600.0)
    batch_margin: float = _key(readers.seconds(above_zero=False), 1800.0)
    prompt_pointer: str | None = _key(readers.pointer, None)
    copy_extensions: Mapping[str, str] = _key(readers.copies, attrs.Factory(dict))
    callers_may_set: tuple[str, ...] = _key(readers.some_of(*CALLERS_MEMBERS), ())
    webhook_origins: tuple[str, ...] = _key(readers.hosts, ())
    keep_answers: float = _key(readers.seconds(above_zero=False), 0.0)
    max_wait: float = _key(readers.seconds(above_zero=False), 60.0)
    reply: float = _key(readers.seconds(above_zero=False), 0.0)
    max_batch: int = _key(readers.whole(1, 1000), 100)
    max_body_size: int = _key(readers.whole(1, 2**28), 1048576)
    max_backlog: int = _key(readers.whole(1, 10**9), 100000)
    keep: float = _key(readers.seconds(above_zero=False), 604800.0)
    drain_timeout: float = _key(readers.seconds(above_zero=False), 8.0)
    log_level: str = _key(
        readers.log_config, "info", key="log_config", env=("LOG_LEVEL",), read_env=readers.log_level
    )
    log_format: str = _key(readers.one_of(*FORMATS), "auto")
    extensions: Mapping[str, str] = _key(
        readers.extensions, attrs.Factory(dict), key=None, env=("K_CE_OVERRIDES",)
    )
    """Attributes that go on every event."""
    authorities: tuple[bytes, ...] = _key(readers.authorities, (), key=None, env=("K_CA_CERTS",))
    """Certificates in PEM that are trusted beside `ca_file` and the platform's."""
    proxies: Proxies = attrs.Factory(Proxies)
    origin: str = "the environment"
    """Where the settings came from, for the log."""
    warnings: tuple[str, ...] = ()
    """Warnings about settings that do nothing."""

    @property
    def tiers(self) -> Tiers:
        """The tiers that are on."""
        return Tiers(
            inf if self.flex_over is None else self.flex_over,
            inf if self.batch_over is None else self.batch_over,
        )

    @property
    def provider(self) -> str:
        """The first provider's name."""
        return name_of(self.base_url)

    @property
    def of_fallbacks(self) -> Mapping[str, "Config"]:
        """The settings of the fallbacks, by their names, in their order."""
        return {each.name: self._of(each.settings) for each in self.fallbacks}

    def _of(self, settings: Mapping[str, Any]) -> "Config":
        background = self.background and settings.get("api", self.api) == "responses"
        return attrs.evolve(self, **{"fallbacks": (), "background": background, **OWN, **settings})
