"""What is to be accepted, under which limits, and what becomes of it."""

from attrs import field, frozen

from chatgpt_source.prompt import Ask, Prompt
from chatgpt_source.quota import Day


@frozen
class Terms:
    """The limits under which a prompt is admitted.

    Attributes:
        day: The day whose unit it takes.
        limit: The units of a day.
        max_backlog: How many prompts may wait.
        draining: Whether no prompt is admitted any more.
        paused: Whether an operator has paused the intake.
    """

    day: Day
    limit: int
    max_backlog: int
    draining: bool = False
    paused: bool = False


@frozen
class Key:
    """What a repeated prompt is recognised by.

    Attributes:
        words: Equal words are the same key. They are stored as a keyed digest.
        any_content: Whether a repeat may have another content.
    """

    words: tuple[str, ...] = field(repr=False)
    any_content: bool = False


@frozen
class Submission:
    """A prompt that is to be accepted.

    Attributes:
        prompt: The prompt.
        key: Its idempotency key, if any.
        needed_until: Until when somebody waits for its answer, by the steady clock, if so.
        late: Whether its deadline had passed when it came: then it can only be a repeat.
    """

    prompt: Prompt
    key: Key | None = None
    needed_until: float | None = None
    late: bool = False


@frozen
class Admitted:
    """A prompt that is in the journal.

    Attributes:
        id: Its id; the earlier prompt's, if the idempotency key is known.
        left: The units that its day has left.
        repeated: Whether it is an earlier prompt.
        ask: The claim for its first call, if that was requested.
    """

    id: str
    left: int
    repeated: bool = False
    ask: Ask | None = None
