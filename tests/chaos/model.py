"""A journal in memory, simple enough to be seen to be right: what the real one is compared with."""

from copy import deepcopy
from typing import Any
from zoneinfo import ZoneInfo

from attrs import asdict, astuple, define, field, frozen

from chatgpt_source.errors import (
    BacklogFull,
    Draining,
    KeyReused,
    NotCancelled,
    NotRedriven,
    QuotaUsedUp,
)
from chatgpt_source.journal import Cancelled, PeerState
from chatgpt_source.prompt import Prompt, State
from chatgpt_source.quota import day_at

LIMIT = 5
MAX_BACKLOG = 6
NOT_YET = 1e18
"""The `since` of what was redriven."""
LONGEST_WAIT = 3600
UTC = ZoneInfo("UTC")


@define
class Row:
    """What is to be delivered of a prompt, in the outbox; `owner` is whether it is claimed."""

    due: float
    since: float
    attempts: int = 0
    held: float | None = None
    error: str | None = None
    owner: bool = False


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
    possibly_billed: int = 0
    billed: int = 0
    held: float | None = None
    error: str | None = None
    owner: bool = False
    text: tuple[str, str, str] | None = None
    event: bytes | None = None
    letter: bytes | None = None
    keys: int = 0
    outbox: dict[str, Row] = field(factory=dict)


APART = {"text", "event", "letter", "keys", "state", "id", "outbox", "owner"}
COLUMNS = [name for name in Entry.__annotations__ if name not in APART]
ROW = [name for name in Row.__annotations__ if name != "owner"]


@frozen
class Refused:
    """An outcome: an exception of this class."""

    kind: type[Exception]


@define
class Claim:
    """What was claimed: an ask, or the delivery to a destination."""

    kind: str
    id: str
    number: int


