"""Idempotency keys: stored as digests, each with a digest of its prompt."""

import hashlib
import hmac
import sqlite3

from chatgpt_source.errors import KeyReused
from chatgpt_source.journal import Key
from chatgpt_source.prompt import TARGET, Prompt


def add(db: sqlite3.Connection, seq: int, prompt: Prompt, key: Key) -> None:
    """Store the key of a prompt."""
    db.execute(
        "INSERT INTO keys VALUES (?, ?, ?)", (digest(db, *key.words), _fingerprint(db, prompt), seq)
    )


def known(db: sqlite3.Connection, prompt: Prompt, key: Key) -> str | None:
    """The id of the prompt that came with a key; None if none did.

    Raises:
        KeyReused: If it came with another content, and must not.
    """
    row = db.execute(
        "SELECT id, fingerprint FROM keys JOIN prompts USING (seq) WHERE digest = ?",
        (digest(db, *key.words),),
    ).fetchone()
    if row is None:
        return None
    prompt_id, fingerprint = row
    if not key.any_content and not hmac.compare_digest(fingerprint, _fingerprint(db, prompt)):
        raise KeyReused
    return str(prompt_id)


def digest(db: sqlite3.Connection, *words: str) -> bytes:
    """A digest keyed with the journal's secret: without that, nobody can test a guess."""
    (secret,) = db.execute("SELECT value FROM secret").fetchone()
    made = hmac.new(secret, digestmod=hashlib.sha256)
    for word in words:
        raw = word.encode("utf-8")
        made.update(len(raw).to_bytes(8, "big") + raw)
    return made.digest()


def _fingerprint(db: sqlite3.Connection, prompt: Prompt) -> bytes:
    # Without its times: "in an hour" is another instant in each repeat.
    details = prompt.details.to_json()
    more = [] if details is None else [details]
    if prompt.target != TARGET.setting:
        more.append(prompt.target)
    return digest(db, prompt.text, prompt.source, prompt.type, *more)
