"""What operators have paused. Each function runs in a transaction."""

import sqlite3

from chatgpt_source.errors import JournalUnavailable
from chatgpt_source.journal import Pause
from chatgpt_source.journal.group_commit import RETRY_AFTER
from chatgpt_source.journal.sqlite.schema import VERSION, version_of

_PAUSE = "SELECT what, who, since, resumed FROM pauses"


def pause(db: sqlite3.Connection, what: str, who: str, date: float) -> Pause:
    """Pause something; see `Journal.pause`."""
    _require_ours(db)
    db.execute(
        "INSERT INTO pauses (what, who, since) VALUES (?, ?, ?) ON CONFLICT (what) DO UPDATE"
        " SET who = excluded.who, since = excluded.since, resumed = FALSE WHERE resumed",
        (what, who, date),
    )
    return _pause(db.execute(f"{_PAUSE} WHERE what = ?", (what,)).fetchone())


def resume(db: sqlite3.Connection, what: str, who: str, date: float) -> Pause | None:
    """Resume something; see `Journal.resume`."""
    _require_ours(db)
    found = db.execute(
        "UPDATE pauses SET who = ?, since = ?, resumed = TRUE WHERE what = ? AND NOT resumed"
        " RETURNING what, who, since, resumed",
        (who, date, what),
    ).fetchall()
    return _pause(found[0]) if found else None


def pauses(db: sqlite3.Connection) -> dict[str, Pause]:
    """What was paused or resumed last; see `Journal.pauses`."""
    _require_ours(db)
    return {row[0]: _pause(row) for row in db.execute(_PAUSE)}


def _pause(row: tuple[str, str, float, int]) -> Pause:
    what, who, since, resumed = row
    return Pause(what, who, since, bool(resumed))


def _require_ours(db: sqlite3.Connection) -> None:
    if version_of(db) < VERSION:
        raise JournalUnavailable(
            "it is an earlier release's: let this release's daemon start", retry_after=RETRY_AFTER
        )
