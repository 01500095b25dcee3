"""The page's charts as SVG: a gauge, and what happened column by column. Pure.

A chart has a scale at its left and times below; its bars fill its width, whatever that is. The
style sheet sets the colours and the height. The script shows the value of one column: `data-told`
has the words for each.
"""

import json
from collections.abc import Mapping, Sequence
from math import log

from attrs import frozen
from twisted.web.template import Tag, tags

from chatgpt_source.admin.markup import element
from chatgpt_source.admin.words import took

HEIGHT = 100.0
"""The height of a chart, in units; a column is one unit wide."""
_GAP = 8.0
"""Units above each row of bars."""
_BAR = 0.72
_LEAST = 1.5
"""The least height of a bar that is not empty."""
_MEDIAN = 2.5
_DURATIONS = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 604800)
_DURATION_WORDS = (
    *("1 ms", "10 ms", "0.1 s", "1 s", "10 s", "1 min", "10 min", "1 h", "6 h", "1 d", "7 d"),
)
_ROOM = 0.86
"""Where the last label below a chart may begin, so that it ends before the chart does."""
_FEW = 6
"""Lines of a scale at the most."""


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
class Plot:
    """What is drawn.

    Attributes:
        paths: The shapes, by the classes that colour them.
        lines: The lines of the scale: how far from the top, 0 to 1, and what they stand for.
    """

    paths: Mapping[str, str]
    lines: Sequence[tuple[float, str]]


@frozen
class Axis:
    """What the charts of a range share.

    Attributes:
        known: Of which columns something is known.
        first: When the first column begins.
        seconds: How long each is.
        ticks: The labels, by the numbers of their columns.
    """

    known: Sequence[bool]
    first: int
    seconds: int
    ticks: Mapping[int, str]


def bars(rows: Mapping[str, Sequence[float]], highest: float, told: str) -> Plot:
    """Rows of bars, one above the other, on one scale.

    Args:
        rows: The values of each row, by the class that colours it.
        highest: The value of the highest bar.
        told: That value, in words.
    """
    lane = HEIGHT / len(rows)
    paths, lines = {}, []
    for number, (kind, values) in enumerate(rows.items()):
        base = (number + 1) * lane
        paths[kind] = "".join(
            _bar(at, base, max(_LEAST, value / highest * (lane - _GAP)))
            for at, value in enumerate(values)
            if value
        )
        if highest:
            lines.append(((base - lane + _GAP) / HEIGHT, told))
    return Plot(paths, [*lines, (1.0, "0")])


