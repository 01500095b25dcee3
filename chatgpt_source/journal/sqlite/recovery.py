"""What a start makes of what the run before it left, run inside a transaction."""

import sqlite3
from collections.abc import Mapping

from attrs import fields

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import PeerState
from chatgpt_source.journal.sqlite import keys, outbox
from chatgpt_source.journal.sqlite.rows import Owner, by_name
from chatgpt_source.prompt import MODEL, State

_FIELDS = [each.name for each in fields(PeerState)]


def new_owner(db: sqlite3.Connection, date: float) -> Owner:
    """Begin a run; it is the only owner that a journal in a file has."""
    row = db.execute("INSERT INTO owners (renewed) VALUES (?)", (date,)).lastrowid
    assert row is not None  # noqa: S101 - a row was inserted
    db.execute("DELETE FROM owners WHERE id <> ?", (row,))
    return Owner(row)


def renew(db: sqlite3.Connection, owner: Owner, date: float) -> None:
    """Renew the lease of all that an owner has claimed."""
    db.execute("UPDATE owners SET renewed = ? WHERE id = ?", (date, owner.id))


def take_over(db: sqlite3.Connection, now: float) -> None:
    """Make what others had claimed due, in its old place; such an ask may have been billed.

    A daemon's steady clock begins with the wall clock's time: where that was set back since the
    last one, instants lie in the future. None is left there, and nothing is due later than can be.
    """
    at = {"now": now, "latest": now + LONGEST_RETRY_AFTER}
    clamp = "since = min(since, :now), held = min(held, :now)"
    for table, billed, which in (
        ("prompts", ", billed = TRUE", "state = 'accepted' AND"),
        ("outbox", "", ""),
    ):
        db.execute(
            f"UPDATE {table} SET owner = NULL, due = min(due, :now), {clamp}{billed}"
            f" WHERE {which} owner IS NOT NULL",
            at,
        )
        db.execute(
            f"UPDATE {table} SET due = CASE WHEN due > :latest THEN :now ELSE due END, {clamp}"
            f" WHERE {which} owner IS NULL AND due > :now",
            at,
        )


def failing(db: sqlite3.Connection) -> list[State]:
    """The states that prompts wait in whose last attempt failed."""
    asked = db.execute(
        "SELECT 1 FROM prompts WHERE state = 'accepted' AND error IS NOT NULL LIMIT 1"
    ).fetchone()
    failed = {
        State.ACCEPTED: asked is not None,
        State.ANSWERED: outbox.waits_after_a_failure(db),
    }
    return [state for state, has_failed in failed.items() if has_failed]


def fingerprints(db: sqlite3.Connection, settings: Mapping[str, str]) -> Mapping[str, bytes]:
    """A digest of each peer's settings."""
    return {peer: keys.digest(db, "peer", peer, text) for peer, text in settings.items()}


def remember(db: sqlite3.Connection, peer: str, fingerprint: bytes, state: PeerState) -> None:
    """Keep what is known of a peer; see `Journal.remember`."""
    values = [getattr(state, name) for name in _FIELDS]
    marks = ", ?" * len(_FIELDS)
    db.execute(
        f"INSERT OR REPLACE INTO peers (name, fingerprint, {', '.join(_FIELDS)})"
        f" VALUES (?, ?{marks})",
        (peer, fingerprint, *values),
    )


def recall(
    db: sqlite3.Connection, known: Mapping[str, bytes], now: float
) -> Mapping[str, PeerState]:
    """What is known of the peers whose settings are the same; the others are forgotten."""
    found = {}
    for row in by_name(db.execute("SELECT * FROM peers")).fetchall():
        if known.get(row["name"]) == row["fingerprint"]:
            found[row["name"]] = PeerState(
                row["held"],
                None if row["since"] is None else min(row["since"], now),
                row["misses"],
                _soon_enough(row["probe_at"], now),
                _soon_enough(row["throttled_until"], now),
                bool(row["failing"]),
            )
        else:
            db.execute("DELETE FROM peers WHERE name = ?", (row["name"],))
            _let_go(db, row["name"], now)
    return found


def _let_go(db: sqlite3.Connection, peer: str, now: float) -> None:
    """Make what was held for a peer due: with other settings it may well be taken."""
    which, value = ("prompts", "state") if peer == MODEL else ("outbox", "destination")
    db.execute(
        f"UPDATE {which} SET due = ? WHERE {value} = ? AND held IS NOT NULL AND due > ?",
        (now, State.ACCEPTED.value if peer == MODEL else peer, now),
    )


def _soon_enough(instant: float | None, now: float) -> float | None:
    """An instant that is not further ahead than a peer may ask for."""
    return now if instant is not None and instant > now + LONGEST_RETRY_AFTER else instant
