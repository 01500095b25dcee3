"""The names of the peers, and the settings that decide how each answers. Pure."""

from collections.abc import Mapping

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.prompt import DEAD_LETTER, MODEL, TARGET, Tier, asked_peer

BATCHES = asked_peer(Tier.BATCH)
"""The name of the model's batches among the peers."""
FLEX = asked_peer(Tier.FLEX)
"""The name of the model's flex tier among the peers."""


def peers_of(config: Config) -> Mapping[str, str]:
    """The settings that decide how each peer answers, as one text a peer.

    If they change, the next start forgets the peer's stored state, and calls it at once.
    """
    mode = config.content_mode
    model = _of_model(config)
    return {
        MODEL: model,
        BATCHES: model,
        FLEX: model,
        **{fallback_peer(name): _of_model(each) for name, each in config.of_fallbacks.items()},
        TARGET.destination: _as_text(
            config.target, mode, config.target_headers, config.signing_secret
        ),
        **{
            name: _as_text(each.url, each.content_mode, each.headers, each.signing_secret)
            for name, each in config.targets.items()
        },
        DEAD_LETTER.destination: _as_text(config.dead_letter, mode),
    }


def fallback_peer(fallback: str) -> str:
    """A fallback's name among the peers."""
    return asked_peer(Tier.STANDARD, fallback)


def _of_model(config: Config) -> str:
    return _as_text(
        config.base_url,
        config.api,
        config.background,
        config.token,
        config.api_version,
        config.organization,
        config.project,
        config.headers,
        config.model,
        config.system_prompt,
        config.max_tokens,
        config.temperature,
        config.top_p,
        config.reasoning_effort,
        config.response_format,
        config.body,
    )


def _as_text(*settings: object) -> str:
    return "\n".join(repr(_revealed(each)) for each in settings)


def _revealed(setting: object) -> object:
    """A setting with the texts of its secrets, whose own `repr` hides them."""
    match setting:
        case Secret():
            return setting.read()
        case Mapping():
            return {name: _revealed(each) for name, each in setting.items()}
        case tuple():
            return tuple(map(_revealed, setting))
    return setting
