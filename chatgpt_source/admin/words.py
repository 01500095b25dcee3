"""Formats instants and measured durations for the page, beside what `words` does. Pure."""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.web.template import Tag, tags

from chatgpt_source.quota import clock_time
from chatgpt_source.words import age, count, sentence

SHORT = 8
"""Characters of an id that the page shows."""


__all__ = [
    "age",
    "ago",
    "count",
    "local_time",
    "moment",
    "money",
    "sentence",
    "short",
    "took",
    "with_code",
]


def short(number: float) -> str:
    """A number for a scale, to three digits or so: `950`, `1,234`, `12.3 k`, `4 M`."""
    if number < 10_000:
        return f"{number:,.0f}"
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9)):
        if number < 999.5 * size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e12:,.4g} T"


def money(dollars: float) -> str:
    """An amount of US dollars: `$0`, `$0.0031`, `$0.25`, `$1,234.50`."""
    if 0 < dollars < 0.0995:
        return f"${dollars:.2g}" if dollars >= 0.0001 else "under $0.0001"
    return f"${dollars:,.2f}" if dollars else "$0"


def ago(seconds: float) -> str:
    """How long ago something was: `just now`, `12 s ago`."""
    return f"{age(seconds)} ago" if seconds >= 1 else "just now"


def took(seconds: float) -> str:
    """A duration that was measured: `4 ms`, `0.42 s`, `3.1 s`, `12 s`, then as an age."""
    if seconds < 0.1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 0.995:
        return f"{seconds:.2f} s"
    return f"{seconds:.1f} s" if seconds < 10 else age(seconds)


def moment(instant: float, zone: ZoneInfo, text: str) -> Tag:
    """A `time` element, with the instant for machines and the exact time as its title."""
    local = datetime.fromtimestamp(instant, zone)
    return tags.time(
        text, datetime=local.isoformat(timespec="seconds"), title=f"{local:%Y-%m-%d %H:%M:%S %Z}"
    )


def local_time(instant: float, zone: ZoneInfo) -> str:
    """An instant in a zone, to the millisecond, for the page's script: ISO 8601 without offset."""
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None).isoformat("T", "milliseconds")


def when(instant: float, now: float, zone: ZoneInfo) -> Tag:
    """An instant, and how far it is: `13:55, 2 min ago`, `14:05, in 8 min`."""
    far = ago(now - instant) if instant <= now else f"in {age(instant - now)}"
    return moment(instant, zone, f"{clock_time(instant, now, zone)}, {far}")


def exactly(instant: float, now: float, zone: ZoneInfo) -> Tag:
    """An instant to the millisecond: `13:55:02.120`."""
    local = clock_time(instant, now, zone, "%H:%M:%S.%f")
    return moment(instant, zone, local[:-3])


def short_id(prompt_id: str) -> str:
    """The beginning of an id, which is enough to name a prompt."""
    return prompt_id[:SHORT]


def with_code(text: str) -> Iterator[str | Tag]:
    """A text with the parts in backticks as `code` elements."""
    for number, part in enumerate(text.split("`")):
        if part:
            yield tags.code(part) if number % 2 else part
