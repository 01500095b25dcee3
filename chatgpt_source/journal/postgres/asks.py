"""Admit prompts, claim them for an ask, and end the claims. Each function runs in a transaction."""

from collections.abc import Sequence
from hmac import compare_digest
from typing import Any

import attrs

from chatgpt_source.errors import KeyReused
from chatgpt_source.journal import (
    LAST_POLL,
    Admitted,
    Answered,
    AskOutcome,
    Batched,
    Claims,
    Ended,
    Failed,
    Postponed,
    Submission,
    Terms,
    Underway,
    admission,
    changes,
    digests,
)
from chatgpt_source.journal.group_commit import Operation
from chatgpt_source.journal.postgres import attempts, leftovers, outbox
from chatgpt_source.journal.postgres.session import (
    ACCEPT,
    ANSWERED,
    MOST_CLAIMED,
    Cursor,
    Last,
    Row,
    Session,
    Steps,
    Together,
    arrays,
    rows_of,
)
from chatgpt_source.journal.rows import first_delivery, names_of
from chatgpt_source.journal.states import WAITING, Event, after
from chatgpt_source.prompt import (
    NOWHERE,
    Ask,
    Details,
    Leftover,
    Prompt,
    State,
    Tier,
    Trace,
)

IN_BACKLOG = f"state IN ({names_of(WAITING)})"
_BACKLOG = f"SELECT count(*) FROM (SELECT 1 FROM prompts WHERE {IN_BACKLOG} LIMIT %(most)s) AS few"
_OWN_BATCH = " AND EXISTS (SELECT 1 FROM batches WHERE id = %s AND owner = %s)"
KEY_LOCKS = 1024
"""Locks for all keys: the server's table of locks is small, and all its databases' own."""
COUNT_EVERY = 1.0
"""Seconds for which a backlog of less than half the limit is not counted again: each group would
look at all that wait."""
_PROMPT = (
    "prompts.seq AS seq, id, prompt, source, type, accepted, traceparent, tracestate, target,"
    " details, not_before, deadline, ends, tier"
)
_ASK = (
    f"{_PROMPT}, tries, asks, since, possibly_billed, held, submitted, polls, missing_since,"
    " missing, provider, batch, token"
)
_EXPIRING = "ends IS NOT NULL AND (state = 'accepted' OR state = 'submitted' AND batch IS NOT NULL)"
_UNPOLLED = "ends IS NOT NULL AND state = 'submitted' AND batch IS NULL"
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


