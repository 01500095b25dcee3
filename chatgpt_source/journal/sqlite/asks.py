"""Admit prompts, claim them for an ask, and end the claims. Each function runs in a transaction."""

import sqlite3
from collections.abc import Sequence

from chatgpt_source.journal import (
    LAST_POLL,
    Admitted,
    Answered,
    AskOutcome,
    Batched,
    Claims,
    Ended,
    Failed,
    Submission,
    Terms,
    admission,
    changes,
)
from chatgpt_source.journal.rows import first_delivery
from chatgpt_source.journal.sqlite import attempts, keys, leftovers, outbox, records, texts
from chatgpt_source.journal.sqlite.rows import Owner, of_limited_size
from chatgpt_source.journal.sqlite.texts import Part, trace_of
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import NOWHERE, Ask, Delivery, Details, Leftover, Prompt, State, Tier

_CLAIMED = "id = ? AND owner = ? AND token = ?"
_TO_CLAIM = "prompts WHERE state = 'accepted' AND owner IS NULL"
_ADMISSION = (
    f"SELECT coalesce((SELECT used FROM days WHERE day = ?), 0), ({records.BACKLOG}),"
    f" NOT EXISTS (SELECT 1 FROM {_TO_CLAIM} AND tier = 'standard' AND due <= ?)"
)
"""The units used of a day, the backlog, and whether no other prompt is due."""
_PROMPT = (
    f"SELECT seq, id, {Part.PROMPT.whole} AS text, source, type, accepted, traceparent, tracestate,"
    f" target, {Part.DETAILS.whole} AS details, not_before, deadline, ends, tier"
)
_PROMPTS = "FROM prompts JOIN texts USING (seq) WHERE"
_ASK = (
    f"{_PROMPT}, tries, asks, since, possibly_billed, held, submitted, polls, missing_since,"
    f" missing, provider, batch {_PROMPTS} owner IS NULL AND"
)
_EXPIRING = "ends IS NOT NULL AND (state = 'accepted' OR batch IS NOT NULL)"
_UNPOLLED = "ends IS NOT NULL AND state = 'submitted' AND batch IS NULL"


def accept(
    db: sqlite3.Connection,
    submissions: Sequence[Submission],
    terms: Terms,
    owner: Owner | None,
    now: float,
) -> list[Admitted]:
    """Admit prompts, and claim them for their owner, if any; see `Journal.accept`.

    They are due from `now` on, or from their own time.
    """
    used, backlog, is_first = db.execute(_ADMISSION, (terms.day.date, now)).fetchone()
    known = [_known(db, each) for each in submissions]
    new: dict[object, Submission] = {}
    for each, earlier in zip(submissions, known, strict=True):
        if earlier is None:
            new.setdefault(each.key or each.prompt.id, each)
    if new:
        admission.check(terms, used, backlog, len(new))
        take_units(db, terms, used, len(new), submissions[0].prompt.accepted)
    left = max(0, terms.limit - used - len(new))
    asks = {
        each.prompt.id: _add(db, each, terms, owner if is_first else None, now)
        for each in new.values()
    }
    admitted = []
    for each, earlier in zip(submissions, known, strict=True):
        first = each if earlier is not None else new[each.key or each.prompt.id]
        is_new = earlier is None and first is each
        ask = asks[each.prompt.id] if is_new else None
        admitted.append(Admitted(earlier or first.prompt.id, left, not is_new, ask))
    return admitted


def _known(db: sqlite3.Connection, submission: Submission) -> str | None:
    key = submission.key
    return None if key is None else keys.known(db, submission.prompt, key)


def _add(
    db: sqlite3.Connection, new: Submission, terms: Terms, owner: Owner | None, now: float
) -> Ask | None:
    prompt = new.prompt
    due = now if prompt.not_before is None else max(now, prompt.not_before)
    ask = None
    if owner is not None and due <= now and prompt.tier is Tier.STANDARD:
        calls = _calls(prompt.ends, now)
        ask = Ask(prompt, attempt=calls, total=calls, since=now, token=next(owner.tokens))
    seq = db.execute(
        "INSERT INTO prompts (id, state, due, day, accepted, since, tries, asks, owner, token,"
        " target, not_before, deadline, ends, needed_until, tier)"
        " VALUES (?, 'accepted', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(prompt.id, due, terms.day.date, prompt.accepted, due),
            *((ask.attempt, ask.total, owner.id, ask.token) if owner and ask else (0, 0, None, 0)),
            *(prompt.target, prompt.not_before, prompt.deadline, prompt.ends, new.needed_until),
            prompt.tier.value,
        ),
    ).lastrowid
    assert seq is not None  # noqa: S101 - a row was inserted
    texts.add(db, seq, prompt)
    if new.key is not None:
        keys.add(db, seq, prompt, new.key)
    return ask


