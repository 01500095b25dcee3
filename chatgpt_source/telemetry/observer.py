"""What happens, told once to whoever observes: the log, the metrics, the page.

An outcome is told after the journal's commit, so that nobody hears of what a crash would undo. Told
are ids, instants, durations and outcomes, never a prompt's text. Of a call that a stop abandons
nothing is told.
"""

from enum import Enum
from typing import Any

from attrs import frozen
from twisted.python.failure import Failure

from chatgpt_source.errors import CallError, PeerFailure, PossiblyBilled, Transient
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.prompt import DEAD_LETTER, Answer, Ask, Delivery, State

log = get_logger(__name__)


class RefusalReason(str, Enum):
    """Why a prompt was not accepted: the word of its `Problem`."""

    QUOTA = "quota"
    BACKLOG = "backlog"
    JOURNAL = "journal"
    DRAINING = "draining"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    CHARSET = "charset"
    KEY_REUSED = "key_reused"
    UNAUTHORIZED = "unauthorized"
    CROSS_SITE = "cross_site"
    BUSY = "busy"


class AskOutcome(str, Enum):
    """What a call to the model brought; `FAILED`: the prompt can't succeed."""

    ANSWERED = "answered"
    AGAIN = "again"
    MAYBE_BILLED = "maybe_billed"
    HOLD = "hold"
    FAILED = "failed"

    @classmethod
    def of(cls, error: CallError | None) -> "AskOutcome":
        """The outcome of a call that ended so; None is a success."""
        if error is None:
            return cls.ANSWERED
        return cls.MAYBE_BILLED if isinstance(error, PossiblyBilled) else cls(_class_of(error))


class DeliveryOutcome(str, Enum):
    """What a call to a receiver of events brought; `FAILED`: the event can't succeed."""

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
    """How a call ended, and what became of its prompt; it is on disk.

    Attributes:
        started: When the call was started, by the steady clock.
        seconds: How long it took.
        date: When that was on disk, by the wall clock; never before the prompt's acceptance.
        error: How it failed; None if it did not.
        state: The state that the prompt reached by it; None if it is in the one it was in.
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
        ask: What was asked.
        answer: What came of it, if it did.
    """

    ask: Ask
    answer: Answer | None = None

    @property
    def id(self) -> str:
        """The prompt's id."""
        return self.ask.prompt.id

    @property
    def accepted(self) -> float:
        """When the prompt was accepted."""
        return self.ask.prompt.accepted

    @property
    def outcome(self) -> AskOutcome:
        """What it brought, in a word."""
        return AskOutcome.of(self.error)

    @property
    def waited(self) -> float | None:
        """Seconds from the acceptance to the start of the prompt's first call, if this is it."""
        return self.started - self.ask.since if self.ask.total == 1 else None


@frozen(kw_only=True)
class DeliveryEnded(Ended):
    """How a call to a receiver of events ended.

    Attributes:
        delivery: What was to be delivered, and where.
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
        """Whether it was a dead letter's call, which no prompt's state follows from."""
        return self.delivery.destination == DEAD_LETTER.setting


class Observer:
    """Is told what happens. Each method does nothing here: an observer overrides what it wants."""

    def accepted(self, *, prompt_id: str, size: int, seconds: float) -> None:
        """A prompt was accepted: it is on disk.

        Args:
            prompt_id: Which.
            size: Bytes of the request's body.
            seconds: Since the request began to arrive.
        """

    def repeated(self) -> None:
        """An idempotency key came again and got the first answer again."""

    def refused(self, *, reason: RefusalReason) -> None:
        """A prompt was refused."""

    def asked(self, ended: AskEnded) -> None:
        """A call to the model has ended."""

    def sent(self, ended: DeliveryEnded) -> None:
        """A call to a receiver of events has ended."""

    def redriven(self, *, prompt_id: str, state: State) -> None:
        """A failed prompt was taken up again, in this process; it is ACCEPTED or ANSWERED now."""


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
    """Tells many; what one of them raises is logged, and reaches neither the others nor us.

    Args:
        observers: Who is told, in this order.
    """

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def add(self, observer: Observer) -> None:
        """Tell this one, too."""
        self.observers = (*self.observers, observer)

    accepted = _tell("accepted")
    repeated = _tell("repeated")
    refused = _tell("refused")
    asked = _tell("asked")
    sent = _tell("sent")
    redriven = _tell("redriven")
