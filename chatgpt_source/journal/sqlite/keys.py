"""Idempotency keys: stored as digests, each with a digest of its prompt."""

import sqlite3
from collections.abc import Iterable, Sequence

from chatgpt_source.journal import Key, digests
from chatgpt_source.journal.sqlite.together import ForMany, insert

_KNOWN = ForMany(
    "SELECT keys.digest, fingerprint, id FROM given CROSS JOIN keys USING (digest)"
    " JOIN prompts USING (seq)",
    ("digest",),
)
_ADD = insert("keys", "digest", "fingerprint", "seq")


def add(db: sqlite3.Connection, new: Sequence[tuple[bytes, bytes | None, int]]) -> None:
    """Store the digest of each key, its prompt's fingerprint, and its prompt's `seq`."""
    _ADD.run(db, new)


def known(db: sqlite3.Connection, digests_: Iterable[bytes]) -> dict[bytes, tuple[bytes, str]]:
    """The fingerprint and the id of the prompts that came with some keys, by the key's digest."""
    found = _KNOWN.run(db, [(each,) for each in digests_])
    return {key: (fingerprint, prompt_id) for key, fingerprint, prompt_id in found}


def secret(db: sqlite3.Connection) -> bytes:
    """What digests are keyed with: without that, nobody can test a guess."""
    (value,) = db.execute("SELECT value FROM secret").fetchone()
    return bytes(value)


def ids(db: sqlite3.Connection, keys: Sequence[Key]) -> list[str]:
    """The ids of the prompts that came with some keys; see `Journal.ids_of`."""
    if not keys:
        return []
    own = secret(db)
    found = known(db, {digests.digest(own, *each.words) for each in keys})
    return sorted({prompt_id for _, prompt_id in found.values()})


def digest(db: sqlite3.Connection, *words: str) -> bytes:
    """A digest keyed with the journal's secret."""
    return digests.digest(secret(db), *words)
