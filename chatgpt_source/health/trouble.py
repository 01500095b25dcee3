"""The judgement of the daemon's health, as values. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from math import inf
from types import MappingProxyType

from attrs import frozen

from chatgpt_source.health.times import Times
from chatgpt_source.words import count, sentence

NO_PROMPTS: Mapping[str, str] = MappingProxyType({})


class Level(str, Enum):
    """How well the daemon is; `UNKNOWN`: it has not tried everything yet."""

    RED = "red"
    AMBER = "amber"
    GREEN = "green"
    UNKNOWN = "unknown"


@frozen
class Trouble:
    """Something that is not well. Its texts are phrases, with settings in backticks.

    Attributes:
        check: The check of /readyz that it belongs to.
        level: RED or AMBER.
        what: What is not well.
        since: The date on which it began; None if nobody knows.
        meaning: What that means: how many wait, and for how long yet.
        next_try: The date of the next try, if one is waited for.
        advice: What to do.
        peer: The label of the peer that can be tried now.
        prompts: Which prompts are concerned, as the members of a query of the page.
        paused: What is paused, by the name that ends the pause.
        by: Who has brought it about, which only operators are told; None: nobody has.
        holds: Whether what is due waits for the next try.
        is_warning: Whether nothing is degraded by it yet, or any more: /readyz is `ready`.
    """

    check: str
    level: Level
    what: str
    since: float | None = None
    meaning: str = ""
    next_try: float | None = None
    advice: str = ""
    peer: str | None = None
    prompts: Mapping[str, str] = NO_PROMPTS
    paused: str | None = None
    by: str | None = None
    holds: bool = False
    is_warning: bool = False

    @property
    def told(self) -> str:
        """What is not well, for operators."""
        return self.what if self.by is None else f"{self.what} by {self.by}"


@frozen
class Judgement:
    """How well the daemon is, and why.

    Attributes:
        level: The level.
        headline: The most urgent in a few words: a sentence without the full stop.
        troubles: All that is not well, the most urgent first.
    """

    level: Level
    headline: str
    troubles: Sequence[Trouble] = ()


def judged(troubles: Iterable[Trouble], untried: str | None = None) -> Judgement:
    """The judgement of some troubles: red before amber, warnings last, then the oldest first.

    Args:
        troubles: What is not well.
        untried: What was not tried yet, in words; None if all was.
    """

    def rank(each: Trouble) -> tuple[bool, bool, float]:
        return each.level is not Level.RED, each.is_warning, each.since or inf

    urgent = sorted(troubles, key=rank)
    if urgent:
        more = f", and {count(len(urgent) - 1, 'more trouble')}" if len(urgent) > 1 else ""
        return Judgement(urgent[0].level, sentence(urgent[0].told) + more, urgent)
    if untried is not None:
        return Judgement(Level.UNKNOWN, untried)
    return Judgement(Level.GREEN, "All is well")


def line(trouble: Trouble, times: Times, *, public: bool = False) -> str:
    """A trouble in one line, as a phrase; for operators, or for all who may ask /readyz."""
    since = "" if trouble.since is None else f" (since {times.text(trouble.since)})"
    advice = f": {trouble.advice}" if trouble.advice else ""
    told = [f"{trouble.what if public else trouble.told}{since}{advice}"]
    if trouble.meaning:
        told.append(sentence(trouble.meaning))
    if trouble.next_try is not None:
        at = f"at {times.text(trouble.next_try)}"
        told.append(f"The next try is {at if trouble.next_try > times.now else 'due'}")
    return ". ".join(told)
