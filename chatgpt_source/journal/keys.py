"""Idempotency keys, as a header has them, and as an operator gives them."""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence

from chatgpt_source.config.credentials import Credentials
from chatgpt_source.journal import Key

_KEY = re.compile(rb'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"|([\x21\x23-\x7e]+)')


def without_quotes(value: bytes) -> bytes | None:
    """The key that a header's value has, with or without quotes; None if it has none."""
    match = _KEY.fullmatch(value)
    return match and (re.sub(rb"\\(.)", rb"\1", match[1] or b"") or match[2])


def possible_keys(word: str, known: Iterable[Credentials | None]) -> Sequence[Key]:
    """The keys that callers may have meant by an Idempotency-Key: one for each credential."""
    shown: list[tuple[str, ...]] = [()]
    for credentials in filter(None, known):
        shown += [(f"Bearer {token.read()}",) for token in credentials.bearer]
        users = [f"{name}:{password.read()}" for name, password in credentials.basic.items()]
        shown += [(f"Basic {b64encode(user.encode()).decode()}",) for user in users]
    sent = without_quotes(word.encode("utf-8"))
    words = dict.fromkeys([word, sent.decode() if sent else word])
    return [Key((*each, key)) for each in shown for key in words]
