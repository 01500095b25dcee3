"""A prompt, call by call, as lines of text. Pure."""

import math
from collections.abc import Iterator

from chatgpt_source.clock import rfc3339
from chatgpt_source.journal import Detail
from chatgpt_source.journal.attempts import Attempt, Kind
from chatgpt_source.journal.command.table import cut
from chatgpt_source.telemetry.observer import AskOutcome, DeliveryOutcome
from chatgpt_source.terminal import GREEN, RED, YELLOW, Look
from chatgpt_source.words import count

_NAME = 15
"""Columns of a fact's name."""
_INDENT = " " * 4
_COLOURS = {
    AskOutcome.ANSWERED.value: GREEN,
    AskOutcome.SUBMITTED.value: GREEN,
    DeliveryOutcome.DELIVERED.value: GREEN,
    AskOutcome.FAILED.value: RED,
}


def details(detail: Detail, look: Look) -> Iterator[str]:
    """The facts that are known of a prompt, and a table of its calls; no line is too wide."""
    facts = detail.to_dict()
    del facts["attempts"], facts["unlisted"]
    facts["dead_letter"] = _of_letter(detail)
    for name, value in facts.items():
        if value is not None:
            yield look.fold(f"{name + ':':<{_NAME}}{value}", " " * _NAME)
    if detail.attempts:
        yield ""
        yield cut(_row("CALL", "STARTED", "TOOK", "STATUS", "OUTCOME", "OF"), look)
    for each in detail.attempts:
        cells = (_name(each), _date(each), _took(each.seconds), str(each.status or "-"))
        text = cut(_row(*cells, each.outcome, each.peer), look)
        word = look.paint(each.outcome, _COLOURS.get(each.outcome, YELLOW))
        yield text.replace(each.outcome, word, 1)
        if each.error is not None:
            yield look.fold(_INDENT + each.error, _INDENT)
    if detail.unlisted:
        verb = "is" if detail.unlisted == 1 else "are"
        yield f"{count(detail.unlisted, 'call')} {verb} not listed"


def _of_letter(detail: Detail) -> str | None:
    letter = detail.dead_letter
    if letter is None:
        return None
    calls = count(letter.attempts, "call")
    if letter.next_attempt is not None:
        calls += f", the next {rfc3339(letter.next_attempt)}"
    return f"{letter.state}, {calls}" + (f": {letter.error}" if letter.error else "")


def _name(call: Attempt) -> str:
    kind = "dead letter" if call.kind is Kind.DEAD_LETTER else call.kind.value
    return f"{kind} {call.number}"


def _date(call: Attempt) -> str:
    return str(rfc3339(math.floor(call.started)))


def _took(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 1000 else f"{seconds:.0f} s"


def _row(name: str, started: str, took: str, status: str, outcome: str, peer: str) -> str:
    return f"{name:<13}  {started:<20}  {took:>7}  {status:>6}  {outcome:<12}  {peer}"
