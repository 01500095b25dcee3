"""The page's charts as SVG: a gauge, and bars by the minute. Pure.

The style sheet sets the colours.
"""

from collections.abc import Callable, Mapping, Sequence

from twisted.web.template import Tag, tags

from chatgpt_source.admin.history import COUNTED, Minute, together
from chatgpt_source.admin.markup import element
from chatgpt_source.admin.view import Hour
from chatgpt_source.admin.words import count, took

LANE = 40
"""The height of a row of bars, in units; a minute is one unit wide."""
HEIGHT = 3 * LANE
_BAR = 0.72
_LEAST = 1.5
"""The least height of a bar that is not empty."""
_MEDIAN = 3.0
TABLE_STEP = 5
"""Minutes that a row of the table stands for."""


def gauge(share: float, kind: str, text: str) -> Tag:
    """Half a circle, filled from the left.

    Args:
        share: How much of it, 0 to 1.
        kind: The class of the filled part.
        text: What it says, for screen readers.
    """
    arc = "M10 60A50 50 0 0 1 110 60"
    filled = f"{max(0.0, min(1.0, share)) * 100:.1f}"
    return element(
        "svg",
        element("path", d=arc, class_="track"),
        # With round ends, even an empty dash is a dot.
        element(
            "path", d=arc, class_=f"fill {kind}", pathLength="100", stroke_dasharray=f"{filled} 200"
        )
        if share > 0
        else "",
        class_="gauge",
        viewBox="0 0 120 66",
        role="img",
        aria_label=text,
    )


def traffic(hour: Hour) -> Tag:
    """Accepted, delivered and failed a minute: three rows of bars, on one scale."""
    paths = {
        state.value: _bars([minute.prompts[state] for minute in hour.minutes], hour.highest, lane)
        for lane, state in enumerate(COUNTED)
    }
    told = ", ".join(f"{count(hour.total.prompts[state])} {state.value}" for state in COUNTED)
    told += f"; at most {count(hour.highest)} in a minute."
    return _chart("traffic", "Prompts a minute in the last hour", told, paths, hour, _traffic_of)


def latency(hour: Hour) -> Tag:
    """Accepted to delivered: a bar from median to 95th percentile, and a mark at the median."""
    spans, marks = [], []
    for number, minute in enumerate(hour.minutes):
        pair = minute.quantiles
        if pair is None:
            continue
        middle, high = (HEIGHT - value / hour.slowest * (HEIGHT - 2 * _LEAST) for value in pair)
        spans.append(_bar(number, middle + _MEDIAN / 2, max(_LEAST, middle - high)))
        top = min(HEIGHT - _MEDIAN, middle - _MEDIAN / 2)
        marks.append(_bar(number, top + _MEDIAN, _MEDIAN))
    pair = hour.total.quantiles
    told = "Nothing was delivered."
    if pair:
        told = f"Half took at most {took(pair[0])}, 95 of 100 at most {took(pair[1])}."
    paths = {"span": "".join(spans), "median": "".join(marks)}
    title = "Time from accepted to delivered in the last hour"
    return _chart("latency", title, told, paths, hour, _latency_of)


def table(hour: Hour) -> Tag:
    """The numbers of both charts as a table, also for screen readers."""
    heads = ["From", "Accepted", "Delivered", "Failed", "Median", "95th percentile"]
    rows = []
    for first in range(0, len(hour.minutes), TABLE_STEP):
        stretch = together(hour.minutes[first : first + TABLE_STEP])
        cells = [*(count(stretch.prompts[state]) for state in COUNTED), *quantiles_of(stretch)]
        head = tags.th(hour.times[first], scope="row")
        rows.append(tags.tr(head, *(tags.td(cell) for cell in cells)))
    return tags.table(
        tags.caption(f"The last hour, {TABLE_STEP} minutes a row", class_="hidden"),
        tags.thead(tags.tr(*(tags.th(head, scope="col") for head in heads))),
        tags.tbody(*rows),
    )


def quantiles_of(minute: Minute) -> list[str]:
    """The median and 95th percentile as text."""
    return [took(value) for value in minute.quantiles or ()] or ["–", "–"]


def _chart(
    name: str,
    title: str,
    told: str,
    paths: Mapping[str, str],
    hour: Hour,
    hint_of: Callable[[Minute], str],
) -> Tag:
    """A chart of paths, by the classes that colour them, with a hint on each minute's column."""
    width = len(hour.minutes)
    columns = []
    for number, (at, minute) in enumerate(zip(hour.times, hour.minutes, strict=True)):
        hint = f"{at}: {hint_of(minute) if number >= hour.unknown else 'before the start'}"
        shape = {"x": str(number), "width": "1", "height": str(HEIGHT)}
        columns.append(element("rect", element("title", hint), class_="hint", **shape))
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", told, id=f"{name}-desc"),
        element("rect", width=str(hour.unknown), height=str(HEIGHT), class_="unknown"),
        element("path", d=f"M0 {LANE}h{width}M0 {2 * LANE}h{width}", class_="grid"),
        *(element("path", d=path, class_=kind) for kind, path in paths.items()),
        *columns,
        class_="chart",
        viewBox=f"0 0 {width} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-desc",
    )


def _bars(values: Sequence[int], highest: int, lane: int) -> str:
    """One path for a row of bars; there is a small gap above the row."""
    base = (lane + 1) * LANE
    return "".join(
        _bar(number, base, max(_LEAST, value / highest * (LANE - 6)))
        for number, value in enumerate(values)
        if value
    )


def _bar(number: int, base: float, height: float) -> str:
    left = number + (1 - _BAR) / 2
    return f"M{left:.2f} {base:.1f}h{_BAR}v{-height:.1f}h-{_BAR}z"


def _traffic_of(minute: Minute) -> str:
    return ", ".join(f"{minute.prompts[state]} {state.value}" for state in COUNTED)


def _latency_of(minute: Minute) -> str:
    pair = minute.quantiles
    return f"median {took(pair[0])}, 95th percentile {took(pair[1])}" if pair else "none delivered"
