"""What operators' commands have done. Each function runs in a transaction."""

import sqlite3

from chatgpt_source.journal import AuditEntry
from chatgpt_source.journal.sqlite.schema import VERSION, version_of

MOST = 100
"""Entries that are taken at a time."""


def add(db: sqlite3.Connection, entry: AuditEntry) -> None:
    """Store an entry; see `Journal.audit`. A journal of an earlier release has no place for it."""
    if version_of(db) >= VERSION:
        db.execute("INSERT INTO audit (who, did) VALUES (?, ?)", (entry.who, entry.did))


def are_any(db: sqlite3.Connection) -> bool:
    """Whether there are entries; see `Journal.has_audit_entries`."""
    return bool(db.execute("SELECT EXISTS (SELECT 1 FROM audit)").fetchone()[0])


def take(db: sqlite3.Connection) -> list[AuditEntry]:
    """Take the oldest ones; see `Journal.take_audit_entries`."""
    rows = db.execute("SELECT id, who, did FROM audit ORDER BY id LIMIT ?", (MOST,)).fetchall()
    db.executemany("DELETE FROM audit WHERE id = ?", [(row[0],) for row in rows])
    return [AuditEntry(row[1], row[2]) for row in rows]
