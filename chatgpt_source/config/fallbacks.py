"""Reads `fallbacks`: the providers that are asked when those before them fail."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from attrs import field, frozen

from chatgpt_source.config.readers import Environ, Reader, Wrong, reworded
from chatgpt_source.config.targets import all_of

OF_A_CALL = (
    "base_url",
    "token",
    "model",
    "api",
    "background",
    "api_version",
    "organization",
    "project",
    "headers",
    "body",
    "concurrency",
    "openai_timeout",
    "max_tokens",
    "temperature",
    "top_p",
    "reasoning_effort",
)
"""The settings that a fallback may have; each is what the setting of the same name is."""
OWN: Mapping[str, Any] = {
    "api_version": None,
    "organization": None,
    "project": None,
    "headers": {},
}
"""Settings that a fallback does not have from the first provider, to whom alone they belong."""
_NAME = "[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?"
_TAKEN = {"flex", "batch"}
_FORM = "a list of providers, each with `base_url` and `token` or `token_file`"


@frozen
class Fallback:
    """A provider that is asked when those before it fail.

    Attributes:
        name: Its name.
        settings: Its settings of `OF_A_CALL`.
    """

    name: str
    settings: Mapping[str, Any] = field(repr=False)


def name_of(base_url: str) -> str:
    """The name of a provider that has no other: the host and the port of its URL."""
    return urlsplit(base_url).netloc.lower()


def fallbacks(readers: Mapping[str, Reader], token_file: Reader) -> Reader:
    """A list of fallbacks.

    Args:
        readers: How each of `OF_A_CALL` is read.
        token_file: How `token_file` is read.
    """
    read_members = {"name": _name, **readers, "token_file": token_file}

    def read_one(value: Any, environ: Environ) -> Fallback:
        if not isinstance(value, dict):
            raise Wrong("there must be a mapping with `base_url` and `token` or `token_file`")
        given = {member: each for member, each in value.items() if each is not None}
        if not given.keys() <= read_members.keys():
            raise Wrong(f"there must be only {', '.join(f'`{each}`' for each in read_members)}")
        if "base_url" not in given:
            raise Wrong("`base_url` is missing")
        if len({"token", "token_file"} & given.keys()) != 1:
            raise Wrong("there must be one of `token` and `token_file`")
        reading = {
            f"`{member}` must be ": (member, partial(read_members[member], each))
            for member, each in given.items()
        }
        settings = all_of(reading, environ, ", and ")
        if "token_file" in settings:
            settings["token"] = settings.pop("token_file")
        name = settings.pop("name", name_of(settings["base_url"]))
        if name in _TAKEN:
            raise Wrong(f"`name` must be set, since `{name}`, the host, names a tier")
        return Fallback(name, settings)

    def read(value: Any, environ: Environ) -> tuple[Fallback, ...]:
        if not isinstance(value, list):
            raise Wrong(_FORM)
        reading = {
            f"in no. {number}, ": (str(number), partial(read_one, each))
            for number, each in enumerate(value, 1)
        }
        with reworded(f"{_FORM}: "):
            return tuple(all_of(reading, environ, "; ").values())

    return read


def _name(value: Any, _: Environ) -> str:
    if not isinstance(value, str) or not re.fullmatch(_NAME, value) or value in _TAKEN:
        raise Wrong(
            "at most 63 lower-case letters and digits, with dots and hyphens inside, and none of "
            + ", ".join(sorted(_TAKEN))
        )
    return value
