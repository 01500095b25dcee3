"""A journal in memory that hands out claims, and notes how they end."""

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Answered, Batched, Claims, Ended, Underway
from chatgpt_source.journal.attempts import Attempt
from chatgpt_source.prompt import Ask, Delivery, Leftover


class ClaimsJournal:
    """Each claim is handed out once; a submitted prompt is handed out again when its poll is due.

    Attributes:
        asks: The asks to claim.
        polls: The polls to claim, each with the time at which it is due.
        letters: The dead letters to claim.
        leftovers: The leftovers to claim, each with the time at which it is due.
        tidied: The leftovers that are done.
        ends: The outcome of each claim of a prompt.
        delivered: The outcome of each claim of a delivery.
        calls: The calls that these outcomes had; here they have none.
        kept: Whether ends of claims are kept.
        writable: Whether they can be written.
    """

    fault = None
    is_shared = False

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.polls: list[tuple[float, Ask]] = []
        self.letters: list[Delivery] = []
        self.leftovers: list[tuple[float, Leftover]] = []
        self.tidied: list[Leftover] = []
        self.ends: list[Any] = []
        self.delivered: list[Any] = []
        self.calls: list[Attempt] = []
        self.kept = self.writable = True

    def pauses(self) -> Deferred[dict[str, Any]]:
        return succeed({})

    def claim_asks(self, _: float, most: int) -> Deferred[Claims[Ask]]:
        claimed, self.asks = self.asks[:most], self.asks[most:]
        return succeed(Claims(claimed, None))

    def claim_expired(self, *_: Any) -> Deferred[Claims[Ask]]:
        return succeed(Claims((), None))

    def claim_submitted(self, now: float, most: int) -> Deferred[Claims[Ask]]:
        due = [each for each in self.polls if each[0] <= now][:most]
        self.polls = [each for each in self.polls if each not in due]
        next_due = min((at for at, _ in self.polls), default=None)
        return succeed(Claims([ask for _, ask in due], next_due))

    def claim_deliveries(self, to: str, *_: Any, **__: Any) -> Deferred[Claims[Delivery]]:
        claimed = [each for each in self.letters if each.destination == to]
        self.letters = [each for each in self.letters if each.destination != to]
        return succeed(Claims(claimed, None))

    def claim_leftovers(self, now: float, most: int) -> Deferred[Claims[Leftover]]:
        due = [each for each in self.leftovers if each[0] <= now][:most]
        self.leftovers = [each for each in self.leftovers if each not in due]
        next_due = min((at for at, _ in self.leftovers), default=None)
        return succeed(Claims([each for _, each in due], next_due))

    def leftover_ended(self, leftover: Leftover, until: float | None) -> Deferred[None]:
        if until is None:
            self.tidied.append(leftover)
        else:
            self.leftovers.append((until, evolve(leftover, tries=leftover.tries + 1)))
        return succeed(None)

    def leave(self, leftover: Leftover | None, now: float) -> None:
        """Keep a leftover, if there is one."""
        if leftover is not None:
            self.leftovers.append((now, evolve(leftover, since=now)))

    def ask_ended(
        self,
        ask: Ask,
        outcome: Any,
        now: float,
        *,
        claim: bool = False,
        leftover: Leftover | None = None,
    ) -> Deferred[Ended]:
        if not self.writable:
            return fail(JournalUnavailable("full", retry_after=1))
        if not self.kept:
            return succeed(Ended(kept=False))
        self.ends.append(self._without_calls(outcome))
        self.leave(leftover, now)
        if isinstance(outcome, Underway):
            self.polls.append((outcome.until, _polled(ask, outcome, now)))
        delivery = None
        if claim and isinstance(outcome, Answered):
            prompt = ask.prompt
            delivery = Delivery(
                prompt.id, outcome.event, now, 1, prompt.accepted, submitted=ask.submitted
            )
        return succeed(Ended(kept=True, delivery=delivery))

    def delivery_ended(
        self, _: Delivery, outcome: Any, now: float, *, leftover: Leftover | None = None
    ) -> Deferred[Ended]:
        self.delivered.append(self._without_calls(outcome))
        self.leave(leftover, now)
        return succeed(Ended(kept=True))

    def _without_calls(self, outcome: Any) -> Any:
        """An outcome; its calls are kept apart."""
        if isinstance(outcome, Batched):
            return outcome
        self.calls += outcome.calls
        return evolve(outcome, calls=())


def _polled(ask: Ask, outcome: Underway, now: float) -> Ask:
    """The claim of the next poll."""
    since = now if ask.missing_since is None else ask.missing_since
    return Ask(
        ask.prompt,
        ask.attempt,
        ask.total,
        ask.since,
        ask.possibly_billed,
        submitted=outcome.submitted,
        polls=0 if ask.submitted is None else ask.polls + 1,
        missing_since=since if outcome.missing else None,
        missing=ask.missing + 1 if outcome.missing else 0,
    )