@define
class Model:
    """The state, and what each operation makes of it.

    Attributes:
        hand: What the pipeline works at.
        fresh: What it will, once the claims are committed.
        peers: What is remembered of each.
        number: Of the last claim: its token, as it were.
        holders: The number of the claim that each prompt, and each row of its outbox, is under.
    """

    entries: dict[str, Entry] = field(factory=dict)
    days: dict[str, int] = field(factory=dict)
    keys: dict[str, tuple[str, tuple[str, str, str]]] = field(factory=dict)
    hand: list[Claim] = field(factory=list)
    fresh: list[Claim] = field(factory=list)
    peers: dict[str, PeerState] = field(factory=dict)
    number: int = 0
    holders: dict[tuple[str, str], int] = field(factory=dict)

    def copy(self) -> "Model":
        """One that goes its own way."""
        return deepcopy(self)

    def committed(self) -> None:
        """What was claimed is known to whoever claimed it."""
        self.hand += self.fresh
        self.fresh = []

    def snapshot(self) -> Any:
        """All there is to compare."""
        counts = dict.fromkeys(State, 0)
        for entry in self.entries.values():
            counts[State(entry.state)] += 1
        peers = {name: astuple(state) for name, state in self.peers.items()}
        return [asdict(entry) for entry in self.entries.values()], self.days, counts, peers

    def recover(self, now: float) -> dict[str, PeerState]:
        self.hand, self.fresh, self.holders = [], [], {}
        for entry in self.entries.values():
            entry.billed |= entry.owner
            waiting: list[Any] = [entry] if entry.state == "accepted" else []
            for each in [*waiting, *entry.outbox.values()]:
                if not each.owner and each.due <= now:
                    continue
                each.since = min(each.since, now)
                each.held = None if each.held is None else min(each.held, now)
                if each.owner:
                    each.due, each.owner = min(each.due, now), False
                elif each.due > now + LONGEST_WAIT:
                    each.due = now
        return self.peers

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
        found: list[tuple[Entry, Any]]
        if kind == "ask":
            found = [(e, e) for e in self.entries.values() if e.state == "accepted"]
        else:
            found = [(e, e.outbox[kind]) for e in self.entries.values() if kind in e.outbox]
        free = [(entry, row) for entry, row in found if not row.owner]
        due = [
            (entry, row)
            for entry, row in free
            if row.due <= now
            and (
                untried_since is None
                or (row.attempts == entry.deliveries == 0 and row.since >= untried_since)
            )
        ]
        claimed = sorted(due, key=lambda each: each[1].due)[:most]
        told = []
        for entry, row in claimed:
            row.owner = True
            row.since = min(row.since, now)
            if kind == "ask":
                entry.tries += 1
                entry.asks += 1
                told.append((entry.id, entry.tries))
            else:
                row.attempts += 1
                told.append((entry.id, row.attempts))
            self._take(kind, entry.id)
        return told, min((row.due for _, row in free if not row.owner), default=None)

    def _take(self, kind: str, id_: str) -> None:
        self.number += 1
        self.holders[kind, id_] = self.number
        self.fresh.append(Claim(kind, id_, self.number))

    def answered(self, claim: Claim, event: bytes, now: float, *, delivers: bool) -> bool:
        entry = self._ended(claim)
        if entry is None:
            return False
        entry.state, entry.event, entry.error, entry.held = "answered", event, None, None
        entry.answered, entry.due, entry.owner = now, None, False
        entry.outbox["target"] = Row(now, now, int(delivers), owner=delivers)
        if delivers:
            self._take("target", entry.id)
        return True

    def delivered(self, claim: Claim, now: float) -> bool:
        entry = self._ended(claim)
        if entry is None:
            return False
        row = entry.outbox.pop(claim.kind)
        if claim.kind == "dead_letter":
            entry.letter = None
            return True
        entry.state, entry.ended, entry.error = "delivered", now, None
        entry.deliveries += row.attempts
        entry.text = entry.event = entry.letter = None
        return True

    def failed(
        self, claim: Claim, now: float, error: str, letter: bytes | None, *, give_back: bool
    ) -> bool:
        entry = self._ended(claim)
        if entry is None:
            return False
        if claim.kind == "dead_letter":
            entry.letter = None
            del entry.outbox[claim.kind]
            return True
        if claim.kind == "ask":
            entry.due, entry.held, entry.owner = None, None, False
            if give_back and not entry.billed:
                self.days[entry.day] -= 1
        else:
            entry.deliveries += entry.outbox.pop("target").attempts
        entry.state, entry.ended, entry.error = "failed", now, error
        if letter is not None:
            entry.letter = letter
            entry.outbox["dead_letter"] = Row(now, now)
        return True

    def postpone(
        self,
        claim: Claim,
        until: float,
        error: str,
        *,
        possibly_billed: bool,
        held: float | None,
    ) -> bool:
        entry = self._ended(claim)
        if entry is None:
            return False
        row: Any = entry
        if claim.kind == "ask":
            entry.possibly_billed += possibly_billed
            entry.billed |= possibly_billed
        else:
            row = entry.outbox[claim.kind]
        row.due, row.error, row.owner = until, error, False
        row.held = held if row.held is None else row.held
        return True

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
        entry.due = 0.0 if entry.event is None else None
        entry.since = NOT_YET
        entry.outbox = {} if entry.event is None else {"target": Row(0.0, NOT_YET)}
        self.holders.pop(("dead_letter", id_), None)
        entry.ended = entry.letter = None
        entry.tries = entry.possibly_billed = 0
        return entry.state

    def cancel(self, id_: str, now: float) -> Any:
        entry = self.entries.get(id_)
        if entry is None:
            return None
        if entry.state == "cancelled":
            return Cancelled(repeated=True)
        if entry.state != "accepted" or entry.owner:
            return Refused(NotCancelled)
        if not entry.billed:
            self.days[entry.day] -= 1
        entry.state, entry.due, entry.ended, entry.held = "cancelled", None, now, None
        entry.text = entry.event = entry.letter = None
        return Cancelled()

    def purge(self, id_: str) -> bool:
        entry = self.entries.get(id_)
        if entry is None or entry.state != "failed":
            return False
        self._forget(id_)
        return True

    def prune(self, before: float) -> None:
        for entry in list(self.entries.values()):
            if entry.ended is not None and entry.ended < before and not entry.outbox:
                self._forget(entry.id)

    def remember(self, peer: str, state: PeerState) -> None:
        self.peers[peer] = state

    def _forget(self, id_: str) -> None:
        del self.entries[id_]
        self.keys = {key: known for key, known in self.keys.items() if known[0] != id_}
        self.holders.pop(("dead_letter", id_), None)

    def _ended(self, claim: Claim) -> Entry | None:
        """The prompt whose claim ends; None if the claim is another's by now."""
        if self.holders.get((claim.kind, claim.id)) != claim.number:
            return None
        del self.holders[claim.kind, claim.id]
        return self.entries[claim.id]