def take_units(db: sqlite3.Connection, terms: Terms, used: int, count: int, now: float) -> None:
    """Take units of a day that has `used` of its units taken.

    Raises:
        QuotaUsedUp: If it has not so many left.
    """
    admission.check_units(terms, used, count, now)
    db.execute(
        "INSERT INTO days VALUES (?1, ?2) ON CONFLICT (day) DO UPDATE SET used = used + ?2",
        (terms.day.date, count),
    )


def claim_asks(
    db: sqlite3.Connection, owner: Owner, now: float, most: int, tier: Tier
) -> Claims[Ask]:
    """Claim accepted prompts; see `Journal.claim_asks`."""
    due = "state = 'accepted' AND tier = ? AND due <= ? ORDER BY due, seq"
    rows = _found(db, f"{_ASK} {due}", (tier.value, now), most)
    asks = [_ask(row, owner, now, _calls(row["ends"], now)) for row in rows]
    db.executemany(
        "UPDATE prompts SET owner = ?, token = ?, tries = ?, asks = ?, since = ? WHERE seq = ?",
        [
            (owner.id, ask.token, ask.attempt, ask.total, ask.since, row["seq"])
            for ask, row in zip(asks, rows, strict=True)
        ],
    )
    next_due = f"SELECT min(due) FROM {_TO_CLAIM} AND tier = ?"
    return Claims(asks, db.execute(next_due, (tier.value,)).fetchone()[0])


def claim_expired(db: sqlite3.Connection, owner: Owner, now: float, most: int) -> Claims[Ask]:
    """Claim prompts whose time is up; see `Journal.claim_expired`."""
    asks: list[Ask] = []
    next_ones = []
    for which, after_ends in ((_EXPIRING, 0.0), (_UNPOLLED, LAST_POLL)):
        asks += claim_uncalled(
            *(db, owner, now, most - len(asks)),
            f"{which} AND ends <= ? ORDER BY ends",
            (now - after_ends,),
        )
        next_one = f"SELECT min(ends) + ? FROM prompts WHERE {which} AND owner IS NULL"
        next_ones.append(db.execute(next_one, (after_ends,)).fetchone()[0])
    return Claims(asks, min((each for each in next_ones if each is not None), default=None))


def claim_submitted(db: sqlite3.Connection, owner: Owner, now: float, most: int) -> Claims[Ask]:
    """Claim submitted prompts whose poll is due; see `Journal.claim_submitted`."""
    due = "state = 'submitted' AND due <= ? ORDER BY due, seq"
    asks = claim_uncalled(db, owner, now, most, due, (now,))
    (next_due,) = db.execute(
        "SELECT min(due) FROM prompts WHERE state = 'submitted' AND owner IS NULL"
    ).fetchone()
    return Claims(asks, next_due)


def claim_uncalled(
    db: sqlite3.Connection,
    owner: Owner,
    now: float,
    most: int,
    which: str,
    values: tuple[object, ...],
) -> list[Ask]:
    """Claim up to `most` prompts for which no call to the model is counted.

    Args:
        db: The database.
        owner: Who claims them.
        now: The time.
        most: How many.
        which: SQL that says which, and in which order.
        values: Its values.
    """
    rows = _found(db, f"{_ASK} {which}", values, most)
    asks = [_ask(row, owner, now, 0) for row in rows]
    db.executemany(
        "UPDATE prompts SET owner = ?, token = ? WHERE seq = ?",
        [(owner.id, ask.token, row["seq"]) for ask, row in zip(asks, rows, strict=True)],
    )
    return asks


def _calls(ends: float | None, now: float) -> int:
    """How many calls a claim is for: none if the prompt's time is up."""
    return int(ends is None or ends > now)


