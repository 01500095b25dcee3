"""Leftovers: what providers keep and nobody needs. Each function runs in a transaction."""

import sqlite3

from chatgpt_source.journal import Claims
from chatgpt_source.journal.sqlite.rows import Owner, by_name
from chatgpt_source.prompt import Leftover

_CLAIMED = "id = ? AND owner = ? AND token = ?"


def add(db: sqlite3.Connection, leftover: Leftover | None, now: float) -> None:
    """Store a leftover, if there is one; it is due."""
    if leftover is not None:
        db.execute(
            "INSERT INTO leftovers (submitted, provider, stop, forget, since, due)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (leftover.submitted, leftover.provider, leftover.stop, leftover.forget, now, now),
        )


def claim(db: sqlite3.Connection, owner: Owner, now: float, most: int) -> Claims[Leftover]:
    """Claim leftovers; see `Journal.claim_leftovers`."""
    found = db.execute(
        "SELECT * FROM leftovers WHERE owner IS NULL AND due <= ? ORDER BY due, id LIMIT ?",
        (now, most),
    )
    claimed = [
        Leftover(
            row["submitted"],
            row["provider"],
            bool(row["stop"]),
            bool(row["forget"]),
            min(row["since"], now),
            row["tries"],
            row["id"],
            next(owner.tokens),
        )
        for row in by_name(found)
    ]
    db.executemany(
        "UPDATE leftovers SET owner = ?, token = ?, tries = tries + 1 WHERE id = ?",
        [(owner.id, each.token, each.id) for each in claimed],
    )
    (due,) = db.execute("SELECT min(due) FROM leftovers WHERE owner IS NULL").fetchone()
    return Claims(claimed, due)


def count(db: sqlite3.Connection) -> int:
    """How many there are."""
    (number,) = db.execute("SELECT count(*) FROM leftovers").fetchone()
    return int(number)


def ended(db: sqlite3.Connection, owner: Owner, leftover: Leftover, until: float | None) -> None:
    """End a claim; see `Journal.leftover_ended`."""
    claim = (leftover.id, owner.id, leftover.token)
    if until is None:
        db.execute(f"DELETE FROM leftovers WHERE {_CLAIMED}", claim)
    else:
        db.execute(
            f"UPDATE leftovers SET due = ?, stop = ?, owner = NULL WHERE {_CLAIMED}",
            (until, leftover.stop, *claim),
        )
