"""Classifies the failures of a model's server in a table. Pure.

Statuses are HTTP's (RFC 9110).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from attrs import field, frozen

from chatgpt_source.errors import (
    CallError,
    Class,
    Lost,
    NoRoom,
    PeerFailure,
    Permanent,
    Transient,
    first_class,
)

_EMPTY_ACCOUNT = re.compile(
    r"(?:\w*_(?=spend_limit))?(insufficient_quota|credit_balance_exhausted"
    r"|organization_usage_limit_exceeded|(?<=_)spend_limit_exceeded)"
)

_MODEL_HOLDS = {
    401: "check `token`",
    402: "check the account's balance",
    403: "check what `token` may use",
    404: "check `base_url` and `model`",
    405: "check `base_url`",
}
"""Statuses that mean wrong settings, whatever the prompt, and what an operator should check."""
_AS_STATUS = {
    "rate_limit_exceeded": 429,
    "resource_unavailable": 429,
    "server_error": 500,
    "vector_store_timeout": 500,
}
"""Codes of a response that failed, and the statuses that mean the same."""
_NO_ROOM = {(429, "resource_unavailable"), (498, "capacity_exceeded")}
"""What a tier without room answers: OpenAI's and Groq's."""
_ON_TIER = "service_tier"
"""The member that chooses a tier; no caller sets it."""
FIRST_MESSAGE = "messages[0]"
"""The member that an error about the first message names: the settings may have set it."""
_MEMBER = re.compile(r"messages\[0\](?=[.\[]|$)|[^.\[]*")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CALLERS = {400, 403, 404}
"""Statuses that members of the request can cause."""


@frozen
class ErrorResponse:
    """A response of the model's server that is not a 200.

    Attributes:
        status: The HTTP status.
        codes: `error.code` and `error.type`: compatible servers use either.
        code: `error.code`.
        param: `error.param`.
        wait: The result of `read_retry_after`.
        should_retry: The result of `read_should_retry`.
    """

    status: int
    codes: Sequence[str] = field(default=(), repr=False)
    code: str | None = field(default=None, repr=False)
    param: str | None = field(default=None, repr=False)
    wait: float | None = None
    should_retry: bool | None = None


def model_error(
    answered: ErrorResponse,
    ours: Mapping[str, str] = MappingProxyType({}),
    *,
    callers: bool = False,
) -> CallError:
    """Classify a response that is not a 200.

    Args:
        answered: The response.
        ours: The settings that set members of the request, by member: a 400 about one of these is
            not the prompt's fault.
        callers: Whether the caller set members of the request: then a 400, 403 or 404 is the
            prompt's fault.
    """
    kind, why = _model_class(answered, ours)
    if callers and answered.status in _CALLERS and _member(answered) != _ON_TIER:
        kind, why = Permanent, ": it refuses this prompt, whose caller set members of the call"
    word = _empty_account(answered.codes) if answered.status == 429 else None
    if issubclass(kind, Permanent | PeerFailure):
        word = word or plain_word([answered.code or ""])
    told = f" ({word})" if word else ""
    return kind(
        f"the model answered {answered.status}{told}{why}",
        status=answered.status,
        retry_after=answered.wait,
    )


def _model_class(answered: ErrorResponse, ours: Mapping[str, str]) -> Class:
    status = answered.status
    empty = _empty_account(answered.codes)
    member = _member(answered)
    no_room = any((status, code) in _NO_ROOM for code in answered.codes)
    return first_class(
        (status == 429 and bool(empty), PeerFailure, ": check the account's balance"),
        (status in _MODEL_HOLDS, PeerFailure, f": {_MODEL_HOLDS.get(status)}"),
        (300 <= status < 400, PeerFailure, ", a redirect, which is not followed: check `base_url`"),
        (
            status == 400 and member in ours,
            PeerFailure,
            f" because of `{member}`: check `{ours.get(member)}`",
        ),
        (no_room, NoRoom, ": it has no room on the tier"),
        (answered.should_retry is False, Permanent, " and says not to try again"),
        (status in {408, 409, 429, 498} or status >= 500, Transient, ""),
        (answered.should_retry is True, Transient, " and says to try again"),
        (True, Permanent, ": it refuses this prompt"),
    )


def _member(answered: ErrorResponse) -> str:
    """The member of the request that an error is about."""
    found = _MEMBER.match(answered.param or "")
    return found[0] if found else ""


def failed_response(codes: Sequence[str]) -> CallError:
    """Classify a response whose status is `failed`; asking again may help as after a 429 or 5xx.

    Args:
        codes: Its `error.code` and `error.type`.
    """
    empty = _empty_account(codes)
    code = empty or plain_word(codes) or "no code"
    status = 429 if empty else _AS_STATUS.get(code, 200)
    kind, why = first_class(
        (bool(empty), Lost, ": check the account's balance"),
        (status != 200, Lost, ""),
        (True, Permanent, ": it refuses this prompt"),
    )
    return kind(f"the model failed ({code}){why}", status=status)


def plain_word(codes: Iterable[str]) -> str | None:
    """The first code that is a plain word, and so may be shown."""
    return next(filter(_WORD.fullmatch, codes), None)


def _empty_account(codes: Sequence[str]) -> str | None:
    """The code of an empty account, if there is one."""
    found = next(filter(None, map(_EMPTY_ACCOUNT.fullmatch, codes)), None)
    return found[1] if found else None
