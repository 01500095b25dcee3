"""The page's charts as SVG: a gauge, and bars by the minute. Pure.

The style sheet sets the colours.
"""

from collections.abc import Callable, Sequence

from attrs import frozen
from twisted.web.template import Tag, tags

from chatgpt_source.admin.history import Minute, together
from chatgpt_source.admin.markup import element
from chatgpt_source.admin.words import count, took

LANE = 40
"""The height of a row of bars, in units; a minute is one unit wide."""
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


@frozen
class Row:
    """One row of bars.

    Attributes:
        kind: The class that colours it.
        path: The bars, as an SVG path.
    """

    kind: str
    path: str


def traffic(minutes: Sequence[Minute], times: Sequence[str], unknown: int) -> Tag:
    """Accepted, delivered and failed a minute: three rows of bars, on one scale.

    Args:
        minutes: The minutes, the oldest first.
        times: When each began, as text.
        unknown: How many of them were over before the daemon was started.
    """
    highest = max(max(m.accepted, m.delivered, m.failed) for m in minutes)
    rows = [
        Row("accepted", _bars([m.accepted for m in minutes], highest, 0)),
        Row("delivered", _bars([m.delivered for m in minutes], highest, 1)),
        Row("failed", _bars([m.failed for m in minutes], highest, 2)),
    ]
    hour = together(minutes)
    told = (
        f"{count(hour.accepted)} accepted, {count(hour.delivered)} delivered,"
        f" {count(hour.failed)} failed; at most {count(highest)} in a minute."
    )
    hints = _hints(minutes, times, unknown, _traffic_of)
    return _chart("traffic", "Prompts a minute in the last hour", told, rows, hints, unknown)


def latency(minutes: Sequence[Minute], times: Sequence[str], unknown: int) -> Tag:
    """Accepted to delivered: a bar from median to 95th percentile, and a mark at the median.

    Arguments as for `traffic`.
    """
    both = [_quantiles(minute) for minute in minutes]
    highest = max((pair[1] for pair in both if pair), default=0.0)
    height = 3 * LANE
    spans, marks = [], []
    for number, pair in enumerate(both):
        if pair is None:
            continue
        middle, high = (height - value / highest * (height - 2 * _LEAST) for value in pair)
        spans.append(_bar(number, middle + _MEDIAN / 2, max(_LEAST, middle - high)))
        top = min(height - _MEDIAN, middle - _MEDIAN / 2)
        marks.append(_bar(number, top + _MEDIAN, _MEDIAN))
    hour = _quantiles(together(minutes))
    told = (
        f"Half took at most {took(hour[0])}, 95 of 100 at most {took(hour[1])}."
        if hour
        else "Nothing was delivered."
    )
    hints = _hints(minutes, times, unknown, _latency_of)
    rows = [Row("span", "".join(spans)), Row("median", "".join(marks))]
    title = "Time from accepted to delivered in the last hour"
    return _chart("latency", title, told, rows, hints, unknown)


def table(minutes: Sequence[Minute], times: Sequence[str]) -> Tag:
    """The numbers of both charts as a table, also for screen readers."""
    heads = ["From", "Accepted", "Delivered", "Failed", "Median", "95th percentile"]
    rows = []
    for first in range(0, len(minutes), TABLE_STEP):
        stretch = together(minutes[first : first + TABLE_STEP])
        pair = _quantiles(stretch)
        cells = [count(n) for n in (stretch.accepted, stretch.delivered, stretch.failed)]
        cells += [took(value) for value in pair] if pair else ["–", "–"]
        head = tags.th(times[first], scope="row")
        rows.append(tags.tr(head, *(tags.td(cell) for cell in cells)))
    return tags.table(
        tags.caption(f"The last hour, {TABLE_STEP} minutes a row", class_="hidden"),
        tags.thead(tags.tr(*(tags.th(head, scope="col") for head in heads))),
        tags.tbody(*rows),
    )


def hour_latency(minutes: Sequence[Minute]) -> tuple[float, float] | None:
    """The whole hour's median and 95th percentile, in seconds; None if nothing was delivered."""
    return _quantiles(together(minutes))


def highest_p95(minutes: Sequence[Minute]) -> float:
    """The top of the latency chart, in seconds."""
    return max((pair[1] for m in minutes if (pair := _quantiles(m))), default=0.0)


def _chart(
    name: str, title: str, told: str, rows: Sequence[Row], hints: Sequence[str], unknown: int
) -> Tag:
    width, height = len(hints), 3 * LANE
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", told, id=f"{name}-desc"),
        element("rect", width=str(unknown), height=str(height), class_="unknown"),
        element("path", d=f"M0 {LANE}h{width}M0 {2 * LANE}h{width}", class_="grid"),
        *(element("path", d=row.path, class_=row.kind) for row in rows),
        *(_column(number, height, hint) for number, hint in enumerate(hints)),
        class_="chart",
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-desc",
    )


def _column(number: int, height: int, hint: str) -> Tag:
    """A column that shows a minute's numbers when the pointer is on it."""
    shape = {"x": str(number), "width": "1", "height": str(height)}
    return element("rect", element("title", hint), class_="hint", **shape)


def _hints(
    minutes: Sequence[Minute], times: Sequence[str], unknown: int, told: Callable[[Minute], str]
) -> list[str]:
    return [
        f"{at}: {told(minute) if number >= unknown else 'before the start'}"
        for number, (at, minute) in enumerate(zip(times, minutes, strict=True))
    ]


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


def _quantiles(minute: Minute) -> tuple[float, float] | None:
    median, high = minute.latencies.quantile(0.5), minute.latencies.quantile(0.95)
    return None if median is None or high is None else (median, high)


def _traffic_of(minute: Minute) -> str:
    return f"{minute.accepted} accepted, {minute.delivered} delivered, {minute.failed} failed"


def _latency_of(minute: Minute) -> str:
    pair = _quantiles(minute)
    return f"median {took(pair[0])}, 95th percentile {took(pair[1])}" if pair else "none delivered"
