"""Admit prompts, claim them for an ask, and end the claims. Each function runs in a transaction."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import repeat

from attrs import frozen

from chatgpt_source.journal import (
    LAST_POLL,
    Admitted,
    Answered,
    Batched,
    Claims,
    Ended,
    Failed,
    Postponed,
    Terms,
    Underway,
    admission,
    changes,
    digests,
)
from chatgpt_source.journal.rows import first_delivery
from chatgpt_source.journal.sqlite import attempts, keys, leftovers, outbox, records, texts
from chatgpt_source.journal.sqlite.rows import Owner, of_limited_size
from chatgpt_source.journal.sqlite.texts import Part, trace_of
from chatgpt_source.journal.sqlite.together import ForMany, Together, held, insert
from chatgpt_source.journal.states import Event, after
from chatgpt_source.prompt import NOWHERE, Ask, Delivery, Details, Leftover, Prompt, State, Tier

_CLAIMED = "id = ? AND owner = ? AND token = ?"
_TO_CLAIM = "prompts WHERE state = 'accepted' AND owner IS NULL"
_ADMISSION = (
    "SELECT (SELECT json_group_object(day, used) FROM days"
    f" WHERE day IN (SELECT value FROM json_each(?))), ({records.BACKLOG}),"
    f" NOT EXISTS (SELECT 1 FROM {_TO_CLAIM} AND tier = 'standard' AND due <= ?),"
    " coalesce((SELECT max(seq) FROM prompts), 0)"
)
"""The units used of days, the backlog, whether no other prompt is due, and the last `seq`."""
_ADD = insert(
    *("prompts", "seq", "id", "state", "due", "day", "accepted", "since", "tries", "asks"),
    *("owner", "token", "target", "not_before", "deadline", "ends", "needed_until", "tier"),
)
_HELD = ForMany(
    "SELECT json_group_object(place, seq) FROM given CROSS JOIN prompts USING (id, owner, token)",
    ("place", "id", "owner", "token"),
)
_ANSWER = ForMany(
    f"UPDATE prompts SET {changes.ANSWERED} FROM given WHERE prompts.seq = given.seq",
    ("seq", "tries", "asks", "request_id", "date", *changes.ANSWERING),
)
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


@frozen
class Accept(Together[list[Admitted]], admission.Request):
    """The request to accept some prompts; all of a group are decided together.

    They are due from its time on, or from their own time.

    Attributes:
        owner: Who claims them, if anybody does.
    """

    owner: Owner | None = None

    @staticmethod
    def all_of(
        db: sqlite3.Connection, requests: Sequence["Accept"]
    ) -> list[list[Admitted] | Exception]:
        """Admit the prompts of each; see `Journal.accept`."""
        known, last = _known(db, requests)
        outcomes: list[list[Admitted] | Exception] = []
        new: list[tuple[admission.New, Owner | None]] = []
        for each in requests:
            tokens = each.owner.tokens if each.owner is not None else repeat(0)
            try:
                admitted, some = admission.decide(each, known, partial(next, tokens))
            except Exception as error:  # noqa: BLE001 - a refusal is this request's alone
                outcomes.append(error)
            else:
                outcomes.append(admitted)
                new += [(one, each.owner) for one in some]
        if new:
            _add(db, new, last)
        return outcomes


def _known(db: sqlite3.Connection, requests: Sequence[Accept]) -> tuple[admission.Known, int]:
    """What decisions go by, and the last `seq`."""
    words = {one.key.words for each in requests for one in each.submissions if one.key}
    secret, known = b"", {}
    if words:
        secret = keys.secret(db)
        known = keys.known(db, {digests.digest(secret, *each) for each in words})
    days = sorted({each.terms.day.date for each in requests})
    used, backlog, is_first, last = db.execute(
        _ADMISSION, (json.dumps(days), max(each.now for each in requests))
    ).fetchone()
    return admission.Known(secret, known, json.loads(used), backlog, bool(is_first)), last


def _add(
    db: sqlite3.Connection, new: Sequence[tuple[admission.New, Owner | None]], last: int
) -> None:
    """Store new prompts, after the last `seq` until now, and take their units."""
    spend(db, Counter(one.day for one, _ in new))
    placed = [(last + place, one, owner) for place, (one, owner) in enumerate(new, 1)]
    _ADD.run(db, [_row(*each) for each in placed])
    texts.add(db, [(seq, one.submission.prompt) for seq, one, _ in placed])
    keys.add(
        db, [(one.digest, one.fingerprint, seq) for seq, one, _ in placed if one.digest is not None]
    )


def _row(seq: int, new: admission.New, owner: Owner | None) -> tuple[object, ...]:
    prompt, ask = new.submission.prompt, new.ask
    return (
        *(seq, prompt.id, State.ACCEPTED.value, new.due, new.day, prompt.accepted, new.due),
        *((ask.attempt, ask.total, owner.id, ask.token) if owner and ask else (0, 0, None, 0)),
        *(prompt.target, prompt.not_before, prompt.deadline, prompt.ends),
        *(new.submission.needed_until, prompt.tier.value),
    )


def take_units(db: sqlite3.Connection, terms: Terms, used: int, count: int, now: float) -> None:
    """Take units of a day that has `used` of its units taken.

    Raises:
        QuotaUsedUp: If it has not so many left.
    """
    admission.check_units(terms, used, count, now)
    spend(db, {terms.day.date: count})


def spend(db: sqlite3.Connection, units: Mapping[str, int]) -> None:
    """Count units of days as used."""
    db.executemany(
        "INSERT INTO days VALUES (?1, ?2) ON CONFLICT (day) DO UPDATE SET used = used + ?2",
        units.items(),
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


@frozen
class Answer(Together[Ended]):
    """The end of a claim by an answer.

    Attributes:
        owner: Whose claim it is.
        ask: The claim.
        outcome: The answer.
        now: The time.
        date: The wall clock's.
        claim: Whether to claim the first delivery of its event, if that goes to a target.
        leftover: What the provider keeps.
    """

    owner: Owner
    ask: Ask
    outcome: Answered
    now: float
    date: float
    claim: bool
    leftover: Leftover | None

    @staticmethod
    def all_of(db: sqlite3.Connection, requests: Sequence["Answer"]) -> list[Ended]:
        """End the claims of some answers; see `Journal.ask_ended`."""
        seqs = held(
            db, _HELD, [(each.ask.prompt.id, each.owner.id, each.ask.token) for each in requests]
        )
        kept = [(seq, each) for seq, each in zip(seqs, requests, strict=True) if seq is not None]
        _ANSWER.run(db, [_answered(seq, each) for seq, each in kept])
        texts.set_events(db, [(seq, each.outcome.event) for seq, each in kept])
        sent: dict[int | None, Delivery] = {}
        rows = []
        for seq, each in kept:
            leftovers.add(db, each.leftover, each.now)
            attempts.add(db, seq, each.outcome.calls)
            if each.ask.prompt.target == NOWHERE:
                _finish(db, seq, each)
                continue
            claim = None
            if each.claim:
                token = next(each.owner.tokens)
                claim = (each.owner.id, token)
                sent[seq] = first_delivery(each.ask, each.outcome, each.now, token)
            rows.append(outbox.row_of(seq, each.ask.prompt.target, each.now, claim=claim))
        outbox.ADD.run(db, rows)
        return [Ended(seq is not None, sent.get(seq)) for seq in seqs]


def _answered(seq: int, end: Answer) -> tuple[object, ...]:
    """The values of `_ANSWER`."""
    ask, outcome = end.ask, end.outcome
    return (
        *(seq, ask.attempt, ask.total, outcome.answer.request_id, end.date),
        *changes.answering(outcome),
    )


def _finish(db: sqlite3.Connection, seq: int, end: Answer) -> None:
    """End a prompt that was answered and goes to no target."""
    kept_until = end.now + end.outcome.keep if end.outcome.keep else None
    db.execute(
        "UPDATE prompts SET state = ?, ended = ?, kept_until = ? WHERE seq = ?",
        (after(State.ACCEPTED, Event.FINISHED).value, end.date, kept_until, seq),
    )


def ended(
    db: sqlite3.Connection,
    owner: Owner,
    ask: Ask,
    outcome: Postponed | Failed | Underway | Batched,
    now: float,
    date: float,
    leftover: Leftover | None,
) -> Ended:
    """End a claim without an answer; see `Journal.ask_ended`. `date` is the wall clock's."""
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
    if isinstance(outcome, Failed):
        if outcome.dead_letter is not None:
            outbox.add_dead_letter(db, seq, outcome.dead_letter, now)
        if outcome.give_back and not billed:
            give_back_unit(db, day)
    return Ended(kept=True)


def give_back_unit(db: sqlite3.Connection, day: str) -> None:
    """Give a unit back to its day."""
    db.execute("UPDATE days SET used = used - 1 WHERE used > 0 AND day = ?", (day,))
