"""Renders the page's section about batches. Pure."""

from collections.abc import Iterator
from zoneinfo import ZoneInfo

from twisted.web.template import Flattenable, Tag, tags

from chatgpt_source.admin.markup import element
from chatgpt_source.admin.tiers import SeenBatch, SeenTiers
from chatgpt_source.admin.words import age, ago, count, moment, sentence, with_code
from chatgpt_source.journal import Phase
from chatgpt_source.prompt import Tier
from chatgpt_source.quota import clock_time

TITLE = "batches-title"
MOST = 25
"""Batches that the table has."""
_MEANINGS = {
    Phase.GATHERING: "taking prompts",
    Phase.UPLOADING: "its file is sent",
    Phase.SUBMITTING: "being submitted",
    Phase.SUBMITTED: "with the provider",
    Phase.CANCELLING: "being cancelled",
    Phase.COLLECTING: "ended, results are read",
}
_HEADS = ("Batch", "State", "Prompts", "Created", "First deadline", "Last trouble", "Next try")


def section(tiers: SeenTiers, now: float, zone: ZoneInfo) -> Tag:
    """The section; empty and hidden where there are no batches."""
    title = tags.h2("Batches", id=TITLE, tabindex="-1")
    if not tiers.is_shown:
        return element("section", title, id="batches", hidden="hidden")
    return element(
        "section",
        title,
        tags.p(*_lead(tiers, now, zone), class_="lead"),
        _table(tiers, now, zone) if tiers.batches else "",
        id="batches",
        class_="card wide",
        aria_labelledby=TITLE,
    )


def _lead(tiers: SeenTiers, now: float, zone: ZoneInfo) -> Iterator[Flattenable]:
    """What waits and is under way, and what is not well."""
    if tiers.at is None:
        yield "The journal can't be read now."
        return
    waiting, within = tiers.waiting[Tier.BATCH], sum(each.prompts for each in tiers.batches)
    yield f"{count(waiting, 'prompt')} to be put into a batch; {count(within)} in"
    yield f" {count(len(tiers.batches), 'batch', 'batches')}."
    if flex := tiers.waiting[Tier.FLEX]:
        yield f" {count(flex, 'prompt')} waiting for the flex tier."
    if tiers.trouble is not None:
        yield from with_code(f" {sentence(tiers.trouble)}")
        if tiers.next_try is not None:
            yield "; the next try is "
            yield _due(tiers.next_try, now, zone)
        yield "."
    if len(tiers.batches) > MOST:
        yield f" The {MOST} oldest are shown."
    if tiers.is_old:
        yield " As of "
        yield moment(tiers.at, zone, clock_time(tiers.at, now, zone))
        yield "."


def _table(tiers: SeenTiers, now: float, zone: ZoneInfo) -> Tag:
    return element(
        "div",
        tags.table(role="table", class_="cards")(
            tags.caption("Batches, the oldest first", class_="hidden"),
            tags.thead(tags.tr(*(tags.th(head, scope="col") for head in _HEADS))),
            tags.tbody(role="rowgroup")(*(_row(each, now, zone) for each in tiers.batches[:MOST])),
        ),
        class_="scroll",
        id="batches-scroll",
        role="region",
        aria_label="Batches as a table",
        tabindex="0",
    )


def _due(instant: float | None, now: float, zone: ZoneInfo) -> Flattenable:
    """When a call is due."""
    if instant is None:
        return ""
    return moment(instant, zone, f"in {age(instant - now)}" if instant - now >= 1 else "now")


def _row(seen: SeenBatch, now: float, zone: ZoneInfo) -> Tag:
    def date(instant: float | None) -> Flattenable:
        return "" if instant is None else moment(instant, zone, clock_time(instant, now, zone))

    batch = seen.batch
    cells: list[Flattenable] = [
        tags.code(batch.remote or f"no. {batch.id}", title=f"key {batch.key}"),
        tags.span(tags.strong(batch.phase.value), f" ({_MEANINGS[batch.phase]})"),
        count(seen.prompts),
        moment(batch.created, zone, ago(now - batch.created)),
        date(seen.deadline),
        tags.span(*with_code(sentence(seen.trouble))) if seen.trouble else "",
        _due(seen.next_try, now, zone),
    ]
    # The roles are still right when a narrow window shows the rows as cards.
    labelled = zip(_HEADS, cells, strict=True)
    tds = (element("td", cell, role="cell", data_label=head) for head, cell in labelled)
    return element("tr", *tds, id=f"batch-{batch.id}", role="row")
