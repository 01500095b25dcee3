"""Reads `targets`: the named receivers that a prompt may choose."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from attrs import field, frozen

from chatgpt_source.config import readers, secrets
from chatgpt_source.config.readers import Environ, Reader, Wrong, reworded
from chatgpt_source.config.secret import Secret
from chatgpt_source.prompt import DEAD_LETTER, MODEL, NOWHERE, TARGET

NAME = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_TAKEN = {NOWHERE, TARGET.setting, "default", MODEL, "dead-letter", DEAD_LETTER.setting}
_FORM = "a mapping of names to targets, each with `url` and perhaps {others}"


@frozen
class TargetSettings:
    """The settings of a named target; each is what the setting of the default target is.

    Attributes:
        url: As `target`.
        headers: As `target_headers`.
        signing_secret: As `signing_secret`.
        content_mode: As `content_mode`.
    """

    url: str
    headers: Mapping[str, Secret] = field(factory=dict)
    signing_secret: tuple[Secret, ...] = ()
    content_mode: str = "structured"


def targets(*reserved_headers: str) -> Reader:
    """A mapping of names to targets.

    Args:
        reserved_headers: Headers that the user must not set.
    """
    read_members: Mapping[str, Reader] = {
        "url": readers.url,
        "headers": secrets.headers(*reserved_headers),
        "signing_secret": secrets.webhook_secrets,
        "content_mode": readers.one_of("structured", "binary"),
    }
    *others, last = (f"`{member}`" for member in read_members if member != "url")
    wanted = _FORM.format(others=f"{', '.join(others)} and {last}")

    def read_target(value: Any, environ: Environ) -> TargetSettings:
        if not isinstance(value, dict) or not set(value) <= set(read_members):
            raise Wrong(f"there must be `url`, and perhaps {', '.join(others)} and {last}")
        given = {member: each for member, each in value.items() if each is not None}
        if "url" not in given:
            raise Wrong("`url` is missing")
        reading = {
            f"`{member}` must be ": (member, partial(read_members[member], each))
            for member, each in given.items()
        }
        return TargetSettings(**all_of(reading, environ, ", and "))

    def read(value: Any, environ: Environ) -> dict[str, TargetSettings]:
        if not isinstance(value, dict):
            raise Wrong(wanted)
        for number, name in enumerate(value, 1):
            if not isinstance(name, str) or not re.fullmatch(NAME, name) or name in _TAKEN:
                raise Wrong(
                    f"{wanted}; the name of target no. {number} must be at most 63 lower-case"
                    " letters, digits and hyphens inside, and none of " + ", ".join(sorted(_TAKEN))
                )
        reading = {
            f"under {_shown(name, number)}, ": (name, partial(read_target, target))
            for number, (name, target) in enumerate(value.items(), 1)
        }
        with reworded(f"{wanted}: "):
            return all_of(reading, environ, "; ")

    return read


def _shown(name: str, number: int) -> str:
    return f"`{name}`" if re.fullmatch("[a-z-]{1,40}", name) else f"target no. {number}"


def all_of(
    reading: Mapping[str, tuple[str, Callable[[Environ], Any]]], environ: Environ, between: str
) -> dict[str, Any]:
    """The values of several members, or all their mistakes at once.

    Args:
        reading: How each is read, with its name; the key comes before its mistake.
        environ: The environment.
        between: Comes between two mistakes.
    """
    found, mistakes = {}, []
    for before, (name, read) in reading.items():
        try:
            found[name] = read(environ)
        except Wrong as wrong:  # noqa: PERF203 - all mistakes at once
            mistakes.append(f"{before}{wrong}")
    if mistakes:
        raise Wrong(between.join(mistakes))
    return found
