"""Digests, keyed with the journal's secret: without that, nobody can test a guess."""

import hashlib
import hmac
import json

from attrs import asdict

from chatgpt_source.prompt import PLAIN, TARGET, Prompt


def digest(secret: bytes, *words: str) -> bytes:
    """A digest of some words."""
    made = hmac.new(secret, digestmod=hashlib.sha256)
    for word in words:
        raw = word.encode("utf-8")
        made.update(len(raw).to_bytes(8, "big") + raw)
    return made.digest()


def fingerprint(secret: bytes, prompt: Prompt) -> bytes:
    """A digest of a prompt's content."""
    # Without its times: "in an hour" is another instant in each repeat.
    details = prompt.details
    # Sorted: callers whose maps have no order write their members differently each time.
    more = [] if details == PLAIN else [json.dumps(asdict(details, recurse=False), sort_keys=True)]
    if prompt.target != TARGET.setting:
        more.append(prompt.target)
    return digest(secret, prompt.text, prompt.source, prompt.type, *more)
