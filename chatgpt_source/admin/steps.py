"""Renders the steps of a prompt: what has happened, what happens now, and what is ahead. Pure."""

from collections.abc import Iterator

from twisted.web.template import Tag, tags

from chatgpt_source.admin.markup import named
from chatgpt_source.admin.states import state_icon
from chatgpt_source.admin.view import Shown
from chatgpt_source.admin.words import age, ago, count, sentence, took, with_code
from chatgpt_source.health.judge import MODEL_CHECK
from chatgpt_source.journal import Record
from chatgpt_source.journal.pause import ASKING
from chatgpt_source.prompt import NOWHERE, TARGET, State, Tier, receiver_at
from chatgpt_source.quota import clock_time


def steps(shown: Shown, record: Record, tier: Tier = Tier.STANDARD, *, why: bool = True) -> Tag:
    """The steps of a prompt as a list; `why`: with the error of its last call."""
    error = record.error if why else None
    return tags.ol(*_steps(shown, record, tier, error), class_="steps")


def waits_for(shown: Shown, record: Record, tier: Tier = Tier.STANDARD) -> str | None:
    """What a prompt's next call waits for besides its time, in words; None: nothing.

    Args:
        shown: What is known of the daemon.
        record: The prompt.
        tier: The tier that serves it next.
    """
    if record.next_attempt is None or record.state not in {State.ACCEPTED, State.ANSWERED}:
        return None
    if record.state is State.ACCEPTED:
        name, what = "the model", ASKING
        check = MODEL_CHECK if tier is Tier.STANDARD else f"{MODEL_CHECK}.{tier.value}"
    else:
        receiver = receiver_at(record.target)
        name, what = receiver.name, receiver.label
        check = what
    if what in shown.pauses:
        return "the end of the pause"
    held = any(each.holds and each.check == check for each in shown.judgement.troubles)
    return f"{name} to answer again" if held else None


def _steps(shown: Shown, record: Record, tier: Tier, error: str | None) -> Iterator[Tag]:
    is_named = record.target not in {TARGET.destination, NOWHERE}
    end = "Finished" if record.target == NOWHERE else "Delivered"
    to = f" to {receiver_at(record.target).name}" if is_named else ""
    asks, deliveries = count(record.asks, "ask"), count(record.deliveries, "delivery", "deliveries")
    yield _step("done", "Accepted", _at(shown, record.accepted))
    if record.answered is not None:
        told = f"{_at(shown, record.answered)}, after {took(record.answered - record.accepted)}"
        yield _step("done", "Answered", f"{told} and {asks}")
        begun, calls, doing = record.answered, deliveries, f"Delivering the event{to}"
    else:
        begun, calls, doing = record.accepted, asks, "Asking the model"
        if record.state is State.SUBMITTED:
            doing = "In a batch" if tier is Tier.BATCH else "The provider works on it"
    if record.delivered is not None:
        told = f"{_at(shown, record.delivered)}, after {took(record.delivered - record.accepted)}"
        kept = "; its answer is for its caller alone"
        yield _step("done", end, told + (kept if end == "Finished" else f" and {deliveries}{to}"))
    elif record.state is State.FAILED:
        yield _step("failed", "Failed", f"{_ended(shown, record)}after {calls}", error)
    elif record.state is State.CANCELLED:
        yield _step("cancelled", "Cancelled", f"{_ended(shown, record)}after {calls}")
    else:
        told = f"for {age(shown.now - begun)}; {calls} so far"
        waits = waits_for(shown, record, tier)
        if waits is not None:
            told += f"; it waits for {waits}"
        elif record.next_attempt is not None and record.next_attempt - shown.now >= 1:
            told += f"; the next is due in {age(record.next_attempt - shown.now)}"
        yield _step("now", doing, told, error)
        yield _step("ahead", end, "not yet")


_PROGRESS = {
    "done": State.DELIVERED,
    "failed": State.FAILED,
    "cancelled": State.CANCELLED,
    "now": State.ANSWERED,
    "ahead": State.ACCEPTED,
}
"""The state whose icon and colour a step has."""


def _step(progress: str, name: str, told: str, error: str | None = None) -> Tag:
    item = tags.li(
        state_icon(_PROGRESS[progress]),
        tags.strong(*with_code(name)),
        " ",
        tags.span(*with_code(told)),
        class_=f"step {progress}",
    )
    if progress == "now":
        item(**named(aria_current="step"))
    return item(tags.p(*with_code(sentence(error)), class_="why")) if error else item


def _ended(shown: Shown, record: Record) -> str:
    if record.ended is None:
        return ""
    return f"{_at(shown, record.ended)}, {ago(shown.now - record.ended)}, "


def _at(shown: Shown, instant: float) -> str:
    return f"at {clock_time(instant, shown.now, shown.zone, '%H:%M:%S')}"
