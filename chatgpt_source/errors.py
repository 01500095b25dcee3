"""The classes of failures of calls, prompts and the journal, each with its policy.

An error's text never holds what a caller, a model or a target wrote.
"""

from typing import ClassVar


class CallError(Exception):
    """A failed call to the model or the target.

    The subclass says what to do with the prompt. The text tells an operator what happened, and
    never holds what a caller, the model or the target wrote.

    Attributes:
        status: The peer's HTTP status, if it answered.
        retry_after: Seconds that the peer asked us to wait.
        request_id: The model provider's id of the prompt's call, if known.
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

    def bare(self) -> "CallError":
        """The same error, without the frames that it passed.

        They hold the peer's response, and whoever keeps the error in one of them makes a cycle.
        """
        self.__traceback__ = self.__context__ = None
        return self

    @property
    def throttled(self) -> bool:
        """Whether the peer said that we send too many requests (RFC 6585, section 4)."""
        return self.status == 429


class Transient(CallError):
    """Retry after a while."""


class NoRoom(Transient):
    """The provider has no room on the tier that was asked for, whatever there is on others."""


class PossiblyBilled(Transient):
    """Retry a few times: the model may have answered, and billed, without our seeing it."""


class Gone(Transient):
    """The provider does not have the id of a submitted prompt."""


class Lost(Transient):
    """The provider has given up a submitted prompt: ask again."""


class PeerFailure(CallError):
    """The settings or the peer are wrong, not this prompt: hold all calls, and probe."""


class Permanent(CallError):
    """This prompt can't succeed: it is failed."""


Class = tuple[type[CallError], str]
"""The class of a failure, and the words about its cause."""


def first_class(*rows: tuple[bool, type[CallError], str]) -> Class:
    """The class and the words of the first row whose condition holds."""
    return next((kind, why) for holds, kind, why in rows if holds)


class NotAccepted(Exception):
    """A prompt can't be accepted now; nothing was changed.

    Attributes:
        word: The reason in one word.
        retry_after: Seconds until another try may succeed.
    """

    word: ClassVar[str]

    def __init__(self, reason: str, *, retry_after: float) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


class QuotaUsedUp(NotAccepted):
    """The day's limit is used up, or has too little left for all of a batch.

    Attributes:
        left: The units that are left.
    """

    word = "quota"

    def __init__(self, reason: str, *, retry_after: float, left: int = 0) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.left = left


class BacklogFull(NotAccepted):
    """As many prompts wait as `max_backlog` allows."""

    word = "backlog"


class Draining(NotAccepted):
    """The daemon is stopping."""

    word = "draining"


class Paused(NotAccepted):
    """An operator has paused the intake."""

    word = "paused"


class JournalUnavailable(NotAccepted):
    """The journal can't be written at the moment.

    Attributes:
        is_passing: Whether what is wrong may be over soon by itself, as a lost connection.
    """

    word = "journal"

    def __init__(self, reason: str, *, retry_after: float, is_passing: bool = False) -> None:
        super().__init__(reason, retry_after=retry_after)
        self.is_passing = is_passing


class KeyReused(Exception):
    """An idempotency key came again with another content."""


class TooLate(Exception):
    """A prompt that is no repeat came after its deadline."""


class NotCancelled(Exception):
    """A prompt can't be cancelled any more; the text says why."""


class NotRedriven(Exception):
    """A prompt can't be redriven; the text says why."""


class NotTried(Exception):
    """A peer can't be tried now; the text says why."""


class JournalError(Exception):
    """The journal can't be opened; the text is one line that names the file."""


class JournalInUse(JournalError):
    """Another daemon uses the journal at the moment."""


class JournalUnreachable(JournalError):
    """The journal's database can't be reached at the moment."""
