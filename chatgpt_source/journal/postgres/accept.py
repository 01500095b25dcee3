"""Admit prompts. Each function runs in a transaction."""

from collections.abc import Sequence
from typing import Any

import attrs

from chatgpt_source.journal import admission, digests
from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.journal.postgres.session import (
    ACCEPT,
    Last,
    Session,
    Steps,
    Together,
    arrays,
    rows_of,
)
from chatgpt_source.journal.rows import names_of
from chatgpt_source.journal.states import WAITING

IN_BACKLOG = f"state IN ({names_of(WAITING)})"
_BACKLOG = f"SELECT count(*) FROM (SELECT 1 FROM prompts WHERE {IN_BACKLOG} LIMIT %(most)s) AS few"
KEY_LOCKS = 1024
"""Locks for all keys: the server's table of locks is small, and all its databases' own."""
COUNT_EVERY = 1.0
"""Seconds for which a backlog of less than half the limit is not counted again: each group would
look at all that wait."""
_COLUMNS = {
    "id": "text",
    "due": "float8",
    "day": "text",
    "accepted": "float8",
    "calls": "integer",
    "owner": "bigint",
    "target": "text",
    "not_before": "float8",
    "deadline": "float8",
    "ends": "float8",
    "needed_until": "float8",
    "tier": "text",
    "size": "integer",
    "prompt": "bytea",
    "source": "text",
    "type": "text",
    "parent": "text",
    "state": "text",
    "details": "text",
    "digest": "bytea",
    "fingerprint": "bytea",
}
"""What is given of a new prompt, by name."""
_INSERT = (
    f"WITH {arrays(_COLUMNS)},"
    " new AS (INSERT INTO prompts (id, state, due, day, accepted, since, tries, asks, owner,"
    " token, target, not_before, deadline, ends, needed_until, tier, size)"
    " SELECT id, 'accepted', due, day, accepted, due, calls, calls, owner,"
    " CASE WHEN owner IS NULL THEN 0 ELSE nextval('tokens') END,"
    " target, not_before, deadline, ends, needed_until, tier, size FROM given ORDER BY place"
    " RETURNING seq, id, token),"
    " text AS (INSERT INTO texts (seq, prompt, source, type, traceparent, tracestate, details)"
    " SELECT seq, prompt, source, type, parent, state, details FROM new JOIN given USING (id)),"
    " key AS (INSERT INTO keys SELECT digest, fingerprint, seq FROM new JOIN given USING (id)"
    " WHERE digest IS NOT NULL),"
    " spent AS (UPDATE days SET used = used + n FROM"
    " (SELECT day, count(*) AS n FROM given GROUP BY day) AS taken WHERE days.day = taken.day)"
    " SELECT id, token FROM new"
)


@attrs.frozen
class Accept(Together, admission.Request):
    """The request to accept some prompts; all of a group are decided together."""

    rank = ACCEPT

    @property
    def size(self) -> int:
        """Characters of its prompts."""
        return sum(len(each.prompt.text) for each in self.submissions)

    @staticmethod
    def all_of(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
        """Admit the prompts of a group's requests."""
        return accept(db, operations)


def accept(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
    """Admit the prompts of a group's requests; sets the outcome of each.

    Every process locks the keys in their order, and then the days in theirs: none waits for a key
    while it holds a day.
    """
    requests: list[Accept] = [operation.run for operation in operations]  # type: ignore[misc]
    known = yield from _look_up(db, requests)
    inserted = []
    for operation, request in zip(operations, requests, strict=True):
        operation.error = None
        try:
            operation.result, new = admission.decide(request, known, _no_token_yet)
        except Exception as error:  # noqa: BLE001 - a refusal is this request's alone
            operation.error = error
        else:
            inserted.append((operation, new))
    db.backlog = known.backlog
    rows = [_row(db, one) for _, new in inserted for one in new]
    tokens = {}
    if rows:
        values = {name: [row[name] for row in rows] for name in _COLUMNS}
        added = yield Last(
            db.execute(_INSERT, values),
            "SELECT id, token FROM prompts WHERE id = ANY (%(id)s)",
            values,
        )
        tokens = {row["id"]: row["token"] for row in added}
    for operation, _ in inserted:
        operation.result = [
            each
            if each.ask is None
            else attrs.evolve(each, ask=attrs.evolve(each.ask, token=tokens[each.id]))
            for each in operation.result
        ]


def _look_up(db: Session, requests: Sequence[Accept]) -> Steps[admission.Known]:
    words = {each.key.words for request in requests for each in request.submissions if each.key}
    wanted = sorted(digests.digest(db.secret, *each) for each in words)
    locks = sorted({int.from_bytes(each[:8], "big") % KEY_LOCKS for each in wanted})
    found = None
    if wanted:
        db.execute("SELECT pg_advisory_xact_lock(k) FROM unnest(%s::bigint[]) AS k", (locks,))
        found = db.execute(
            "SELECT digest, fingerprint, id FROM keys JOIN prompts USING (seq)"
            " WHERE digest = ANY (%s)",
            (wanted,),
        )
    now = max(request.now for request in requests)
    least = min(request.terms.max_backlog for request in requests)
    most = max(request.terms.max_backlog for request in requests) + 1
    is_far_off = db.backlog * 2 < least and 0 <= now - db.counted < COUNT_EVERY
    backlog = str(db.backlog) if is_far_off else _BACKLOG
    days = sorted({request.terms.day.date for request in requests}.union(db.returned))
    used = yield db.execute(
        "WITH locked AS (INSERT INTO days SELECT day, 0 FROM unnest(%(days)s::text[]) AS day"
        " ON CONFLICT (day) DO UPDATE SET used = days.used RETURNING day, used)"
        f" SELECT day, used, ({backlog}) AS backlog, NOT EXISTS (SELECT 1 FROM prompts"
        " WHERE state = 'accepted' AND owner IS NULL AND tier = 'standard'"
        " AND due <= %(now)s) AS is_first FROM locked",
        {"days": days, "most": most, "now": db.at(now)},
    )
    if not is_far_off:
        db.counted = now
    return admission.Known(
        db.secret,
        {
            bytes(row["digest"]): (bytes(row["fingerprint"]), row["id"])
            for row in (rows_of(found) if found is not None else ())
        },
        {row["day"]: row["used"] for row in used},
        used[0]["backlog"],
        used[0]["is_first"],
    )


def _no_token_yet() -> int:
    """The database gives each claim its token."""
    return 0


def _row(db: Session, new: admission.New) -> dict[str, Any]:
    """The values of a new prompt's rows."""
    prompt, ask = new.submission.prompt, new.ask
    details = prompt.details.to_json()
    text = prompt.text.encode()
    return {
        "id": prompt.id,
        "due": db.at(new.due),
        "day": new.day,
        "accepted": prompt.accepted,
        "calls": 0 if ask is None else ask.attempt,
        "owner": None if ask is None else db.owner,
        "target": prompt.target,
        "not_before": db.stored(prompt.not_before),
        "deadline": db.stored(prompt.deadline),
        "ends": db.stored(prompt.ends),
        "needed_until": db.stored(new.submission.needed_until),
        "tier": prompt.tier.value,
        "size": len(text) + len(details or ""),
        "prompt": text,
        "source": prompt.source,
        "type": prompt.type,
        "parent": None if prompt.trace is None else prompt.trace.parent,
        "state": None if prompt.trace is None else prompt.trace.state,
        "details": details,
        "digest": new.digest,
        "fingerprint": new.fingerprint,
    }