_ANSWERS = {
    "id": "text",
    "token": "bigint",
    "tries": "integer",
    "asks": "integer",
    "request_id": "text",
    "date": "float8",
    "event": "bytea",
    "target": "text",
    "at": "float8",
    "owner": "bigint",
    **changes.ANSWERING,
}
"""What is given of an answer, by name."""
_ANSWER = (
    f"WITH {arrays(_ANSWERS)},"
    f" ended AS (UPDATE prompts SET state = '{after(State.ACCEPTED, Event.ANSWERED).value}',"
    " due = NULL, held = NULL, batch = NULL, error = NULL, answered = date, owner = NULL,"
    " tries = given.tries, asks = given.asks,"
    " request_id = coalesce(given.request_id, prompts.request_id), "
    + ", ".join(f"{each} = given.{each}" for each in changes.ANSWERING)
    + " FROM given WHERE prompts.id = given.id AND prompts.token = given.token"
    " AND prompts.owner IS NOT NULL RETURNING prompts.seq, place),"
    " text AS (UPDATE texts SET event = given.event FROM ended JOIN given USING (place)"
    " WHERE texts.seq = ended.seq),"
    " sent AS (INSERT INTO outbox (seq, destination, due, since, attempts, owner, token, size)"
    " SELECT seq, target, at, at, (owner IS NOT NULL)::integer, owner,"
    " CASE WHEN owner IS NULL THEN 0 ELSE nextval('tokens') END, octet_length(event)"
    " FROM ended JOIN given USING (place) RETURNING seq, token)"
    " SELECT place, token FROM ended JOIN sent USING (seq)"
)
_ANSWERED = (
    f"WITH {arrays(_ANSWERS)} SELECT place, outbox.token FROM given JOIN prompts USING (id, token)"
    " JOIN outbox USING (seq) WHERE destination = given.target AND answered = date"
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


@attrs.frozen
class Answer(Together):
    """The end of a claim by an answer whose event goes to a target.

    Attributes:
        ask: The claim.
        outcome: The answer.
        now: The time.
        date: The wall clock's.
        claim: Whether to claim the event's first delivery.
    """

    rank = ANSWERED
    ask: Ask
    outcome: Answered
    now: float
    date: float
    claim: bool

    @property
    def size(self) -> int:
        """Bytes of its event."""
        return len(self.outcome.event)

    @staticmethod
    def all_of(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
        """End the claims of a group's answers."""
        return answer(db, operations)


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
    which = "batch = %(batch)s"
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


def ended(
    db: Session,
    ask: Ask,
    outcome: AskOutcome,
    now: float,
    date: float,
    *,
    claim: bool,
    leftover: Leftover | None,
) -> Steps[Ended]:
    """End a claim; see `Journal.ask_ended`. `date` is the wall clock's."""
    nowhere = ask.prompt.target == NOWHERE
    change, values = changes.change(
        attrs.evolve(ask, missing_since=db.stored(ask.missing_since)),
        _stored(db, outcome),
        db.at(now),
        date,
    )
    query = (
        f"WITH ended AS (UPDATE prompts SET {change.replace('?', '%s')}, tries = %s, asks = %s,"
        " owner = NULL WHERE id = %s AND token = %s AND owner IS NOT NULL"
        f"{_OWN_BATCH if isinstance(outcome, Batched) else ''} RETURNING seq, day, billed)"
    )
    more: tuple[object, ...] = (outcome.batch, db.owner) if isinstance(outcome, Batched) else ()
    sent = "NULL"
    if isinstance(outcome, Answered):
        query += ", text AS (UPDATE texts SET event = %s FROM ended WHERE texts.seq = ended.seq)"
        more = (outcome.event,)
        if not nowhere:
            sent = "(SELECT token FROM sent)"
            query += (
                ", sent AS (INSERT INTO outbox"
                " (seq, destination, due, since, attempts, owner, token, size)"
                " SELECT seq, %s::text, %s::float8, %s::float8, %s::integer, %s::bigint,"
                f" {'nextval($$tokens$$)' if claim else '0'}, %s::integer FROM ended"
                " RETURNING token)"
            )
            at, owner = db.at(now), db.owner if claim else None
            more += (ask.prompt.target, at, at, int(claim), owner, len(outcome.event))
    rows = yield db.execute(
        f"{query} SELECT seq, day, billed, {sent} AS token FROM ended",
        (*values, ask.attempt, ask.total, ask.prompt.id, ask.token, *more),
    )
    if not rows:
        return Ended(kept=False)
    (row,) = rows
    leftovers.add(db, leftover, now)
    if not isinstance(outcome, Batched):
        attempts.add(db, row["seq"], outcome.calls)
    if isinstance(outcome, Answered) and nowhere:
        state = after(State.ACCEPTED, Event.FINISHED)
        db.ended[state] += 1
        db.execute(
            "UPDATE prompts SET state = %s, ended = %s, kept_until = %s WHERE seq = %s",
            (
                state.value,
                date,
                db.at(now + outcome.keep) if outcome.keep else None,
                row["seq"],
            ),
        )
    elif isinstance(outcome, Answered) and claim:
        return Ended(kept=True, delivery=first_delivery(ask, outcome, now, row["token"]))
    elif isinstance(outcome, Failed):
        db.ended[after(State.ACCEPTED, Event.FAILED)] += 1
        if outcome.dead_letter is not None:
            outbox.add_dead_letter(db, row["seq"], outcome.dead_letter, now)
        if outcome.give_back and not row["billed"]:
            db.returned[row["day"]] += 1
    return Ended(kept=True)


def answer(db: Session, operations: Sequence[Operation[Any]]) -> Steps[None]:
    """End the claims of a group's answers; sets the outcome of each."""
    requests: list[Answer] = [operation.run for operation in operations]  # type: ignore[misc]
    rows = [
        (
            *(each.ask.prompt.id, each.ask.token, each.ask.attempt, each.ask.total),
            *(each.outcome.answer.request_id, each.date, each.outcome.event),
            *(each.ask.prompt.target, db.at(each.now), db.owner if each.claim else None),
            *changes.answering(each.outcome),
        )
        for each in requests
    ]
    values = dict(zip(_ANSWERS, map(list, zip(*rows, strict=True)), strict=True))
    kept = yield Last(db.execute(_ANSWER, values), _ANSWERED, values)
    tokens = {row["place"]: row["token"] for row in kept}
    for place, (operation, each) in enumerate(zip(operations, requests, strict=True), 1):
        delivery = None
        if each.claim and place in tokens:
            delivery = first_delivery(each.ask, each.outcome, each.now, tokens[place])
        operation.result = Ended(place in tokens, delivery)


def _stored(db: Session, outcome: AskOutcome) -> AskOutcome:
    """The outcome with the database's instants."""
    if isinstance(outcome, Postponed):
        return attrs.evolve(outcome, until=db.at(outcome.until), held=db.stored(outcome.held))
    if isinstance(outcome, Underway):
        return attrs.evolve(outcome, until=db.at(outcome.until))
    return outcome
