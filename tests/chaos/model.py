"""A journal in memory, simple enough to be seen to be right: what the real one is compared with."""

from copy import deepcopy
from typing import Any
from zoneinfo import ZoneInfo

from attrs import asdict, define, field, frozen

from chatgpt_source.errors import BacklogFull, Draining, KeyReused, NotRedriven, QuotaUsedUp
from chatgpt_source.prompt import Prompt
from chatgpt_source.quota import day_at

LIMIT = 5
MAX_BACKLOG = 6
CLAIMED = 1e18
"""The `due` of what is under way."""
KEPT_DAYS = 400
LONGEST_WAIT = 3600
UTC = ZoneInfo("UTC")


@define
class Entry:
    """A prompt, as the journal has it."""

    id: str
    day: str
    accepted: float
    since: float
    due: float | None
    state: str = "accepted"
    answered: float | None = None
    ended: float | None = None
    tries: int = 0
    asks: int = 0
    deliveries: int = 0
    maybe_billed: int = 0
    billed: int = 0
    held: float | None = None
    error: str | None = None
    letter_due: float | None = None
    letters: int = 0
    text: tuple[str, str, str] | None = None
    event: bytes | None = None
    letter: bytes | None = None
    keys: int = 0


COLUMNS = [
    name
    for name in Entry.__annotations__
    if name not in {"text", "event", "letter", "keys", "state", "id"}
]


@frozen
class Refused:
    """An outcome: an exception of this class."""

    kind: type[Exception]