def _found(
    db: sqlite3.Connection, query: str, values: tuple[object, ...], most: int
) -> list[sqlite3.Row]:
    """The first `most` rows of a query for prompts; fewer if their texts are long."""
    found = db.execute(f"{query} LIMIT ?", (*values, most))
    return of_limited_size(found, lambda row: len(row["text"]) + len(row["details"] or ""))


def prompts_in(
    db: sqlite3.Connection, batch: int, after: int, most: int
) -> list[tuple[int, Prompt]]:
    """A page of a batch's prompts; see `Journal.batched`."""
    page = f"{_PROMPT} {_PROMPTS} batch = ? AND seq > ? ORDER BY seq"
    return [(row["seq"], _prompt(row)) for row in _found(db, page, (batch, after), most)]


def _prompt(row: sqlite3.Row) -> Prompt:
    return Prompt(
        *(row["id"], row["text"], row["source"], row["type"], row["accepted"], trace_of(row)),
        target=row["target"],
        details=Details.from_json(row["details"]),
        not_before=row["not_before"],
        deadline=row["deadline"],
        expiry=row["ends"],
        tier=Tier(row["tier"]),
    )


def _ask(row: sqlite3.Row, owner: Owner, now: float, calls: int) -> Ask:
    """The claim of a row, for a number of calls: 1, or 0 for a poll and if its time is up."""
    return Ask(
        _prompt(row),
        attempt=row["tries"] + calls,
        total=row["asks"] + calls,
        since=min(row["since"], now),
        possibly_billed=row["possibly_billed"],
        held=row["held"],
        token=next(owner.tokens),
        submitted=row["submitted"],
        polls=row["polls"],
        missing_since=row["missing_since"],
        missing=row["missing"],
        provider=row["provider"],
        batch=row["batch"],
    )


def ended(
    db: sqlite3.Connection,
    owner: Owner,
    ask: Ask,
    outcome: AskOutcome,
    now: float,
    date: float,
    *,
    claim: bool,
    leftover: Leftover | None,
) -> Ended:
    """End a claim; see `Journal.ask_ended`. `date` is the wall clock's."""
    change, values = changes.change(ask, outcome, now, date)
    ended = db.execute(
        f"UPDATE prompts SET {change}, tries = ?, asks = ?, owner = NULL WHERE {_CLAIMED}"
        " RETURNING seq, day, billed",
        (*values, ask.attempt, ask.total, ask.prompt.id, owner.id, ask.token),
    ).fetchall()
    if not ended:
        return Ended(kept=False)
    ((seq, day, billed),) = ended
    leftovers.add(db, leftover, now)
    if not isinstance(outcome, Batched):
        attempts.add(db, seq, outcome.calls)
    if isinstance(outcome, Answered):
        texts.set_event(db, seq, outcome.event)
        if ask.prompt.target == NOWHERE:
            _finish(db, seq, now + outcome.keep if outcome.keep else None, date)
        elif claim:
            return Ended(kept=True, delivery=_claim_delivery(db, seq, owner, ask, outcome, now))
        else:
            outbox.add(db, seq, ask.prompt.target, now)
    elif isinstance(outcome, Failed):
        if outcome.dead_letter is not None:
            outbox.add_dead_letter(db, seq, outcome.dead_letter, now)
        if outcome.give_back and not billed:
            give_back_unit(db, day)
    return Ended(kept=True)


def give_back_unit(db: sqlite3.Connection, day: str) -> None:
    """Give a unit back to its day."""
    db.execute("UPDATE days SET used = used - 1 WHERE used > 0 AND day = ?", (day,))


def _finish(db: sqlite3.Connection, seq: int, kept_until: float | None, date: float) -> None:
    """End a prompt that was answered and goes to no target."""
    db.execute(
        "UPDATE prompts SET state = ?, ended = ?, kept_until = ? WHERE seq = ?",
        (after(State.ACCEPTED, Event.FINISHED).value, date, kept_until, seq),
    )


def _claim_delivery(
    db: sqlite3.Connection, seq: int, owner: Owner, ask: Ask, outcome: Answered, now: float
) -> Delivery:
    """Put the event into the outbox, claimed for its first attempt."""
    delivery = first_delivery(ask, outcome, now, next(owner.tokens))
    outbox.add(db, seq, delivery.destination, now, claim=(owner.id, delivery.token))
    return delivery
