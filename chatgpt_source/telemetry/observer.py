"""Tells the log, the metrics and the page each outcome once.

Observers are told after the journal's commit, so that a crash can't undo what they were told. They
get ids, instants, durations and outcomes, never a prompt's text. They are told nothing of a call
that a stop abandons.
"""

from enum import Enum
from typing import Any

from attrs import frozen
from twisted.python.failure import Failure

from chatgpt_source.errors import CallError, Gone, Lost, PeerFailure, PossiblyBilled, Transient
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.prompt import DEAD_LETTER, Answer, Arrival, Ask, Delivery, State, asked_peer

log = get_logger(__name__)


class RefusalReason(str, Enum):
    """Why a prompt was not accepted: the word of its `Problem`."""

    QUOTA = "quota"
    BACKLOG = "backlog"
    JOURNAL = "journal"
    DRAINING = "draining"
    PAUSED = "paused"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    CHARSET = "charset"
    KEY_REUSED = "key_reused"
    UNAUTHORIZED = "unauthorized"
    CROSS_SITE = "cross_site"
    BUSY = "busy"


class AskOutcome(str, Enum):
    """The outcome of a call to the model; `FAILED`: the prompt can't succeed.

    `SUBMITTED`: the provider works on it.
    """

    ANSWERED = "answered"
    SUBMITTED = "submitted"
    AGAIN = "again"
    MAYBE_BILLED = "maybe_billed"
    HOLD = "hold"
    FAILED = "failed"

    @classmethod
    def of(cls, error: CallError | None, *, submitted: bool = False) -> "AskOutcome":
        """The outcome of a call that ended so; None is a success."""
        if error is None:
            return cls.SUBMITTED if submitted else cls.ANSWERED
        return cls.MAYBE_BILLED if isinstance(error, PossiblyBilled) else cls(_class_of(error))


class PollOutcome(str, Enum):
    """The outcome of a poll of a submitted prompt; `FAILED`: the prompt can't succeed.

    `MISSING`: the provider does not have its id; `LOST`: it has given it up.
    """

    ANSWERED = "answered"
    UNDERWAY = "underway"
    MISSING = "missing"
    LOST = "lost"
    AGAIN = "again"
    HOLD = "hold"
    FAILED = "failed"

    @classmethod
    def of(cls, error: CallError | None, *, answered: bool) -> "PollOutcome":
        """The outcome of a poll that ended so; without an error, it may have brought the answer."""
        if error is None:
            return cls.ANSWERED if answered else cls.UNDERWAY
        if isinstance(error, Gone):
            return cls.MISSING
        return cls.LOST if isinstance(error, Lost) else cls(_class_of(error))


class DeliveryOutcome(str, Enum):
    """The outcome of a call to a receiver of events; `FAILED`: the event can't succeed."""

    DELIVERED = "delivered"
    AGAIN = "again"
    HOLD = "hold"
    FAILED = "failed"

    @classmethod
    def of(cls, error: CallError | None) -> "DeliveryOutcome":
        """The outcome of a call that ended so; None is a success."""
        return cls.DELIVERED if error is None else cls(_class_of(error))


def _class_of(error: CallError) -> str:
    if isinstance(error, PeerFailure):
        return "hold"
    return "again" if isinstance(error, Transient) else "failed"


@frozen(kw_only=True)
class Ended:
    """How a call ended, and what that means for its prompt; the journal has it.

    Attributes:
        started: When the call was started, by the steady clock.
        seconds: How long it took.
        date: When it was on disk, by the wall clock; never before the prompt's acceptance.
        error: The failure; None if it succeeded.
        state: The prompt's new state; None if it has not changed.
        reason: Why the prompt, or its dead letter, has failed; None if it has not.
        wait: Seconds to the next attempt; None if there is none.
        held: Whether all calls to the peer are held.
    """

    started: float
    seconds: float
    date: float
    error: CallError | None = None
    state: State | None = None
    reason: str | None = None
    wait: float | None = None
    held: bool = False


