"""Prompts, reasons and pauses: rows of a table for a terminal, lines for other programs. Pure."""

from chatgpt_source.clock import rfc3339
from chatgpt_source.journal import FailureGroup, Pause, Record
from chatgpt_source.prompt import State
from chatgpt_source.terminal import DIM, GREEN, RED, YELLOW, Look

SHORT = 8
"""Characters of an id in a table; they are enough to name a prompt."""
_COLOURS = {State.FAILED: RED, State.DELIVERED: GREEN, State.CANCELLED: DIM}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def header(look: Look) -> str:
    """The table's first row."""
    return cut(_row("ID", "STATE", "SINCE", "ASKS", "SENT", "REASON"), look)


def row(record: Record, now: float, look: Look) -> str:
    """A prompt's row; `now` is a date."""
    cells = (record.id[:SHORT], record.state.value, short_age(now - since(record)))
    text = cut(_row(*cells, str(record.asks), str(record.deliveries), record.error or ""), look)
    state = record.state.value
    return text.replace(state, look.paint(state, _COLOURS.get(record.state, YELLOW)), 1)


def line(record: Record) -> str:
    """A prompt as a line for other programs, with its whole id."""
    failed = "" if record.failed is None else f" failed={rfc3339(record.failed)}"
    return (
        f"{record.id}  {record.state.value:<9}  {rfc3339(record.accepted)}"
        f"  asks={record.asks} deliveries={record.deliveries}{failed}  {record.error or ''}"
    ).rstrip()


def reason_header(look: Look) -> str:
    """The first row of the table of reasons."""
    return cut(_reason_row("FAILED", "FIRST", "LAST", "REASON"), look)


def reason_row(group: FailureGroup, now: float, look: Look) -> str:
    """A reason's row; `now` is a date."""
    ages = short_age(now - group.first), short_age(now - group.last)
    return cut(_reason_row(str(group.count), *ages, group.reason), look)


def reason_line(group: FailureGroup) -> str:
    """A reason as a line for other programs."""
    return f"{group.count}  {rfc3339(group.first)}  {rfc3339(group.last)}  {group.reason}".rstrip()


def pause_header(look: Look) -> str:
    """The first row of the table of what is paused."""
    return cut(_pause_row("PAUSED", "SINCE", "BY"), look)


def pause_row(pause: Pause, now: float, look: Look) -> str:
    """A pause's row; `now` is a date."""
    return cut(_pause_row(pause.what, short_age(now - pause.since), pause.who), look)


def pause_line(pause: Pause) -> str:
    """A pause as a line for other programs."""
    return f"{pause.what}  {rfc3339(pause.since)}  {pause.who}"


def since(record: Record) -> float:
    """The date from which on a prompt is in its state, as far as its record says."""
    return record.ended or record.answered or record.accepted


def short_age(seconds: float) -> str:
    """A duration in its largest unit, for a narrow column."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _row(name: str, state: str, since: str, asks: str, sent: str, reason: str) -> str:
    return f"{name:<{SHORT}}  {state:<9}  {since:>7}  {asks:>4}  {sent:>4}  {reason}".rstrip()


def _reason_row(count: str, first: str, last: str, reason: str) -> str:
    return f"{count:>7}  {first:>7}  {last:>7}  {reason}".rstrip()


def _pause_row(what: str, since: str, who: str) -> str:
    return f"{what:<20}  {since:>7}  {who}"


def cut(text: str, look: Look) -> str:
    """A line that is not wider than the terminal."""
    if look.width is None or len(text) <= look.width:
        return text
    return text[: look.width - 1] + "…"