def spans(pairs: Sequence[tuple[float, float] | None]) -> Plot:
    """Bars from one duration to a longer one, and a mark at the shorter, on a logarithmic scale."""
    known = [pair for pair in pairs if pair is not None]
    if not known:
        return Plot({"span": "", "median": ""}, [(1.0, _DURATION_WORDS[1])])
    low, high = _scale(min(pair[0] for pair in known), max(pair[1] for pair in known))
    least, most = _DURATIONS[low], _DURATIONS[high]

    def depth(seconds: float) -> float:
        share = log(max(seconds, least) / least) / log(most / least)
        return 1 - min(1.0, share) * (1 - _GAP / HEIGHT)

    bodies, marks = [], []
    for number, pair in enumerate(pairs):
        if pair is not None:
            middle, top = (depth(value) * HEIGHT for value in pair)
            bodies.append(_bar(number, middle, max(_LEAST, middle - top)))
            marks.append(_bar(number, min(HEIGHT, middle + _MEDIAN / 2), _MEDIAN))
    step = -(-(high - low + 1) // _FEW)
    lines = [
        (depth(_DURATIONS[each]), _DURATION_WORDS[each]) for each in range(high, low - 1, -step)
    ]
    return Plot({"span": "".join(bodies), "median": "".join(marks)}, lines)


def _scale(least: float, most: float) -> tuple[int, int]:
    """The first and the last of `_DURATIONS` on a scale."""
    last = len(_DURATIONS) - 1
    low = max((n for n, each in enumerate(_DURATIONS) if each <= least), default=0)
    high = min((n for n, each in enumerate(_DURATIONS) if each >= most), default=last)
    low = min(low, last - 1)
    return low, max(high, low + 1)


def chart(name: str, plot: Plot, axis: Axis, told: Sequence[str]) -> Tag:
    """A chart that can be walked through column by column.

    Args:
        name: Begins the ids of its parts; `<name>-title` must be its title's.
        plot: What is drawn.
        axis: The columns.
        told: The values of each column in words.
    """
    width = len(axis.known)
    last = width - 1
    canvas = element(
        "div",
        element(
            "svg",
            *_unknown(name, axis),
            *(_line("0", "100%", _percent(depth), _percent(depth)) for depth, _ in plot.lines),
            *(_line(_place(at, width), _place(at, width), "0", "100%") for at in axis.ticks),
            element(
                "svg",
                *(element("path", d=path, class_=kind) for kind, path in plot.paths.items()),
                viewBox=f"0 0 {width} {HEIGHT:.0f}",
                preserveAspectRatio="none",
            ),
            element("rect", x="0", width="0", height="100%", class_="cursor"),
            class_="chart",
            aria_hidden="true",
        ),
        id=f"{name}-canvas",
        class_="canvas",
        role="slider",
        tabindex="0",
        aria_labelledby=f"{name}-title",
        aria_orientation="horizontal",
        aria_valuemin="0",
        aria_valuemax=str(last),
        aria_valuenow=str(last),
        aria_valuetext=told[last],
        data_first=str(axis.first),
        data_seconds=str(axis.seconds),
        data_told=json.dumps(list(told), ensure_ascii=False, separators=(",", ":")),
    )
    scale = [
        _text(label, "100%", _percent(depth), "end", "scale-label") for depth, label in plot.lines
    ]
    ticks = [
        _text(label, _place(at, width), "1.1em", "start", "tick")
        for at, label in axis.ticks.items()
        if at < _ROOM * width
    ]
    return tags.div(
        element("svg", *scale, class_="scale", aria_hidden="true"),
        canvas,
        element("svg", *ticks, class_="ticks", aria_hidden="true"),
        class_="plot",
    )


def _unknown(name: str, axis: Axis) -> Sequence[Tag]:
    """Hatched where nothing is known."""
    runs: list[list[int]] = []
    for number, known in enumerate(axis.known):
        if known:
            continue
        if runs and runs[-1][1] == number:
            runs[-1][1] += 1
        else:
            runs.append([number, number + 1])
    if not runs:
        return []
    width = len(axis.known)
    hatch = element(
        "pattern",
        element("path", d="M0 8L8 0M-2 2L2 -2M6 10L10 6"),
        id=f"{name}-hatch",
        width="8",
        height="8",
        patternUnits="userSpaceOnUse",
    )
    return [
        element("defs", hatch),
        *(
            element(
                "rect",
                x=_place(first, width),
                width=_place(end - first, width),
                height="100%",
                fill=f"url(#{name}-hatch)",
                class_="unknown",
            )
            for first, end in runs
        ),
    ]


def _bar(number: int, base: float, height: float) -> str:
    left = number + (1 - _BAR) / 2
    return f"M{left:.2f} {base:.1f}h{_BAR}v{-height:.1f}h-{_BAR}z"


def _line(left: str, right: str, top: str, bottom: str) -> Tag:
    return element("line", x1=left, x2=right, y1=top, y2=bottom, class_="grid")


def _text(label: str, left: str, top: str, anchor: str, kind: str) -> Tag:
    return element("text", label, x=left, y=top, text_anchor=anchor, class_=kind)


def _place(number: float, width: int) -> str:
    return _percent(number / width)


def _percent(share: float) -> str:
    return f"{share * 100:.2f}%"


def quantiles_of(pair: tuple[float, float] | None) -> list[str]:
    """The median and 95th percentile as text."""
    return [took(value) for value in pair or ()] or ["–", "–"]
