"""Renders the page's section of the history, each part an element with an id. Pure."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from twisted.web.template import Tag, tags

from chatgpt_source.admin import charts
from chatgpt_source.admin.charts import Axis, Plot
from chatgpt_source.admin.markup import element
from chatgpt_source.admin.ranges import RANGES, Column, Past
from chatgpt_source.admin.states import state_icon
from chatgpt_source.admin.view import Query
from chatgpt_source.admin.words import count, money, sentence, short
from chatgpt_source.journal.period import Period
from chatgpt_source.prompt import State

COUNTED = (State.ACCEPTED, State.DELIVERED, State.FAILED)
"""The states whose prompts are counted when they reach them."""
NO_DATA = "no data"
Values = Sequence[float]


def ranges(query: Query) -> Tag:
    """The links to the other ranges."""
    links = []
    for name, each in RANGES.items():
        current = {"aria-current": "true"} if name == query.range.name else {}
        link = tags.a(
            tags.span("The last ", class_="hidden"),
            f"{name.rstrip('hd')} {name[-1]}",
            href=f"{query.link(range=each)}#past-title",
            id=f"range-{name}",
            **{"data-live": "", **current},
        )
        links.append(tags.li(link))
    return tags.ul(*links, id="ranges", class_="choices")


PARTS = ("traffic", "latency", "waiting", "refusals", "tokens", "money", "gaps", "numbers")
"""The ids of the figures and of what belongs to them."""


def section(past: Past) -> Mapping[str, Callable[[], Tag]]:
    """What makes each of `PARTS`; each takes a millisecond or a few."""
    axis = Axis(
        [each.period is not None for each in past.columns],
        past.columns[0].start,
        past.range.column,
        past.ticks,
    )
    figures = (_traffic, _latency, _waiting, _refusals, _tokens, _money, _gaps, _numbers)
    return {name: partial(draw, past, axis) for name, draw in zip(PARTS, figures, strict=True)}


def _gaps(_: Past, axis: Axis) -> Tag:
    """What hatching means, where there is some."""
    told = "Hatched: no data, as no daemon counted then." if not all(axis.known) else ""
    return tags.p(told, id="gaps", class_="readout")


def _traffic(past: Past, axis: Axis) -> Tag:
    rows = {
        state.value: _values(past, lambda it, name=state.value: getattr(it, name))  # type: ignore[misc]
        for state in COUNTED
    }
    legend = [
        (
            tags.span(state_icon(state), sentence(state.value)),
            count(getattr(past.period, state.value)),
        )
        for state in COUNTED
    ]
    return _bars("traffic", "Prompts", legend, past, axis, rows, short, _prompts_of)


def _prompts_of(period: Period) -> str:
    told = ", ".join(f"{count(getattr(period, state.value))} {state.value}" for state in COUNTED)
    cancelled = f", {count(period.cancelled)} cancelled" if period.cancelled else ""
    redriven = f", {count(period.redriven)} redriven" if period.redriven else ""
    return told + cancelled + redriven


def _latency(past: Past, axis: Axis) -> Tag:
    plot = charts.spans([each.quantiles for each in past.columns])
    names = [("median", "Median"), ("p95", "95th percentile")]
    values = charts.quantiles_of(past.total.quantiles)
    legend = [(_key(kind, name), value) for (kind, name), value in zip(names, values, strict=True)]

    def told(column: Column) -> str:
        if column.quantiles is None:
            return "none delivered"
        return "median {}, 95th percentile {}".format(*charts.quantiles_of(column.quantiles))

    words = _told(past, told)
    return _figure("latency", "From accepted to delivered", legend, plot, axis, words, "")


def _waiting(past: Past, axis: Axis) -> Tag:
    values = _values(past, lambda it: it.backlog or 0)
    latest = [each.period for each in past.columns if each.period is not None]
    last = latest[-1].backlog if latest else None
    legend = [(_key("accepted", "At the end"), "–" if last is None else count(last))]

    def told(period: Period) -> str:
        return (
            "not known" if period.backlog is None else f"{count(period.backlog, 'prompt')} waiting"
        )

    rows = {"accepted": values}
    return _bars("waiting", "Backlog", legend, past, axis, rows, short, told, per=False)


def _refusals(past: Past, axis: Axis) -> Tag:
    if not past.reasons:
        return element("div", id="refusals", hidden="hidden")
    legend = [
        (tags.span(_words(reason)), count(number)) for reason, number in past.reasons.most_common()
    ]
    rows = {"refused": _values(past, lambda it: it.refused.total())}

    def told(period: Period) -> str:
        each = (f"{count(n)} {_words(reason)}" for reason, n in period.refused.most_common())
        return ", ".join(each) or "none refused"

    return _bars("refusals", "Refused, by reason", legend, past, axis, rows, short, told)


def _tokens(past: Past, axis: Axis) -> Tag:
    if not (past.period.input_tokens or past.period.output_tokens):
        return element("div", id="tokens", hidden="hidden")
    rows = {
        "input": _values(past, lambda it: it.input_tokens),
        "output": _values(past, lambda it: it.output_tokens),
    }
    legend = [
        (_key("input", "Of prompts"), count(past.period.input_tokens)),
        (_key("output", "Of answers"), count(past.period.output_tokens)),
    ]

    def told(period: Period) -> str:
        of_prompts, of_answers = count(period.input_tokens), count(period.output_tokens)
        return f"{of_prompts} of prompts, {of_answers} of answers"

    return _bars("tokens", "Tokens", legend, past, axis, rows, short, told)


def _money(past: Past, axis: Axis) -> Tag:
    if not past.is_priced:
        return element("div", id="money", hidden="hidden")
    legend = [(_key("input", "In all"), money(past.period.cost))]
    if past.period.unpriced:
        legend.append((tags.span("Answers without a price"), count(past.period.unpriced)))
    rows = {"input": _values(past, lambda it: it.cost)}
    return _bars("money", "Cost", legend, past, axis, rows, money, lambda it: money(it.cost))


def _bars(
    name: str,
    title: str,
    legend: Sequence[tuple[Tag, str]],
    past: Past,
    axis: Axis,
    rows: Mapping[str, Values],
    form: Callable[[float], str],
    told: Callable[[Period], str],
    *,
    per: bool = True,
) -> Tag:
    """A figure with rows of bars on one scale."""
    highest = max(max(values) for values in rows.values())
    plot = charts.bars(rows, highest, form(highest))
    words = _told(past, lambda it: told(it.period) if it.period else "")
    top = f"At most {form(highest)}{f' {past.range.per}' if per else ''}." if highest else ""
    return _figure(name, title, legend, plot, axis, words, top)


def _figure(
    name: str,
    title: str,
    legend: Sequence[tuple[Tag, str]],
    plot: Plot,
    axis: Axis,
    told: Sequence[str],
    top: str,
) -> Tag:
    rows = [tags.li(label, " ", tags.strong(value)) for label, value in legend]
    return tags.div(
        tags.h3(title, id=f"{name}-title"),
        tags.ul(*rows, class_="legend"),
        charts.chart(name, plot, axis, told),
        element("p", top, id=f"{name}-readout", class_="readout", data_top=top),
        id=name,
        class_="figure",
    )


def _key(kind: str, name: str) -> Tag:
    return tags.span(tags.span(class_=f"key {kind}"), name)


def _words(reason: str) -> str:
    return reason.replace("_", " ")


def _values(past: Past, of: Callable[[Period], float]) -> Values:
    return [0 if each.period is None else of(each.period) for each in past.columns]


def _told(past: Past, of: Callable[[Column], str]) -> Sequence[str]:
    """What the columns say in words, each with its time."""
    return [
        f"{label}: {NO_DATA if column.period is None else of(column)}"
        for label, column in zip(past.labels, past.columns, strict=True)
    ]


def _numbers(past: Past, _: Axis) -> Tag:
    """The numbers of all figures as a table, also for screen readers."""
    heads = ["From", *(sentence(state.value) for state in COUNTED), "Refused", "Backlog"]
    heads += ["Median", "95th percentile", "Tokens in", "Tokens out"]
    heads += ["Cost"] if past.is_priced else []
    rows = []
    for number, row in enumerate(past.rows):
        head = tags.th(past.labels[number * past.range.row], scope="row")
        if row.period is None:
            rows.append(tags.tr(head, tags.td(NO_DATA, colspan=str(len(heads) - 1))))
        else:
            cells = _cells(row, row.period, is_priced=past.is_priced)
            rows.append(tags.tr(head, *(tags.td(cell) for cell in cells)))
    numbers = tags.table(
        tags.caption(f"The last {past.range.words}", class_="hidden"),
        tags.thead(tags.tr(*(tags.th(head, scope="col") for head in heads))),
        tags.tbody(*rows),
    )
    return tags.div(numbers, id="numbers")


def _cells(row: Column, period: Period, *, is_priced: bool) -> Sequence[str]:
    return [
        *(count(getattr(period, state.value)) for state in COUNTED),
        count(period.refused.total()),
        "–" if period.backlog is None else count(period.backlog),
        *charts.quantiles_of(row.quantiles),
        count(period.input_tokens),
        count(period.output_tokens),
        *([money(period.cost)] if is_priced else []),
    ]
