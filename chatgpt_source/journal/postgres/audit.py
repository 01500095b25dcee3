"""What operators' commands have done. Each function runs in a transaction."""

from chatgpt_source.journal import AuditEntry
from chatgpt_source.journal.postgres.session import Session, Steps

MOST = 100
"""Entries that are taken at a time."""


def add(db: Session, entry: AuditEntry) -> Steps[None]:
    """Store an entry; see `Journal.audit`."""
    yield db.execute("INSERT INTO audit (who, did) VALUES (%s, %s)", (entry.who, entry.did))


def are_any(db: Session) -> Steps[bool]:
    """Whether there are entries; see `Journal.has_audit_entries`."""
    (row,) = yield db.execute("SELECT EXISTS (SELECT 1 FROM audit) AS any")
    return bool(row["any"])


def take(db: Session) -> Steps[list[AuditEntry]]:
    """Take the oldest ones; see `Journal.take_audit_entries`."""
    rows = yield db.execute(
        "WITH few AS MATERIALIZED"
        " (SELECT id FROM audit ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED)"
        " DELETE FROM audit USING few WHERE audit.id = few.id RETURNING audit.id, who, did",
        (MOST,),
    )
    ordered = sorted(rows, key=lambda row: row["id"])
    return [AuditEntry(row["who"], row["did"]) for row in ordered]
