"""What happens, told to whoever watches: metrics, the live page, traces.

Told are ids, instants, durations and outcomes, never a prompt's text. Instants are seconds since
the epoch by the wall clock, durations are seconds. Of a call that a stop abandons nothing is told.
"""

from enum import Enum
from typing import Any

from twisted.python.failure import Failure

from chatgpt_source.errors import CallError, PeerFailure, PossiblyBilled, Transient
from chatgpt_source.log import get_logger, log_unexpected
from chatgpt_source.prompt import Answer, State

log = get_logger(__name__)


class RefusalReason(str, Enum):
    """Why a prompt was not accepted."""

    QUOTA = "quota"
    BACKLOG = "backlog"
    JOURNAL = "journal"
    DRAINING = "draining"
    INVALID = "invalid"
    TOO_LARGE = "too_large"
    CHARSET = "charset"
    KEY_REUSED = "key_reused"
    UNAUTHORIZED = "unauthorized"
    BUSY = "busy"
    CROSS_SITE = "cross_site"


class Asked(str, Enum):
    """What a call to the model brought, whatever becomes of its prompt; `FAILED`: rejected."""

    ANSWERED = "answered"
    AGAIN = "again"
    MAYBE_BILLED = "maybe_billed"
    HOLD = "hold"
    FAILED = "failed"


class Sent(str, Enum):
    """What a call to the target brought, whatever becomes of its prompt; `FAILED`: rejected."""

    DELIVERED = "delivered"
    AGAIN = "again"
    HOLD = "hold"
    FAILED = "failed"


def asked_outcome(error: CallError | None) -> Asked:
    """The outcome of an ask that ended so; None is a success."""
    if error is None:
        return Asked.ANSWERED
    return Asked.MAYBE_BILLED if isinstance(error, PossiblyBilled) else Asked(_outcome(error))


def sent_outcome(error: CallError | None) -> Sent:
    """The outcome of a delivery that ended so; None is a success."""
    return Sent.DELIVERED if error is None else Sent(_outcome(error))


def _outcome(error: CallError) -> str:
    if isinstance(error, PeerFailure):
        return "hold"
    return "again" if isinstance(error, Transient) else "failed"


class Observer:
    """Is told what happens. Each method does nothing here: an observer overrides what it wants."""

    def accepted(self, *, prompt_id: str, now: float) -> None:
        """A prompt was accepted: it is on disk."""

    def repeated(self) -> None:
        """An idempotency key came again and got the first answer again."""

    def refused(self, *, reason: RefusalReason) -> None:
        """A prompt was refused."""

    def asked(
        self,
        *,
        prompt_id: str,
        attempt: int,
        outcome: Asked,
        seconds: float,
        waited: float | None,
        answer: Answer | None,
        error: CallError | None,
    ) -> None:
        """A call to the model has ended; what it brought is not on disk yet.

        Args:
            prompt_id: Whose.
            attempt: Which of the prompt's calls it was, from 1.
            outcome: What it brought.
            seconds: How long it took.
            waited: From the acceptance to the start of the call, if it is the prompt's first.
            answer: What the model answered, if it did.
            error: How the call failed, if it did.
        """

    def sent(
        self,
        *,
        prompt_id: str,
        attempt: int,
        outcome: Sent,
        seconds: float,
        error: CallError | None,
    ) -> None:
        """A call to the target has ended; arguments as for `asked`."""

    def letter_sent(
        self,
        *,
        prompt_id: str,
        attempt: int,
        outcome: Sent,
        seconds: float,
        error: CallError | None,
    ) -> None:
        """A call that was to deliver a dead letter has ended; arguments as for `asked`."""

    def moved(
        self,
        *,
        prompt_id: str,
        state: State,
        now: float,
        accepted: float,
        error: str | None = None,
    ) -> None:
        """A prompt has reached a state after its acceptance, and it is on disk.

        Args:
            prompt_id: Which.
            state: ANSWERED, DELIVERED or FAILED.
            now: When.
            accepted: When it was accepted.
            error: Why it failed, if it did.
        """

    def redriven(self, *, prompt_id: str, state: State, now: float) -> None:
        """A failed prompt was taken up again, in this process; it is ACCEPTED or ANSWERED now."""


NO_OBSERVER = Observer()
"""Watches nothing."""


def _tell(name: str) -> Any:
    """A method that calls the one of that name of each observer."""

    def tell(self: "Observers", **what: object) -> None:
        for observer in self.observers:
            try:
                getattr(observer, name)(**what)
            except Exception:  # noqa: BLE001, PERF203 - who only watches must not disturb
                log_unexpected(log, "telling an observer", Failure())

    return tell


class Observers(Observer):
    """Tells many; what one of them raises is logged, and reaches neither the others nor us.

    Args:
        watchers: Who is told, in this order.
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
    letter_sent = _tell("letter_sent")
    moved = _tell("moved")
    redriven = _tell("redriven")
