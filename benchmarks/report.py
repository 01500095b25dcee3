"""Writes docs/benchmarks.md and its charts, for light and dark pages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

THEMES = {"light": ("#1f2328", "#0969da", "#9a6700"), "dark": ("#e6edf3", "#58a6ff", "#d29922")}
"""The colours of the text, the daemon and the rival."""

PICTURE = """<picture>
<source media="(prefers-color-scheme: dark)" srcset="benchmarks-dark.svg">
<img alt="CPU an event of the daemon and of each rival, in ms; the table has the figures"
 src="benchmarks-light.svg">
</picture>"""


def write(
    out: Path,
    machine: str,
    command: str,
    compared: Sequence[Any],
    alone: Sequence[tuple[str, str]],
) -> None:
    """Write the page and its charts into a folder."""
    for theme, colours in THEMES.items():
        _draw(out / f"benchmarks-{theme}.svg", compared, *colours)
    busy = max(max(each.daemon.peers_busy, each.other.peers_busy) for each in compared)
    page = (
        Path(__file__)
        .with_name("page.md")
        .read_text(encoding="utf-8")
        .format(
            busy=f"{busy:.0%}",
            machine=machine,
            command=command,
            picture=PICTURE,
            compared="\n".join(map(_row, compared)),
            alone="\n".join(f"| {name} | {figure} |" for name, figure in alone),
        )
    )
    (out / "benchmarks.md").write_text(page, encoding="utf-8")


def _row(one: Any) -> str:
    sides = (
        f"{each.cpu_ms:.2f} ms, {each.per_second:.0f}/s, 202 p50 {each.p50_ms:.1f} p99"
        f" {each.p99_ms:.1f} ms, {each.memory_mib:.0f} MiB"
        for each in (one.daemon, one.other)
    )
    cells = (f"{one.calls:,}", f"{one.latency * 1e3:.0f} ms", one.rival, str(one.cpu), *sides)
    return f"| {' | '.join(cells)} |"


def _draw(path: Path, compared: Sequence[Any], text: str, daemon: str, rival: str) -> None:
    """Draw a pair of bars a comparison."""
    places = range(len(compared))
    figure, axes = plt.subplots(figsize=(8, 0.8 * len(compared) + 1))
    for offset, side, colour, label in (
        (-0.2, "daemon", daemon, "chatgpt-source"),
        (0.2, "other", rival, "rival"),
    ):
        values = [getattr(each, side).cpu_ms for each in compared]
        bars = axes.barh([place + offset for place in places], values, 0.36, color=colour)
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, color=text)
        bars.set_label(label)
    names = [
        f"{each.rival}, {each.calls:,} under way, {each.latency * 1e3:.0f} ms" for each in compared
    ]
    axes.set_yticks(list(places), names, color=text)
    axes.invert_yaxis()
    axes.set_xlabel("ms of CPU an event", color=text)
    axes.tick_params(colors=text)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(text)
    axes.legend(frameon=False, labelcolor=text)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)
