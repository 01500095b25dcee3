"""What operators have paused. Each function runs in a transaction."""

from chatgpt_source.journal import Pause
from chatgpt_source.journal.postgres.session import Row, Session, Steps


def pause(db: Session, what: str, who: str, date: float) -> Steps[Pause]:
    """Pause something; see `Journal.pause`."""
    db.execute(
        "INSERT INTO pauses (what, who, since) VALUES (%s, %s, %s) ON CONFLICT (what) DO UPDATE"
        " SET who = excluded.who, since = excluded.since, resumed = FALSE WHERE pauses.resumed",
        (what, who, date),
    )
    (row,) = yield db.execute(
        "SELECT what, who, since, resumed FROM pauses WHERE what = %s", (what,)
    )
    return _pause(row)


def resume(db: Session, what: str, who: str, date: float) -> Steps[Pause | None]:
    """Resume something; see `Journal.resume`."""
    rows = yield db.execute(
        "UPDATE pauses SET who = %s, since = %s, resumed = TRUE WHERE what = %s AND NOT resumed"
        " RETURNING what, who, since, resumed",
        (who, date, what),
    )
    return _pause(rows[0]) if rows else None


def pauses(db: Session) -> Steps[dict[str, Pause]]:
    """What was paused or resumed last; see `Journal.pauses`."""
    rows = yield db.execute("SELECT what, who, since, resumed FROM pauses ORDER BY what")
    return {row["what"]: _pause(row) for row in rows}


def _pause(row: Row) -> Pause:
    return Pause(row["what"], row["who"], row["since"], row["resumed"])
