"""What is not well with a peer, in words. Pure."""

import re
from collections.abc import Sequence

from attrs import Factory, field, frozen

from chatgpt_source.health.times import Times
from chatgpt_source.health.trouble import Level, Trouble
from chatgpt_source.journal import MOST_COUNTED, Waiting
from chatgpt_source.words import age, count

DOWN = 900.0
"""Seconds of failed calls, and none that succeeded, after which no success is near."""
_UNREACHED = ", or the way to it, and whether its address is right"
LONG = 5.0
"""Seconds from which a wait for the next try is worth a word."""
_ADVICE = re.compile(": (?=check )")
"""What stands between a reason and its advice."""


@frozen
class Peer:
    """What is known of a peer that does not work; instants are dates.

    Attributes:
        label: Its name for machines.
        check: The check of /readyz that it belongs to.
        reason: Why calls to it fail.
        held: Whether all calls are held.
        since: Since when they fail.
        opens_at: When calls may pass again, in the past if they may now.
        waiting: What waits for it; None if that is not known.
        stand_in: What is done in its place, in words; None: nothing.
        names: What waits for it, in the singular: a prompt, an event, a dead letter.
        ails: Who ails, for advice.
        who: Who is meant, before the reason, where that does not say it.
        gives_up: Whether what waits fails in the end: not if all who may be asked are held.
        give_up_after: Seconds for which each is tried.
        is_triable: Whether a call may be made before its time.
        is_passed_over: Whether what waits for it is tried at another meanwhile, if in vain.
        under_way: How many calls to it are under way: what they are for does not wait.
        is_down: Whether all calls have failed for `DOWN` seconds.
        paused: What is paused, so that no call is made; None: nothing is.
        attempts: How often each is tried at the most; 0: any number of times.
    """

    label: str
    check: str
    reason: str
    held: bool = False
    since: float | None = None
    opens_at: float | None = None
    waiting: Waiting | None = None
    stand_in: str | None = None
    names: str = "prompt"
    ails: str = "the provider"
    who: str = ""
    gives_up: bool = field(default=Factory(lambda self: not self.held, takes_self=True))
    give_up_after: float = 86400.0
    attempts: int = 0
    is_triable: bool = True
    is_passed_over: bool = False
    under_way: int = 0
    is_down: bool = False
    paused: str | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is there to try it with."""
        return self.waiting is not None and not self.waiting.count and not self.under_way


def of_peer(peer: Peer, times: Times) -> Trouble:
    """A peer that does not work, as a trouble."""
    what, *advice = _ADVICE.split(peer.reason, maxsplit=1)
    left = 0.0 if peer.opens_at is None else peer.opens_at - times.now
    waits = peer.held or left >= LONG
    next_try = peer.opens_at if waits else times.date(peer.waiting.due if peer.waiting else None)
    next_try = None if peer.is_idle or peer.paused else next_try
    is_far = next_try is not None and next_try - times.now >= LONG
    may_be_tried = peer.is_triable and not peer.is_idle and not peer.paused
    nothing_succeeds = peer.held or (peer.is_down and not peer.is_idle)
    return Trouble(
        peer.check,
        Level.RED if nothing_succeeds and peer.stand_in is None else Level.AMBER,
        f"{peer.who}{what}",
        peer.since,
        meaning=_meaning(peer, times) if peer.paused else peer.stand_in or _meaning(peer, times),
        next_try=next_try,
        advice=_advice(peer, what, advice),
        peer=peer.label if may_be_tried and (waits or is_far) else None,
        holds=waits and peer.stand_in is None and not peer.is_passed_over,
    )


def _advice(peer: Peer, what: str, advice: Sequence[str]) -> str:
    """What to do; `advice` is what the reason itself has."""
    see = f"see what ails {peer.ails}"
    by = f"the next {peer.names} tries it" if peer.is_idle else "it is tried again by itself"
    then = by if peer.is_idle else "then try it now"
    if peer.paused:
        by, then = (
            f"it is tried again once `{peer.paused}` is resumed",
            f"then resume `{peer.paused}`",
        )
    if peer.held:
        return f"{(*advice, see)[0]}; {then}"
    see += _UNREACHED * ("can't be reached" in what)
    return advice[0] if advice else f"{see}; {by}" if peer.is_down else f"{by}; if it lasts, {see}"


def _meaning(peer: Peer, times: Times) -> str:
    """How many wait, and how long yet."""
    waiting = peer.waiting
    if waiting is None:
        return f"the {peer.names}s wait"
    if waiting.count == 0 and peer.under_way:
        return f"{count(peer.under_way, 'call')} {'is' if peer.under_way == 1 else 'are'} under way"
    if waiting.count == 0:
        return f"no {peer.names} waits for it now"
    number = count(waiting.count, peer.names)
    if waiting.count >= MOST_COUNTED:
        number = f"{count(MOST_COUNTED)} {peer.names}s or more"
    told = f"{number} wait{'s' if waiting.count == 1 else ''}"
    deadline, since = times.date(waiting.ends), times.date(waiting.since)
    own = f"the first deadline is at {times.text(deadline)}" if deadline is not None else ""
    if not peer.gives_up:
        return f"{told}, and none fails " + (f"before its deadline; {own}" if own else "meanwhile")
    if since is None or peer.paused:
        return f"{told}; {own}" if own else told
    told += f"; each is tried for {age(peer.give_up_after)}"
    if peer.attempts:
        told += f" or {count(peer.attempts, 'time')}"
    told += f", the first until {times.text(since + peer.give_up_after)}"
    return f"{told}; {own}" if own else told