@frozen(kw_only=True)
class AskEnded(Ended):
    """How a call to the model ended.

    Attributes:
        ask: The ask.
        answer: The answer, if there is one.
        called: Whether there was a call: there is none if the prompt's time was up.
        submitted: The provider's id, if it works on the prompt.
        provider: The name of the provider that was called; None where there is only one.
        is_fallback: Whether that is not the first.
    """

    ask: Ask
    answer: Answer | None = None
    called: bool = True
    submitted: str | None = None
    provider: str | None = None
    is_fallback: bool = False

    @property
    def id(self) -> str:
        """The prompt's id."""
        return self.ask.prompt.id

    @property
    def accepted(self) -> float:
        """When the prompt was accepted."""
        return self.ask.prompt.accepted

    @property
    def peer(self) -> str:
        """Whom it called: a fallback, a tier of the first provider, or its standard tier."""
        return asked_peer(self.ask.prompt.tier, self.provider if self.is_fallback else None)

    @property
    def outcome(self) -> AskOutcome:
        """What it brought, in a word; of a poll, see `poll`."""
        return AskOutcome.of(self.error, submitted=self.state is State.SUBMITTED)

    @property
    def poll(self) -> PollOutcome | None:
        """What a poll brought, in a word; None if it was a call that asks."""
        if not self.ask.is_submitted:
            return None
        return PollOutcome.of(self.error, answered=self.answer is not None)

    @property
    def waited(self) -> float | None:
        """Seconds from acceptance to the first call; None if this is a later call."""
        return self.started - self.ask.since if self.ask.total == 1 else None


@frozen(kw_only=True)
class DeliveryEnded(Ended):
    """How a call to a receiver of events ended.

    Attributes:
        delivery: The delivery.
    """

    delivery: Delivery

    @property
    def id(self) -> str:
        """The prompt's id."""
        return self.delivery.id

    @property
    def accepted(self) -> float:
        """When the prompt was accepted."""
        return self.delivery.accepted

    @property
    def outcome(self) -> DeliveryOutcome:
        """What it brought, in a word."""
        return DeliveryOutcome.of(self.error)

    @property
    def is_dead_letter(self) -> bool:
        """Whether it was a dead letter's call, which does not change a prompt's state."""
        return self.delivery.destination == DEAD_LETTER.setting


class Observer:
    """Is told what happens. Each method does nothing: an observer overrides what it needs."""

    def accepted(
        self,
        *,
        prompt_id: str,
        size: int,
        seconds: float,
        arrival: Arrival,
        target: str,
        waits: bool = False,
    ) -> None:
        """A prompt was accepted: it is on disk.

        Args:
            prompt_id: The prompt's id.
            size: Bytes of the request's body.
            seconds: Seconds since the request began to arrive.
            arrival: The form in which it arrived.
            target: The destination of its event.
            waits: Whether its caller waits for the answer, and has no response yet.
        """

    def repeated(self) -> None:
        """An idempotency key came again and got the first answer again."""

    def refused(self, *, reason: RefusalReason) -> None:
        """A prompt was refused."""

    def asked(self, ended: AskEnded) -> None:
        """A call to the model or a poll has ended, or a prompt's time was up before a call."""

    def sent(self, ended: DeliveryEnded) -> None:
        """A call to a receiver of events has ended."""

    def cancelled(self, *, prompt_id: str) -> None:
        """A prompt was cancelled."""

    def purged(self, *, prompt_id: str) -> None:
        """A failed prompt was purged in this process."""

    def redriven(self, *, prompt_id: str, state: State) -> None:
        """A failed prompt was redriven in this process; it is ACCEPTED or ANSWERED now."""


NO_OBSERVER = Observer()
"""Observes nothing."""


def _tell(name: str) -> Any:
    """A method that calls the one of that name of each observer."""

    def tell(self: "Observers", *what: object, **named: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, name)(*what, **named)
            except Exception:  # noqa: BLE001, PERF203 - who only observes must not disturb
                log_unexpected(log, "telling an observer", Failure())

    return tell


class Observers(Observer):
    """Tells several observers; logs an exception of one, and goes on with the others.

    Args:
        observers: The observers, in this order.
    """

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def add(self, observer: Observer) -> None:
        """Add an observer."""
        self.observers = (*self.observers, observer)

    accepted = _tell("accepted")
    repeated = _tell("repeated")
    refused = _tell("refused")
    asked = _tell("asked")
    sent = _tell("sent")
    cancelled = _tell("cancelled")
    redriven = _tell("redriven")
    purged = _tell("purged")
