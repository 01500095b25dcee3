"""Leftovers: what providers keep and nobody needs. Each function runs in a transaction."""

from chatgpt_source.journal import Claims
from chatgpt_source.journal.postgres.session import Session, Steps, rows_of
from chatgpt_source.prompt import Leftover

_CLAIMED = "id = %s AND token = %s AND owner IS NOT NULL"


def add(db: Session, leftover: Leftover | None, now: float) -> None:
    """Store a leftover, if there is one; it is due."""
    if leftover is not None:
        db.execute(
            "INSERT INTO leftovers (submitted, provider, stop, forget, since, due)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (
                *(leftover.submitted, leftover.provider, leftover.stop, leftover.forget),
                *(db.at(now), db.at(now)),
            ),
        )


def claim(db: Session, now: float, most: int) -> Steps[Claims[Leftover]]:
    """Claim leftovers; see `Journal.claim_leftovers`."""
    found = db.execute(
        "WITH due AS MATERIALIZED (SELECT id FROM leftovers WHERE owner IS NULL AND due <= %s"
        " ORDER BY due, id LIMIT %s FOR UPDATE SKIP LOCKED)"
        " UPDATE leftovers SET owner = %s, token = nextval('tokens'), tries = tries + 1"
        " FROM due WHERE leftovers.id = due.id RETURNING leftovers.*",
        (db.at(now), most, db.owner),
    )
    (row,) = yield db.execute("SELECT min(due) AS due FROM leftovers WHERE owner IS NULL")
    claimed = [
        Leftover(
            *(row["submitted"], row["provider"], row["stop"], row["forget"]),
            *(min(row["since"] - db.offset, now), row["tries"] - 1, row["id"], row["token"]),
        )
        for row in sorted(rows_of(found), key=lambda row: (row["due"], row["id"]))
    ]
    return Claims(claimed, db.steady(row["due"]))


def ended(db: Session, leftover: Leftover, until: float | None) -> Steps[None]:
    """End a claim; see `Journal.leftover_ended`."""
    claim = (leftover.id, leftover.token)
    if until is None:
        yield db.execute(f"DELETE FROM leftovers WHERE {_CLAIMED}", claim)
    else:
        yield db.execute(
            f"UPDATE leftovers SET due = %s, stop = %s, owner = NULL WHERE {_CLAIMED}",
            (db.at(until), leftover.stop, *claim),
        )