@define
class Model:
    """The state, and what each operation makes of it.

    Attributes:
        hand: What the pipeline works at, as ("ask" | "delivery" | "letter", id).
        fresh: What it will, once the claims are committed.
        since: When the prompts of the letters in hand had failed, by id, in order of the claims.
    """

    entries: dict[str, Entry] = field(factory=dict)
    days: dict[str, int] = field(factory=dict)
    keys: dict[str, tuple[str, tuple[str, str, str]]] = field(factory=dict)
    hand: list[tuple[str, str]] = field(factory=list)
    fresh: list[tuple[str, str]] = field(factory=list)
    since: dict[str, list[float]] = field(factory=dict)

    def copy(self) -> "Model":
        """One that goes its own way."""
        return deepcopy(self)

    def committed(self) -> None:
        """What was claimed is known to whoever claimed it."""
        self.hand += self.fresh
        self.fresh = []

    def snapshot(self) -> Any:
        """All there is to compare."""
        counts = dict.fromkeys(("accepted", "answered", "delivered", "failed"), 0)
        for entry in self.entries.values():
            counts[entry.state] += 1
        return [asdict(entry) for entry in self.entries.values()], self.days, counts

    def recover(self, now: float) -> None:
        self.hand, self.fresh, self.since = [], [], {}
        for entry in self.entries.values():
            dues = ("letter_due",) if entry.state == "failed" else ("due",)
            for name in dues:
                due = getattr(entry, name)
                if due is None or due <= now:
                    continue
                entry.billed |= entry.state == "accepted" and due == CLAIMED
                entry.since = min(entry.since, now)
                entry.held = None if entry.held is None else min(entry.held, now)
                if due > now + LONGEST_WAIT:
                    setattr(entry, name, entry.since if due == CLAIMED else now)

    def accept(self, prompt: Prompt, key: str | None, *, draining: bool) -> Any:
        now = prompt.accepted
        date = day_at(now, UTC).date
        used = self.days.get(date, 0)
        text = (prompt.text, prompt.source, prompt.type)
        if key in self.keys:
            id_, before = self.keys[key]
            return (id_, max(0, LIMIT - used), True) if before == text else Refused(KeyReused)
        if draining:
            return Refused(Draining)
        if used >= LIMIT:
            return Refused(QuotaUsedUp)
        waiting = [e for e in self.entries.values() if e.state in {"accepted", "answered"}]
        if len(waiting) >= MAX_BACKLOG:
            return Refused(BacklogFull)
        self.days[date] = used + 1
        self.entries[prompt.id] = Entry(prompt.id, date, now, now, now, text=text)
        if key is not None:
            self.keys[key] = prompt.id, text
            self.entries[prompt.id].keys = 1
        return prompt.id, LIMIT - used - 1, False

    def claim(self, kind: str, now: float, most: int, untried_since: float | None = None) -> Any:
        """Claim asks or deliveries; returns their ids and attempts, and when the next is due."""
        state = {"ask": "accepted", "delivery": "answered"}[kind]
        waiting = [
            entry
            for entry in self.entries.values()
            if entry.state == state
            and entry.due <= now
            and (untried_since is None or (entry.deliveries == 0 and entry.since >= untried_since))
        ]
        claimed = sorted(waiting, key=lambda entry: entry.due)[:most]
        for entry in claimed:
            entry.due = CLAIMED
            entry.since = min(entry.since, now)
            entry.tries += 1
            if kind == "ask":
                entry.asks += 1
            else:
                entry.deliveries += 1
        self.fresh += [(kind, entry.id) for entry in claimed]
        dues = [e.due for e in self.entries.values() if e.state == state and e.due < CLAIMED]
        return [(entry.id, entry.tries) for entry in claimed], min(dues, default=None)

    def claim_letters(self, now: float, most: int) -> Any:
        waiting = [e for e in self.entries.values() if e.letter_due is not None]
        claimed = sorted(
            (e for e in waiting if e.letter_due <= now), key=lambda entry: entry.letter_due
        )[:most]
        for entry in claimed:
            entry.letter_due = CLAIMED
            entry.letters += 1
            self.since.setdefault(entry.id, []).append(entry.since)
        self.fresh += [("letter", entry.id) for entry in claimed]
        dues = [e.letter_due for e in waiting if e.letter_due < CLAIMED]
        return [(entry.id, entry.letters) for entry in claimed], min(dues, default=None)

    def answered(self, id_: str, event: bytes, now: float, *, claim: bool) -> None:
        entry = self._work("ask", id_)
        entry.state, entry.event, entry.error, entry.held = "answered", event, None, None
        entry.answered = entry.since = now
        entry.due = CLAIMED if claim else now
        entry.tries = int(claim)
        entry.deliveries += claim
        if claim:
            self.fresh.append(("delivery", id_))

    def delivered(self, id_: str, now: float) -> None:
        entry = self._work("delivery", id_)
        entry.state, entry.due, entry.ended, entry.error = "delivered", None, now, None
        entry.text = entry.event = entry.letter = None

    def failed(
        self, kind: str, id_: str, now: float, error: str, letter: bytes | None, *, give_back: bool
    ) -> None:
        entry = self._work(kind, id_)
        entry.state, entry.due, entry.ended, entry.error = "failed", None, now, error
        entry.since, entry.held = now, None
        entry.letter, entry.letters = letter, 0
        entry.letter_due = None if letter is None else now
        if give_back and not entry.billed:
            self.days[entry.day] -= 1

    def postpone(
        self,
        kind: str,
        id_: str,
        until: float,
        error: str,
        *,
        maybe_billed: bool,
        held: float | None,
    ) -> None:
        entry = self._work(kind, id_)
        entry.due, entry.error = until, error
        entry.maybe_billed += maybe_billed
        entry.billed |= maybe_billed
        entry.held = held if entry.held is None else entry.held

    def letter_ended(self, id_: str, until: float | None, held: float | None) -> float:
        self.hand.remove(("letter", id_))
        since = self.since[id_].pop(0)
        entry = self.entries.get(id_)
        if entry is not None and (entry.letter_due, entry.since) == (CLAIMED, since):
            entry.letter_due = until
            entry.held = held if entry.held is None else entry.held
            if until is None:
                entry.letter = None
        return since

    def redrive(self, id_: str, now: float) -> Any:
        entry = self.entries.get(id_)
        if entry is None or entry.state != "failed":
            return Refused(NotRedriven)
        if entry.event is None:
            date = day_at(now, UTC).date
            if self.days.get(date, 0) >= LIMIT:
                return Refused(QuotaUsedUp)
            self.days[date] = self.days.get(date, 0) + 1
            entry.day, entry.billed = date, 0
        entry.state = "accepted" if entry.event is None else "answered"
        entry.due, entry.since = 0.0, CLAIMED
        entry.ended = entry.held = entry.letter_due = entry.letter = None
        entry.tries = entry.maybe_billed = 0
        return entry.state

    def purge(self, id_: str) -> bool:
        entry = self.entries.get(id_)
        if entry is None or entry.state != "failed":
            return False
        self._forget(id_)
        return True

    def prune(self, before: float) -> None:
        self.days = dict(sorted(self.days.items())[-KEPT_DAYS:])
        for entry in list(self.entries.values()):
            if entry.ended is not None and entry.ended < before and entry.letter_due is None:
                self._forget(entry.id)

    def _forget(self, id_: str) -> None:
        del self.entries[id_]
        self.keys = {key: known for key, known in self.keys.items() if known[0] != id_}

    def _work(self, kind: str, id_: str) -> Entry:
        self.hand.remove((kind, id_))
        return self.entries[id_]
