"""Drives a journal through its interface, with what is claimed in hand."""

from typing import Any

from chatgpt_source.journal import (
    Answered,
    Delivered,
    Failed,
    Journal,
    Key,
    Postponed,
    Submission,
    Terms,
    outcomes,
)
from chatgpt_source.prompt import DEAD_LETTER, TARGET, Answer, Ask, Delivery, Prompt
from chatgpt_source.quota import Day
from tests.clocks import Clocks

NOON = 1_800_014_400.0  # 2027-01-15T12:00:00Z
DAY = Day("2027-01-15", NOON - 43200, NOON + 43200)
TO, DEAD_LETTERS = TARGET.setting, DEAD_LETTER.setting
ANSWER = Answer("the answer", "gpt", "stop", "req-1", {"total_tokens": 7})
PEERS = {"model": "one key", "target": "one address", "dead_letter": ""}


def prompt(name: str = "p1", text: str = "what is vanus", accepted: float = NOON) -> Prompt:
    return Prompt(name, text, "a-source", "a-type", accepted)


class JournalDriver:
    """Mixed into a test with a journal, whose operations are done when a call returns.

    Attributes:
        hand: The last claim of each prompt, which the methods that end one end.
    """

    journal: Journal
    clock: Clocks
    everyday_limit = 100
    keep = 60.0

    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(NOON)
        self.hand: dict[str, Ask | Delivery] = {}
        self.patch(outcomes, "MOST_DELAY", 0.0)

    def recover(self, journal: Journal, peers: Any = None) -> Any:
        peers = PEERS if peers is None else peers
        return self.successResultOf(journal.recover(self.everyday_limit, "UTC", peers, self.keep))

    # In.

    def admit(
        self,
        each: Prompt,
        limit: int = 100,
        max_backlog: int = 1000,
        *,
        day: Day = DAY,
        draining: bool = False,
        paused: bool = False,
        key: str | Key | None = None,
        claim: bool = False,
        needed_until: float | None = None,
    ) -> Any:
        key = Key((key,)) if isinstance(key, str) else key
        return self.admit_all(
            Submission(each, key, needed_until),
            terms=Terms(day, limit, max_backlog, draining, paused),
            claim=claim,
        ).addCallback(lambda admitted: admitted[0])

    def admit_all(
        self, *submissions: Submission, terms: Terms | None = None, claim: bool = False
    ) -> Any:
        terms = terms or Terms(DAY, self.everyday_limit, 1000)
        return self.journal.accept(submissions, terms, claim=claim)

    def accept(self, *prompts: Prompt, limit: int = 100, max_backlog: int = 1000) -> int:
        left = -1
        for each in prompts:
            left = self.successResultOf(self.admit(each, limit, max_backlog)).left
        return left

    # Claims.

    def asks(self, most: int = 10, now: float | None = None) -> Any:
        claims = self.successResultOf(
            self.journal.claim_asks(self.clock.seconds() if now is None else now, most)
        )
        self.hand.update((ask.prompt.id, ask) for ask in claims.claimed)
        return claims

    def deliveries(
        self,
        most: int = 10,
        untried_since: float | None = None,
        *,
        to: str = TO,
        now: float | None = None,
    ) -> Any:
        at = self.clock.seconds() if now is None else now
        claims = self.successResultOf(
            self.journal.claim_deliveries(to, at, most, untried_since=untried_since)
        )
        self.hand.update((each.id, each) for each in claims.claimed)
        return claims

    def dead_letters(self, most: int = 10, now: float | None = None) -> Any:
        return self.deliveries(most, to=DEAD_LETTERS, now=now)

    def taken(self, name: str) -> Ask | Delivery:
        """The claim of a prompt; if none is in hand, all that is due is claimed."""
        for claim in (lambda: None, lambda: self.asks(10**6), lambda: self.deliveries(10**6)):
            claim()
            if name in self.hand:
                return self.hand[name]
        raise AssertionError(f"{name} can't be claimed")

    # Their ends; each says whether it was kept.

    def expired(self, now: float) -> Any:
        claims = self.successResultOf(self.journal.claim_expired(now, 10))
        self.hand.update((ask.prompt.id, ask) for ask in claims.claimed)
        return [ask.prompt.id for ask in claims.claimed], claims.next_due

    def end(self, work: Ask | Delivery, outcome: Any, **options: Any) -> Any:
        now = self.clock.seconds()
        if isinstance(work, Ask):
            return self.successResultOf(self.journal.ask_ended(work, outcome, now, **options))
        return self.successResultOf(self.journal.delivery_ended(work, outcome, now, **options))

    def end_of(self, name: str, outcome: Any, **options: Any) -> Any:
        work = self.taken(name)
        del self.hand[name]
        return self.end(work, outcome, **options)

    def answer(
        self,
        name: str = "p1",
        *,
        claim: bool = False,
        event: bytes = b"the event",
        answer: Answer = ANSWER,
    ) -> None:
        ended = self.end_of(name, Answered(answer, event), claim=claim)
        self.assertTrue(ended.kept)
        if claim:
            self.hand[name] = ended.delivery

    def deliver(self, name: str = "p1") -> None:
        """Deliver its event, by way of an answer if there is none."""
        if isinstance(self.taken(name), Ask):
            self.answer(name, claim=True)
        self.assertTrue(self.end_of(name, Delivered()).kept)

    def fail_it(
        self,
        name: str = "p1",
        error: str = "why",
        *,
        give_back: bool = False,
        dead_letter: bytes | None = None,
    ) -> None:
        self.assertTrue(self.end_of(name, Failed(error, give_back, dead_letter)).kept)

    def postpone(
        self,
        name: str = "p1",
        until: float | None = None,
        error: str = "for now",
        **options: Any,
    ) -> None:
        at = self.clock.seconds() if until is None else until
        self.assertTrue(self.end_of(name, Postponed(at, error, **options)).kept)

    # What is known.

    def used(self, day: str = DAY.date) -> int:
        return self.successResultOf(self.journal.tally(day)).used

    def record(self, name: str = "p1") -> Any:
        return self.successResultOf(self.journal.record(name))
