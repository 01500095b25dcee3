"""Take over from earlier runs at a start. Each function runs in a transaction."""

import sqlite3
from collections.abc import Iterable, Mapping

from attrs import fields

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import PeerState, Recovered
from chatgpt_source.journal.rows import peer_of
from chatgpt_source.journal.sqlite import keys, pauses, queues, upkeep
from chatgpt_source.journal.sqlite.rows import Now, Owner, by_name
from chatgpt_source.prompt import MODEL, Tier, is_asked

_TIERS = f"tier IN ({', '.join(repr(tier.value) for tier in Tier)})"
"""True of all; lets SQLite use `to_ask` for what is due later."""
FIRST_POLLS = 10.0
"""Seconds from a start in which all submitted prompts are due for a poll."""
Begun = tuple[Owner, Mapping[str, bytes], Recovered]
"""A run, the digest of each peer's settings, and what the journal has."""
_FIELDS = [each.name for each in fields(PeerState)]


def recover(
    db: sqlite3.Connection,
    now: Now,
    keep: float,
    everyday_limit: int,
    timezone: str,
    peers: Mapping[str, str],
) -> Begun:
    """Begin a run; see `Journal.recover`."""
    owner = new_owner(db, now.date)
    take_over(db, now.steady, keep)
    upkeep.keep_terms(db, everyday_limit, timezone)
    known = fingerprints(db, peers)
    destinations = queues.destinations(db)
    recalled = recall(db, known, now.steady)
    found = Recovered(recalled, failing(db, destinations), destinations, pauses.pauses(db))
    return owner, known, found


def new_owner(db: sqlite3.Connection, date: float) -> Owner:
    """Begin a run; a journal in a file has one owner at a time, whose lease never ends."""
    row = db.execute("INSERT INTO owners (renewed) VALUES (?)", (date,)).lastrowid
    assert row is not None  # noqa: S101 - a row was inserted
    db.execute("DELETE FROM owners WHERE id <> ?", (row,))
    return Owner(row)


def take_over(db: sqlite3.Connection, now: float, keep: float) -> None:
    """End other owners' claims; see `Journal.recover`.

    A daemon's steady clock starts at the wall clock's time. If that was set back since the last
    start, stored instants lie in the future, and are corrected here.
    """
    at = {"now": now, "latest": now + LONGEST_RETRY_AFTER}
    own_time = "coalesce(not_before, 0)"
    clamp = "since = min(since, :now), held = min(held, :now)"
    destinations = f"destination IN ({queues.DESTINATIONS}) AND"
    for table, billed, which, queue, own in (
        ("prompts", ", billed = TRUE", f"state = 'accepted' AND {_TIERS} AND", "", own_time),
        ("prompts", "", "state = 'submitted' AND", "", "0"),
        ("outbox", "", "", destinations, "0"),
    ):
        db.execute(
            f"UPDATE {table} SET owner = NULL, due = min(due, :now), {clamp}{billed}"
            f" WHERE {which} owner IS NOT NULL",
            at,
        )
        db.execute(
            f"UPDATE {table} SET due = CASE WHEN due > :latest THEN :now ELSE due END, {clamp}"
            f" WHERE {which} {queue} owner IS NULL AND due > :now AND due > {own}",
            at,
        )
    # The settings or the clock may have changed: a poll says how it is.
    db.execute(
        "UPDATE prompts SET due = ?1 WHERE state = 'submitted' AND owner IS NULL AND due > ?1",
        (now + FIRST_POLLS,),
    )
    db.execute("UPDATE leftovers SET owner = NULL, due = ?1, since = min(since, ?1)", (now,))
    db.execute("UPDATE prompts SET needed_until = NULL WHERE needed_until IS NOT NULL")
    db.execute("UPDATE prompts SET kept_until = ?1 WHERE kept_until > ?1", (now + keep,))


def failing(db: sqlite3.Connection, destinations: Iterable[str]) -> list[str]:
    """The model and the destinations, of those for which work waits after a failed attempt."""
    query = "SELECT EXISTS (SELECT 1 FROM {} AND error IS NOT NULL)"
    peers = [(MODEL, "prompts WHERE state = 'accepted' AND ? <> ''")]
    peers += [(name, "outbox WHERE destination = ?") for name in destinations]
    return [name for name, rows in peers if db.execute(query.format(rows), (name,)).fetchone()[0]]


def fingerprints(db: sqlite3.Connection, settings: Mapping[str, str]) -> Mapping[str, bytes]:
    """A digest of each peer's settings."""
    return {peer: keys.digest(db, "peer", peer, text) for peer, text in settings.items()}


def remember(db: sqlite3.Connection, peer: str, fingerprint: bytes, state: PeerState) -> None:
    """Store the state of a peer; see `Journal.remember`."""
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
    """The states of the peers with the same settings; the others are deleted."""
    found = {}
    for row in by_name(db.execute("SELECT * FROM peers")).fetchall():
        if known.get(row["name"]) == row["fingerprint"]:
            found[row["name"]] = peer_of(row, now)
        else:
            db.execute("DELETE FROM peers WHERE name = ?", (row["name"],))
            _let_go(db, row["name"], now)
    return found


def _let_go(db: sqlite3.Connection, peer: str, now: float) -> None:
    """Make work that waits for a peer due, because the settings have changed."""
    if is_asked(peer):
        db.execute(
            "UPDATE prompts SET due = max(?1, coalesce(not_before, ?1)) WHERE state = 'accepted'"
            f" AND {_TIERS} AND owner IS NULL AND due > ?1 AND due > coalesce(not_before, 0)",
            (now,),
        )
    else:
        db.execute(
            "UPDATE outbox SET due = ?1 WHERE owner IS NULL AND destination = ?2 AND due > ?1",
            (now, peer),
        )
