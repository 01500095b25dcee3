"""Idempotency keys: stored as digests, each with a digest of its prompt."""

import hmac
import sqlite3
from collections.abc import Sequence

from chatgpt_source.errors import KeyReused
from chatgpt_source.journal import Key, digests
from chatgpt_source.prompt import Prompt


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


def ids(db: sqlite3.Connection, keys: Sequence[Key]) -> list[str]:
    """The ids of the prompts that came with some keys; see `Journal.ids_of`."""
    one = "SELECT id FROM keys JOIN prompts USING (seq) WHERE digest = ?"
    found = [db.execute(one, (digest(db, *key.words),)).fetchone() for key in keys]
    return sorted({row[0] for row in found if row})


def digest(db: sqlite3.Connection, *words: str) -> bytes:
    """A digest keyed with the journal's secret: without that, nobody can test a guess."""
    (secret,) = db.execute("SELECT value FROM secret").fetchone()
    return digests.digest(secret, *words)


def _fingerprint(db: sqlite3.Connection, prompt: Prompt) -> bytes:
    (secret,) = db.execute("SELECT value FROM secret").fetchone()
    return digests.fingerprint(secret, prompt)
