"""Claim prompts for an ask. Each function runs in a transaction."""

from collections.abc import Sequence
from typing import Any

from chatgpt_source.journal import (
    LAST_POLL,
    Claims,
)
from chatgpt_source.journal.postgres.session import (
    MOST_CLAIMED,
    Cursor,
    Row,
    Session,
    Steps,
    rows_of,
)
from chatgpt_source.prompt import (
    Ask,
    Details,
    Prompt,
    Tier,
    Trace,
)

_PROMPT = (
    "prompts.seq AS seq, id, prompt, source, type, accepted, traceparent, tracestate, target,"
    " details, not_before, deadline, ends, tier"
)
_ASK = (
    f"{_PROMPT}, tries, asks, since, possibly_billed, held, submitted, polls, missing_since,"
    " missing, provider, batch, token"
)
_EXPIRING = "ends IS NOT NULL AND (state = 'accepted' OR state = 'submitted' AND batch IS NOT NULL)"
_OWN_BATCH = "EXISTS (SELECT 1 FROM batches WHERE id = %(batch)s AND owner = %(owner)s)"
_UNPOLLED = "ends IS NOT NULL AND state = 'submitted' AND batch IS NULL"


def claim_asks(db: Session, now: float, most: int, tier: Tier) -> Steps[Claims[Ask]]:
    """Claim accepted prompts; see `Journal.claim_asks`."""
    claimed = _claim(
        *(db, now, most),
        "state = 'accepted' AND tier = %(tier)s AND due <= %(now)s",
        ("due", "seq"),
        {"tier": tier.value},
        called=True,
    )
    (row,) = yield db.execute(
        "SELECT min(due) AS due FROM prompts"
        " WHERE state = 'accepted' AND owner IS NULL AND tier = %s",
        (tier.value,),
    )
    return Claims(_asks(db, rows_of(claimed), "due"), db.steady(row["due"]))


def claim_expired(db: Session, now: float, most: int) -> Steps[Claims[Ask]]:
    """Claim prompts whose time is up; see `Journal.claim_expired`."""
    asks: list[Ask] = []
    next_ones = []
    for which, after_ends in ((_EXPIRING, 0.0), (_UNPOLLED, LAST_POLL)):
        claimed = _claim(
            *(db, now, most - len(asks)),
            f"{which} AND ends <= %(ends)s",
            ("ends", "seq"),
            {"ends": db.at(now - after_ends)},
        )
        (row,) = yield db.execute(
            f"SELECT min(ends) + %s AS due FROM prompts WHERE {which} AND owner IS NULL",
            (after_ends,),
        )
        asks += _asks(db, rows_of(claimed), "ends")
        next_ones.append(db.steady(row["due"]))
    return Claims(asks, min((each for each in next_ones if each is not None), default=None))


def claim_submitted(db: Session, now: float, most: int) -> Steps[Claims[Ask]]:
    """Claim submitted prompts whose poll is due; see `Journal.claim_submitted`."""
    claimed = _claim(db, now, most, "state = 'submitted' AND due <= %(now)s", ("due", "seq"), {})
    (row,) = yield db.execute(
        "SELECT min(due) AS due FROM prompts WHERE state = 'submitted' AND owner IS NULL"
    )
    return Claims(_asks(db, rows_of(claimed), "due"), db.steady(row["due"]))


def claim_batched(
    db: Session, batch: int, now: float, most: int, ids: Sequence[str] | None
) -> Steps[Claims[Ask]]:
    """Claim prompts of a batch; see `Journal.claim_batched`."""
    which = f"batch = %(batch)s AND {_OWN_BATCH}"
    if ids is not None:
        which += " AND id = ANY (%(ids)s)"
    rows = yield _claim(db, now, most, which, ("seq",), {"batch": batch, "ids": ids})
    return Claims(_asks(db, rows, "seq"), None)


def _claim(
    db: Session,
    now: float,
    most: int,
    which: str,
    order: Sequence[str],
    values: dict[str, Any],
    *,
    called: bool = False,
) -> Cursor:
    """Claim up to `most` prompts; `_asks` reads them.

    Args:
        db: The database.
        now: The time.
        most: How many.
        which: SQL that says which.
        order: The columns that say in which order.
        values: Its values.
        called: Whether a call to the model is counted for each that has time left.
    """
    by = ", ".join(order)
    calls = "(ends IS NULL OR ends > %(now)s)::integer" if called else "0"
    return db.execute(
        "WITH due AS MATERIALIZED (SELECT seq, size, "
        f"{by.replace('seq', 'seq AS place')} FROM prompts WHERE owner IS NULL AND {which}"
        f" ORDER BY {by} LIMIT %(most)s FOR UPDATE SKIP LOCKED),"
        f" few AS (SELECT seq, sum(size) OVER (ORDER BY {by}) - size AS before FROM due)"
        " UPDATE prompts SET owner = %(owner)s, token = nextval('tokens'),"
        f" tries = tries + {calls}, asks = asks + {calls}, since = least(since, %(now)s)"
        " FROM few JOIN texts USING (seq)"
        f" WHERE prompts.seq = few.seq AND before < {MOST_CLAIMED}"
        f" RETURNING due, {_ASK}",
        {**values, "now": db.at(now), "most": max(0, most), "owner": db.owner},
    )


def _asks(db: Session, claimed: Sequence[Row], order: str) -> list[Ask]:
    """What was claimed, in the order of a column, and then of acceptance."""
    return [_ask(db, row) for row in sorted(claimed, key=lambda row: (row[order], row["seq"]))]


def prompts_in(db: Session, batch: int, after: int, most: int) -> Steps[list[tuple[int, Prompt]]]:
    """A page of a batch's prompts; see `Journal.batched`."""
    rows = yield db.execute(
        f"SELECT {_PROMPT} FROM prompts JOIN texts USING (seq) JOIN (SELECT seq,"
        " sum(size) OVER (ORDER BY seq) - size AS before FROM (SELECT seq, size FROM prompts"
        " WHERE batch = %s AND seq > %s ORDER BY seq LIMIT %s) AS page) AS few USING (seq)"
        f" WHERE before < {MOST_CLAIMED} ORDER BY seq".replace("prompts.seq AS seq", "seq"),
        (batch, after, most),
    )
    return [(row["seq"], _prompt(db, row)) for row in rows]


def trace_of(row: Row) -> Trace | None:
    """The trace of a prompt's request."""
    parent = row["traceparent"]
    return None if parent is None else Trace(parent, row["tracestate"])


def _prompt(db: Session, row: Row) -> Prompt:
    return Prompt(
        *(row["id"], bytes(row["prompt"]), row["source"], row["type"], row["accepted"]),
        trace_of(row),
        target=row["target"],
        details=Details.from_json(row["details"]),
        not_before=db.steady(row["not_before"]),
        deadline=db.steady(row["deadline"]),
        expiry=db.steady(row["ends"]),
        tier=Tier(row["tier"]),
    )


def _ask(db: Session, row: Row) -> Ask:
    return Ask(
        _prompt(db, row),
        attempt=row["tries"],
        total=row["asks"],
        since=row["since"] - db.offset,
        possibly_billed=row["possibly_billed"],
        held=db.steady(row["held"]),
        token=row["token"],
        submitted=row["submitted"],
        polls=row["polls"],
        missing_since=db.steady(row["missing_since"]),
        missing=row["missing"],
        provider=row["provider"],
        batch=row["batch"],
    )
