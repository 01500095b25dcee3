"""Admit prompts. Each function runs in a transaction."""

from collections.abc import Sequence
from hmac import compare_digest
from typing import Any

import attrs

from chatgpt_source.errors import KeyReused
from chatgpt_source.journal import (
    Admitted,
    Submission,
    Terms,
    admission,
    digests,
)
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
from chatgpt_source.prompt import (
    Ask,
    Tier,
)

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
class Accept(Together):
    """The request to accept some prompts; all of a group are decided together.

    Attributes:
        submissions: The prompts.
        terms: The limits.
        claim: Whether to claim them too.
        now: The time.
    """

    rank = ACCEPT
    submissions: Sequence[Submission]
    terms: Terms
    claim: bool
    now: float

    @property
    def size(self) -> int:
        """Characters of its prompts."""
        return sum(len(each.prompt.text) for each in self.submissions)

    @staticmethod
    def all_of(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
        """Admit the prompts of a group's requests."""
        return accept(db, operations)


@attrs.define
class _Known:
    """What a group's decisions go by, and change.

    Attributes:
        keys: The fingerprint and the prompt's id, by a key's digest.
        used: The units used, by day.
        backlog: How many prompts wait.
        is_first: Whether no other prompt is due.
    """

    keys: dict[bytes, tuple[bytes, str]]
    used: dict[str, int]
    backlog: int
    is_first: bool


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
            operation.result, new = _decide(db, request, known)
        except Exception as error:  # noqa: BLE001 - a refusal is this request's alone
            operation.error = error
        else:
            inserted.append((operation, new))
    db.backlog = known.backlog
    rows = [row for _, new in inserted for row in new]
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


def _look_up(db: Session, requests: Sequence[Accept]) -> Steps[_Known]:
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
    return _Known(
        {
            bytes(row["digest"]): (bytes(row["fingerprint"]), row["id"])
            for row in (rows_of(found) if found is not None else ())
        },
        {row["day"]: row["used"] for row in used},
        used[0]["backlog"],
        used[0]["is_first"],
    )


def _decide(
    db: Session, request: Accept, known: _Known
) -> tuple[list[Admitted], list[dict[str, Any]]]:
    """Whether a request is admitted: the outcome, and the rows that it adds."""
    terms = request.terms
    earlier = [_earlier(db, each, known) for each in request.submissions]
    new: dict[object, Submission] = {}
    for each, one in zip(request.submissions, earlier, strict=True):
        if one is None:
            new.setdefault(each.key or each.prompt.id, each)
    used = known.used[terms.day.date]
    if new:
        admission.check(terms, used, known.backlog, len(new))
        admission.check_units(terms, used, len(new), request.submissions[0].prompt.accepted)
    rows = [row_of(db, each, request, is_first=known.is_first) for each in new.values()]
    known.used[terms.day.date] = used + len(new)
    known.backlog += len(new)
    for row in rows:
        if row["digest"] is not None:
            known.keys[row["digest"]] = (row["fingerprint"], row["id"])
        is_due = row["tier"] == Tier.STANDARD.value and row["due"] <= db.at(request.now)
        known.is_first &= row["owner"] is not None or not is_due
    claimed = {row["id"]: row["calls"] for row in rows if row["owner"] is not None}
    left = max(0, terms.limit - known.used[terms.day.date])
    admitted = []
    for each, one in zip(request.submissions, earlier, strict=True):
        first = each if one is not None else new[each.key or each.prompt.id]
        is_new = one is None and first is each
        ask = None
        if is_new and each.prompt.id in claimed:
            calls = claimed[each.prompt.id]
            ask = Ask(each.prompt, attempt=calls, total=calls, since=request.now)
        admitted.append(Admitted(one or first.prompt.id, left, not is_new, ask))
    return admitted, rows


def _earlier(db: Session, submission: Submission, known: _Known) -> str | None:
    """The id of the prompt that came with a key before."""
    key = submission.key
    if key is None:
        return None
    found = known.keys.get(digests.digest(db.secret, *key.words))
    if found is None:
        return None
    fingerprint, prompt_id = found
    if not key.any_content and not compare_digest(
        fingerprint, digests.fingerprint(db.secret, submission.prompt)
    ):
        raise KeyReused
    return prompt_id


def row_of(db: Session, new: Submission, request: Accept, *, is_first: bool) -> dict[str, Any]:
    """The values of a new prompt's rows."""
    prompt, now = new.prompt, request.now
    due = now if prompt.not_before is None else max(now, prompt.not_before)
    claim = request.claim and is_first and due <= now and prompt.tier is Tier.STANDARD
    details = prompt.details.to_json()
    text = prompt.text.encode()
    return {
        "id": prompt.id,
        "due": db.at(due),
        "day": request.terms.day.date,
        "accepted": prompt.accepted,
        "calls": _calls(prompt.ends, now) if claim else 0,
        "owner": db.owner if claim else None,
        "target": prompt.target,
        "not_before": db.stored(prompt.not_before),
        "deadline": db.stored(prompt.deadline),
        "ends": db.stored(prompt.ends),
        "needed_until": db.stored(new.needed_until),
        "tier": prompt.tier.value,
        "size": len(text) + len(details or ""),
        "prompt": text,
        "source": prompt.source,
        "type": prompt.type,
        "parent": None if prompt.trace is None else prompt.trace.parent,
        "state": None if prompt.trace is None else prompt.trace.state,
        "details": details,
        "digest": None if new.key is None else digests.digest(db.secret, *new.key.words),
        "fingerprint": None if new.key is None else digests.fingerprint(db.secret, prompt),
    }


def _calls(ends: float | None, now: float) -> int:
    """How many calls a claim is for: none if the prompt's time is up."""
    return int(ends is None or ends > now)
