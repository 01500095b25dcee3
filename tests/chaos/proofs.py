"""What must hold after a run; each proof returns what does not."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from attrs import frozen

from chatgpt_source.journal.sqlite.texts import Part
from tests.chaos.world import CONCURRENCY, Sent, World, mark_in

UNIT_IS_SPENT = (
    "the model's answer can't be read",
    "the answer is empty",
    "the model refused",
    "the model did not answer",
)
READ_LATE = 0.2
"""Seconds: less than any start takes."""
UNEXPECTED = ("Traceback", "nobody foresaw", "withheld", "Unhandled")
ENDS = {"term": {0, -15}, "term twice": {0, -15, 143}, "term, kill": {0, -15, -9}}


@frozen
class Row:
    """A prompt as the journal has it."""

    id: str
    state: str
    day: str
    answered: float | None
    billed: int
    error: str | None
    text: str | None


@frozen
class Files:
    """What a stopped daemon left on the disk."""

    rows: dict[str, Row]
    used: dict[str, int]
    counts: dict[str, int]
    content: dict[str, bytes]

    @classmethod
    def of(cls, world: World) -> "Files":
        """Read them; the bytes first, as SQLite may tidy up."""
        content = {
            path.name: path.read_bytes()
            for path in world.disk.path.iterdir()
            if path.name.startswith("journal.sqlite")
        }
        with closing(sqlite3.connect(world.journal)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            rows = db.execute(
                f"SELECT id, state, day, answered, billed, error, {Part.PROMPT.whole}"
                " FROM prompts LEFT JOIN texts USING (seq)"
            )
            return cls(
                {row[0]: Row(*row) for row in rows},
                dict(db.execute("SELECT day, used FROM days").fetchall()),
                dict(db.execute("SELECT state, n FROM counts").fetchall()),
                content,
            )


def all_of(world: World, records: dict[str, Any], files: Files) -> list[str]:
    """What does not hold, in words.

    Args:
        world: What happened.
        records: What GET /prompts/<id> said of each 202, before the last stop.
        files: What is on the disk after it.
    """
    return [
        *_kept(world, records, files),
        *_one_content(world),
        *_asked_no_more_once_answered(world),
        *_counted(world, files),
        *_admitted_once(world, files),
        *_answered_rightly(world, files),
        *_delivered_once(world),
        *_nothing_unexpected(world),
        *_forgotten(world, files),
    ]


def _kept(world: World, records: dict[str, Any], files: Files) -> Iterator[str]:
    arrived = {event["id"] for event in world.target.events}
    for id_, record in records.items():
        state = record and record["state"]
        if state not in {"delivered", "failed", "cancelled"}:
            yield f"{id_} got a 202 and is {state}"
        elif id_ not in files.rows or files.rows[id_].state != state:
            yield f"{id_} is {state}, but not in the journal"
    for row in files.rows.values():
        if row.state == "delivered" and row.id not in arrived:
            yield f"{row.id} is delivered, but never arrived"
        if row.state == "failed" and not row.error:
            yield f"{row.id} is failed without a reason"
        if row.state == "failed" and row.text is None:
            yield f"{row.id} is failed without its text"
        if row.state == "cancelled" and (row.id in arrived or row.text is not None):
            yield f"{row.id} is cancelled, and its text is somewhere"
    for id_ in arrived - set(files.rows):
        yield f"{id_} arrived, but is not in the journal"


def _one_content(world: World) -> Iterator[str]:
    bodies = defaultdict(set)
    for request in world.target.requests:
        if isinstance(request.document, dict):
            bodies[request.document["id"]].add(request.body)
    yield from (f"{id_} has {len(each)} contents" for id_, each in bodies.items() if len(each) > 1)


def _asked_no_more_once_answered(world: World) -> Iterator[str]:
    first: dict[str, float] = {}
    for request in world.target.requests:
        if isinstance(request.document, dict):
            first.setdefault(mark_in(request.document["data"]["content"]), request.at)
    for ask in world.openai.asks:
        mark = mark_in(ask.document["messages"][-1]["content"])
        if ask.at > first.get(mark, ask.at):
            yield f"{mark} was asked again after it was answered"


def _counted(world: World, files: Files) -> Iterator[str]:
    states = Counter(row.state for row in files.rows.values())
    if {state: n for state, n in files.counts.items() if n} != states:
        yield f"the journal counts {files.counts}, but has {dict(states)}"
    spent = Counter(row.day for row in files.rows.values() if _spent(row))
    for day in spent.keys() | files.used.keys():
        used = files.used.get(day, 0)
        if used != spent[day]:
            yield f"{day} has used {used} units, but {spent[day]} were spent"
        if used > world.limit:
            yield f"{day} has used {used} of {world.limit} units"
    if len(files.used) == 1 and spent.total() != world.limit:
        yield f"{spent.total()} of {world.limit} units were spent when a 429 came"


def _spent(row: Row) -> bool:
    if row.state == "cancelled":
        return bool(row.billed)
    if row.state != "failed" or row.answered is not None or row.billed:
        return True
    return (row.error or "").startswith(UNIT_IS_SPENT)


def _admitted_once(world: World, files: Files) -> Iterator[str]:
    ids = defaultdict(set)
    for event in world.target.events:
        ids[mark_in(event["data"]["content"])].add(event["id"])
    for row in files.rows.values():
        if row.text is not None:
            ids[mark_in(row.text)].add(row.id)
    # Of a cancelled one, nothing is left but its record.
    for prompt in (each for each in world.sent if _states(each, files) != {"cancelled"}):
        found, told = ids.pop(prompt.mark, set()), set(prompt.ids)
        if len(found | told) > 1:
            yield f"{prompt} has the ids {found | told}"
        if not told <= found:
            yield f"{prompt} got a 202 and left no trace"
        if found and not told and not prompt.unanswered:
            yield f"{prompt} was admitted, and nobody said so"
        if not prompt.key and (len(prompt.ids) > 1 or (prompt.refusals and found)):
            yield f"{prompt} was sent once, and has {found}"
        if prompt.broken or not {*prompt.refusals} <= {429, 503}:
            yield f"{prompt} was refused"
    yield from (f"nobody sent {mark}" for mark in ids)


def _states(prompt: Sent, files: Files) -> set[str]:
    return {files.rows[id_].state for id_ in prompt.ids if id_ in files.rows}


def _answered_rightly(world: World, files: Files) -> Iterator[str]:
    for prompt in world.sent:
        states = _states(prompt, files)
        if 204 in prompt.cancelled and states != {"cancelled"}:
            yield f"{prompt} was cancelled, and is {states}"
        if not {*prompt.cancelled} <= {204, 409, 503}:
            yield f"{prompt} was not cancelled"
        yield from (f"{prompt}: {wrong}" for wrong in prompt.wrong)


def _delivered_once(world: World) -> Iterator[str]:
    """A second delivery needs an end of the daemon between it and the first."""
    last: dict[str, float] = {}
    blamed: Counter[int] = Counter()
    for taken in sorted(world.target.taken, key=lambda taken: taken.at):
        before = last.get(taken.id)
        last[taken.id] = taken.at
        if before is None:
            continue
        # A dead process' last requests may be read a little after its end.
        ends = (n for n, cut in enumerate(world.cuts) if before <= cut.ended + READ_LATE)
        cut = next(ends, None)
        if cut is None or taken.at < world.cuts[cut].began:
            yield f"{taken.id} was delivered again without a crash"
        else:
            blamed[cut] += 1
    for cut, count in blamed.items():
        if count > CONCURRENCY:
            yield f"{count} were delivered again after {world.cuts[cut]}"


def _nothing_unexpected(world: World) -> Iterator[str]:
    text = world.daemon.text
    for word in UNEXPECTED:
        if word in text:
            at = text.index(word)
            yield f"the daemon said: {text[max(0, at - 300) : at + 2000]}"
    yield from world.openai.complaints + world.target.complaints
    for fault, status in world.ends:
        if status not in ENDS.get(fault, {0, -15} if fault == "the last stop" else {-9}):
            yield f"{fault} ended the daemon with {status}"


def _forgotten(world: World, files: Files) -> Iterator[str]:
    kept = {mark_in(row.text) for row in files.rows.values() if row.text is not None}
    for row in files.rows.values():
        if row.state == "delivered" and row.text is not None:
            yield f"{row.id} is delivered, and its text is there"
    for name, content in files.content.items():
        for prompt in world.sent:
            if prompt.mark not in kept and prompt.mark.encode() in content:
                yield f"{prompt.mark} can be read in {name}"
        if b"KEY-MARK" in content:
            yield f"a key can be read in {name}"
