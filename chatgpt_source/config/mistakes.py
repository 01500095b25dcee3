"""The error of a wrong configuration; its lines hold none of the values."""

import difflib
import re
from collections.abc import Sequence
from typing import Any


class ConfigError(Exception):
    """What is wrong with the configuration.

    Attributes:
        mistakes: One line each, starting with the key, with what it must be.
    """

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def objection(key: object, value: Any, token: Any, known: Sequence[str]) -> str:
    """What is wrong with an unknown key of the file.

    Args:
        key: The key, as YAML gave it.
        value: Its value.
        token: The file's token, which must not be shown.
        known: The known keys.
    """
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
    near = difflib.get_close_matches(key, known, 1)
    advice = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}"
    return f"`{key}` is not a known key: {advice}"


def _shown(value: Any, otherwise: str, token: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[\w.:\[\]-]+", value) and value != token
    return str(value) if plain else otherwise
