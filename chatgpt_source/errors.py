"""The ways in which a call, a prompt or a journal can fail, each with its policy.

No text of an error holds what a caller, a model or a target wrote.
"""

from typing import ClassVar


class CallError(Exception):
    """A call to the model or the target that did not do its work.

    The subclass is the policy: what to do with the prompt. The text says what happened in words an
    operator can act on, and holds nothing that a caller, the model or the target wrote.

    Attributes:
        status: The peer's HTTP status, if it answered.
        retry_after: How long the peer asked us to wait, in seconds.
        request_id: The model provider's name for the call that the prompt's way led to, if any.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.request_id = request_id

    @property
    def throttled(self) -> bool:
        """Whether the peer said that we call too often (RFC 6585, section 4)."""
        return self.status == 429


class Transient(CallError):
    """Worth trying again, after a while."""


class PossiblyBilled(Transient):
    """Worth trying again, but the model may have answered, and billed, without our seeing it."""


class PeerFailure(CallError):
    """Wrong with us or with the peer, not with this prompt: stop calling, and probe."""


class Permanent(CallError):
    """This prompt can't succeed: set it aside."""


Class = tuple[type[CallError], str]
"""The class of a failure, and the words that tell about it."""


def first_class(*rows: tuple[bool, type[CallError], str]) -> Class:
    """The class and the words of the first row of a table that holds."""
    return next((kind, why) for holds, kind, why in rows if holds)


class NotAccepted(Exception):
    """A prompt that can't be accepted now; nothing was changed.

    Attributes:
        word: Why, in a word.
        retry_after: Seconds until another try may succeed.
    """

    word: ClassVar[str]

    def __init__(self, reason: str, *, retry_after: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class QuotaUsedUp(NotAccepted):
    """The day's limit is reached."""

    word = "quota"


class BacklogFull(NotAccepted):
    """As many prompts wait as `max_backlog` allows."""

    word = "backlog"


class Draining(NotAccepted):
    """The daemon is stopping."""

    word = "draining"


class JournalUnavailable(NotAccepted):
    """The journal can't be written; it may heal."""

    word = "journal"


class KeyReused(Exception):
    """An idempotency key came again, with another prompt, source or type."""


class NotRedriven(Exception):
    """A prompt can't be taken up again; the text says why."""


class JournalError(Exception):
    """The journal can't be opened; the text is one line that names the file."""


class JournalInUse(JournalError):
    """Another daemon has the journal, for now at least."""
