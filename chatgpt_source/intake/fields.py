"""The fields that a caller may set of any prompt: `source`, `type`, `target`, `deadline`.

They are headers (`vanus-source`), and members of JSON (`source`).
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import uuid4

from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import wall
from chatgpt_source.cloudevent import is_source, is_type
from chatgpt_source.config import Config
from chatgpt_source.config.readers import Wrong
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.intake.times import read_deadline
from chatgpt_source.journal import Key, Submission
from chatgpt_source.prompt import (
    DEFAULT_SOURCE,
    DEFAULT_TYPE,
    NOWHERE,
    PLAIN,
    Details,
    Prompt,
    Trace,
)

Fields = dict[str, Any]
"""The fields that were given, by the names of a prompt's attributes."""


def _source(text: str, _: Config, __: IReactorTime) -> str:
    if not is_source(text):
        raise Wrong("a URI-reference (RFC 3986), like /my/app")
    return text


def _type(text: str, _: Config, __: IReactorTime) -> str:
    if not is_type(text):
        raise Wrong("text without control characters")
    return text


def _target(text: str, config: Config, _: IReactorTime) -> str:
    known = [*config.targets, *([NOWHERE] if config.keep_answers else [])]
    if text in known:
        return text
    if not known:
        raise Wrong("left out: `targets` names none, and the target `none` needs `keep_answers`")
    raise Wrong(f"one of {', '.join(known)}, or left out for the default")


def _deadline(text: str, _: Config, clock: IReactorTime) -> float:
    return read_deadline(text, clock)


FIELDS: Mapping[str, Callable[[str, Config, IReactorTime], Any]] = {
    "source": _source,
    "type": _type,
    "target": _target,
    "deadline": _deadline,
}
"""How each field is read; they raise Wrong."""
_HEADERS = {name: f"vanus-{name}".encode("ascii") for name in FIELDS}


def read_fields(
    request: BoundedRequest, config: Config, clock: IReactorTime, but: Collection[str] = ()
) -> Fields:
    """The fields that a request's headers set; an empty header is as good as none.

    Args:
        request: The request.
        config: The settings.
        clock: The clock.
        but: Fields that are set by something else.

    Raises:
        Problem: 400 if one is invalid.
    """
    fields: Fields = {}
    for name, read in FIELDS.items():
        values = request.requestHeaders.getRawHeaders(_HEADERS[name])
        if values is None or name in but:
            continue
        if len(values) > 1:
            raise Problem(400, f"the vanus-{name} header came {len(values)} times: send it once")
        try:
            text = values[0].decode("utf-8").strip()
            if text:
                fields[name] = read(text, config, clock)
        except UnicodeDecodeError:
            raise Problem(400, f"the vanus-{name} header must be UTF-8") from None
        except Wrong as wrong:
            raise Problem(400, f"the vanus-{name} header must be {wrong}") from None
    return fields


def make_prompt(
    text: str,
    fields: Fields,
    config: Config,
    clock: IReactorTime,
    trace: Trace | None,
    details: Details = PLAIN,
    *,
    not_before: float | None = None,
    expiry: float | None = None,
) -> Prompt:
    """A new prompt; it has the default deadline unless its fields have another."""
    given = {"source": DEFAULT_SOURCE, "type": DEFAULT_TYPE, **fields}
    now = clock.seconds()
    begins = max(now, not_before or now)
    if config.deadline is not None and "deadline" not in fields:
        given["deadline"] = begins + config.deadline
    if "deadline" in given:
        given["tier"] = config.tiers.of(given["deadline"] - begins)
    return Prompt(
        str(uuid4()),
        text,
        accepted=wall(clock),
        trace=trace,
        details=details,
        not_before=not_before,
        expiry=expiry,
        **given,
    )


def submission(prompt: Prompt, key: Key | None, clock: IReactorTime) -> Submission:
    """A prompt as it is to be accepted; one whose deadline has passed only if it is a repeat."""
    late = prompt.deadline is not None and prompt.deadline <= clock.seconds()
    return Submission(prompt, key, late=late)
