"""What is a trouble, of which level, and in which words. Pure.

Of peers, see `peers`.
"""

from collections.abc import Mapping

from chatgpt_source.health.recent import Failures
from chatgpt_source.health.refusals import WINDOW, TurnedAway
from chatgpt_source.health.times import Times
from chatgpt_source.health.trouble import Level, Trouble
from chatgpt_source.journal.pause import ASKING, INTAKE
from chatgpt_source.prompt import State, receiver_at
from chatgpt_source.telemetry.observer import RefusalReason
from chatgpt_source.words import age, count

NEARLY = 0.8
"""The used share of the day's limit from which operators are warned."""
AGED = 300.0
"""Seconds that a call may be due without being made."""

REFUSED: Mapping[RefusalReason, str] = {
    RefusalReason.QUOTA: "the day was used up",
    RefusalReason.BACKLOG: "the backlog was full",
    RefusalReason.JOURNAL: "the journal could not be used",
    RefusalReason.DRAINING: "the daemon was stopping",
    RefusalReason.PAUSED: "the intake was paused",
    RefusalReason.BUSY: "too many came at once",
}
"""Why callers were turned away, in words."""


def of_journal(fault: str | None, unread: str | None) -> Trouble | None:
    """Whether the journal can be used.

    Args:
        fault: Why it can't be written; None if it can.
        unread: Why it can't be read; None if it can.
    """
    if fault is None and unread is None:
        return None
    told = f"can't be written: {fault}" if unread is None else f"can't be read: {unread}"
    return Trouble(
        "journal",
        Level.RED,
        f"the journal {told}",
        meaning="prompts are refused with 503, and what calls bring is kept in memory",
        advice="mend it and do not stop the daemon: it goes on by itself",
    )


def of_failures(failures: Failures | None, failed: int, times: Times) -> Trouble | None:
    """Whether too many of the last prompts failed.

    Args:
        failures: Those that failed, if they are too many.
        failed: How many failed prompts the journal has.
        times: The moment.
    """
    if failures is None:
        return None
    those = " and ".join(receiver_at(each).name for each in failures.targets)
    those = f" for {those}" if those else ""
    what = f"{failures.failed} of the last {failures.ended} prompts{those} failed"
    if failures.nothing_succeeds:
        what = f"nothing succeeds: all of the last {failures.ended} prompts{those} failed"
    if failures.ended == 1:
        what = f"the last prompt{those} failed: {failures.why}"
    else:
        what += f", most often: {failures.why}"
    return Trouble(
        "failures",
        Level.RED if failures.nothing_succeeds else Level.AMBER,
        what,
        times.date(failures.since),
        meaning=f"{count(failed, 'failed prompt')} in the journal, until redriven or purged",
        advice="see why, mend that, and redrive them",
        prompts={"state": State.FAILED.value, "reason": failures.why},
    )


def of_quota(used: int, limit: int, midnight: float, times: Times) -> Trouble | None:
    """Whether the day is used up, or nearly."""
    if used < NEARLY * limit:
        return None
    until = f"until midnight in {times.zone.key}, in {age(midnight - times.now)}"
    what = f"{count(used)} of the day's {count(limit, 'prompt')} are used up"
    left = limit - used
    meaning = f"{count(left)} {'is' if left == 1 else 'are'} left {until}; then callers get 429"
    if used >= limit:
        what = f"all {count(limit, 'prompt')} of the day are used up"
        meaning = f"callers get 429 {until}"
    return Trouble(
        "quota",
        Level.AMBER,
        what,
        meaning=meaning,
        advice="raise `everyday_limit` and restart, or wait for midnight",
        is_warning=used < limit,
    )


def of_backlog(
    backlog: int, most: int, due: float | None, times: Times, *, draining: bool = False
) -> list[Trouble]:
    """Whether the backlog is full, ages, or takes nothing as the daemon stops.

    Args:
        backlog: How many prompts wait.
        most: How many may.
        due: Since when the longest due call waits: a date; None if none does.
        times: The moment.
        draining: Whether the daemon is stopping.
    """
    troubles = []
    if draining:
        troubles.append(
            Trouble(
                "backlog",
                Level.AMBER,
                "stopping: nothing more is accepted",
                meaning="the calls under way end; what waits is for the next start",
                advice="wait for its end, and start it again",
            )
        )
    elif backlog >= most:
        troubles.append(
            Trouble(
                "backlog",
                Level.AMBER,
                f"{count(backlog, 'prompt')} wait, as many as `max_backlog` allows",
                meaning="callers get 503",
                advice="see what holds them up; raise `max_backlog` if the disk has room",
            )
        )
    if due is not None and times.now - due >= AGED and not draining:
        troubles.append(
            Trouble(
                "backlog",
                Level.AMBER,
                f"the backlog ages: a call has been due for {age(times.now - due)}",
                due + AGED,
                meaning=f"{count(backlog, 'prompt')} not finished; they come faster than they go",
                advice="raise `concurrency` if the peers bear it, or send fewer prompts",
                is_warning=True,
            )
        )
    return troubles


def of_refusals(turned: TurnedAway | None, times: Times) -> Trouble | None:
    """Whether callers were turned away lately."""
    if turned is None:
        return None
    total = sum(turned.counts.values())
    ranked = sorted(turned.counts.items(), key=lambda item: -item[1])
    why = ", ".join(f"{count(n)} as {REFUSED[reason]}" for reason, n in ranked)
    why = f" ({why})" if len(ranked) > 1 else f", as {REFUSED[ranked[0][0]]}"
    return Trouble(
        "callers",
        Level.AMBER,
        f"{count(total, 'request')} turned away in the last {WINDOW} min{why}",
        times.date(turned.since),
        meaning="their prompts are lost unless their callers send them again",
        advice="see the other troubles; if there are none, it is over",
        is_warning=True,
    )


def of_pause(what: str, words: str, who: str, since: float, *, is_set: bool = True) -> Trouble:
    """A pause, which lasts until an operator ends it.

    Args:
        what: `intake`, `asking`, or the label of a receiver of events.
        words: The same for people.
        who: Who paused it.
        since: When: a date.
        is_set: Whether the settings have it.
    """
    advice = f"resume `{what}` once the reason for the pause is gone"
    if not is_set:
        advice = f"if another target is meant, resume `{what}` and pause that"
    meaning = {
        INTAKE: "callers get 503, and must send their prompts again",
        ASKING: "prompts are accepted, and wait",
    }.get(what, "its events wait" if is_set else "the settings have no target of this name")
    return Trouble(
        "paused",
        Level.AMBER,
        f"{words} is paused",
        since,
        meaning=meaning,
        advice=advice,
        paused=what,
        by=who,
    )


def of_missing(check: str, told: str) -> Trouble:
    """Work that waits for a peer that the settings have no more."""
    what, _, advice = told.partition(": ")
    return Trouble(check, Level.RED, what, advice=advice)
