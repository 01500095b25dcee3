"""Owners and their leases, and what a start finds. Each function runs in a transaction."""

from collections.abc import Mapping, Sequence

from chatgpt_source.http.client.retry_after import LONGEST_RETRY_AFTER
from chatgpt_source.journal import Recovered
from chatgpt_source.journal.postgres import pauses
from chatgpt_source.journal.postgres.peers import recall
from chatgpt_source.journal.postgres.session import Connection, Session, Steps
from chatgpt_source.prompt import MODEL

LEASE = 20.0
"""Seconds after its last renewal in which an owner's claims are its own."""
PATIENCE = 3.0
"""Seconds for which who is not heard of may keep in a transaction what others wait for: the day's
row, or, once its lease is over, an owner's."""
FIRST_POLLS = 10.0
"""Seconds from a start in which all submitted prompts are due for a poll."""
STARTS = 0x63677074
"""The advisory lock under which one process at a time begins a run."""
FIRST = 1
"""The number of an owner's first group, this one."""
UNTIL = f"clock_timestamp() + interval '{LEASE} s'"
"""The end of a lease that is renewed now; the database's clock alone decides."""
UP_SINCE = "pg_postmaster_start_time()"
"""When the database came up."""
REPLAYED = "pg_last_xact_replay_timestamp()"
"""The last transaction of another server that this one was the standby of; else NULL."""


def _no_later(column: str) -> str:
    """SQL that makes an instant no later than now; `least` would make one of a NULL."""
    return f"{column} = CASE WHEN {column} > %(now)s THEN %(now)s ELSE {column} END"


_CLAMP = f"{_no_later('since')}, {_no_later('held')}"


def recover(
    db: Session,
    now: float,
    keep: float,
    everyday_limit: int,
    timezone: str,
    peers: Mapping[str, str],
) -> Steps[Recovered]:
    """Begin a run as a new owner; see `Journal.recover`. One does at a time."""
    yield db.execute("SELECT pg_advisory_xact_lock(%s)", (STARTS,))
    yield from sweep(db, now, _had_time())
    (row,) = yield db.execute(
        "SELECT count(*) > 0 AS others, coalesce(bool_or(until < clock_timestamp()), FALSE)"
        " AS spared FROM owners WHERE NOT ended"
    )
    if row["spared"]:
        db.sweep_after = now + LEASE
    yield from _correct(db, now, keep)
    others = row["others"]
    if not others:
        yield from _begin_alone(db, now)
    (row,) = yield db.execute(
        f"INSERT INTO owners (until, number) VALUES ({UNTIL}, {FIRST}) RETURNING id"
    )
    db.owner = row["id"]
    terms = yield db.execute("SELECT everyday_limit, timezone FROM terms")
    own = {"everyday_limit": everyday_limit, "timezone": timezone}
    db.differs = others and terms != [own]
    yield db.execute(
        "INSERT INTO terms VALUES (1, %s, %s) ON CONFLICT (id) DO UPDATE"
        " SET (everyday_limit, timezone) = ROW (EXCLUDED.everyday_limit, EXCLUDED.timezone)",
        (everyday_limit, timezone),
    )
    recalled = yield from recall(db, peers, now)
    found = yield db.execute(
        "SELECT destination, bool_or(error IS NOT NULL) AS failing FROM outbox"
        " WHERE owner IS NULL GROUP BY destination ORDER BY destination"
    )
    (model,) = yield db.execute(
        "SELECT EXISTS (SELECT 1 FROM prompts WHERE state = 'accepted' AND error IS NOT NULL)"
        " AS failing"
    )
    failing = [MODEL] if model["failing"] else []
    failing += [each["destination"] for each in found if each["failing"]]
    paused = yield from pauses.pauses(db)
    return Recovered(recalled, failing, [each["destination"] for each in found], paused)


def is_any_over(db: Session) -> Steps[bool]:
    """Whether another owner's lease is over, and has not been ended."""
    (row,) = yield db.execute(
        "SELECT EXISTS (SELECT 1 FROM owners WHERE NOT ended AND until < clock_timestamp()"
        " AND id IS DISTINCT FROM %s) AS over",
        (db.owner,),
    )
    return bool(row["over"])


def _had_time() -> str:
    """SQL: whether an owner has had a lease's time to renew it since the database came up.

    After a restart of the server, or the promotion of its standby, all leases may be over.
    `-infinity` is the end of one that was given up.
    """
    lease = f"interval '{LEASE} s'"
    return (
        f"(until = '-infinity' OR {UP_SINCE} < clock_timestamp() - {lease}"
        f" AND coalesce({REPLAYED} < until - {lease}, TRUE))"
    )


def sweep(db: Session, now: float, which: str = "TRUE") -> Steps[int]:
    """End the leases that are over, and the claims under them; returns how many.

    `which` is SQL that says which of them.
    """
    rows = yield db.execute(
        "WITH over AS (SELECT id FROM owners WHERE NOT ended AND until < clock_timestamp()"
        f" AND {which} AND id IS DISTINCT FROM %s ORDER BY id FOR UPDATE SKIP LOCKED)"
        " UPDATE owners SET ended = TRUE FROM over WHERE owners.id = over.id RETURNING owners.id",
        (db.owner,),
    )
    if rows:
        yield from _release(db, [row["id"] for row in rows], now)
    yield db.execute("DELETE FROM owners WHERE ended AND until < now() - interval '1 day'")
    yield from _cut_off(db, which)
    return len(rows)


def _cut_off(db: Session, which: str) -> Steps[None]:
    """End the sessions whose transactions keep the leases that are over from being ended.

    They are of processes that stand still, or machines that are lost, between two statements of a
    pipeline: for the server such a session is not idle, so that no timeout ends it.
    """
    yield db.execute(
        f"{_end_holders('owners')} AND NOT ended"
        f" AND until < clock_timestamp() - interval '{PATIENCE} s' AND {which}"
    )


def free_days(connection: Connection) -> bool:
    """End the sessions that keep a day's row while nothing comes from their processes.

    As above, no timeout of the server does. Returns whether there were any.
    """
    ended = connection.execute(
        f"{_end_holders('days')} AND wait_event = 'ClientRead'"
        f" AND state_change < clock_timestamp() - interval '{PATIENCE} s'"
    )
    return bool(ended.fetchall())


def _end_holders(table: str) -> str:
    """SQL that ends other sessions of this user whose transactions keep rows of a table."""
    return (
        f"SELECT pg_terminate_backend(pid) FROM {table}"
        f" JOIN pg_locks ON transactionid = {table}.xmax JOIN pg_stat_activity USING (pid)"
        " WHERE mode = 'ExclusiveLock' AND usename = current_user AND pid <> pg_backend_pid()"
    )


def leave(db: Session, now: float) -> Steps[None]:
    """Give back this owner's claims at once, and end its lease."""
    owner, db.owner = db.owner, None
    yield db.execute("UPDATE owners SET ended = TRUE WHERE id = %s", (owner,))
    yield from _release(db, [owner or 0], now)


def _release(db: Session, owners: Sequence[int], now: float) -> Steps[None]:
    """Make due what some owners had claimed, in its old order."""
    values = {"owners": list(owners), "now": db.at(now)}
    yield db.execute(
        f"UPDATE prompts SET owner = NULL, {_no_later('due')}, {_CLAMP},"
        " billed = billed OR state = 'accepted'"
        " WHERE owner = ANY (%(owners)s) AND state IN ('accepted', 'submitted')",
        values,
    )
    yield db.execute(
        f"UPDATE outbox SET owner = NULL, {_no_later('due')}, {_CLAMP}"
        " WHERE owner = ANY (%(owners)s)",
        values,
    )
    yield db.execute(
        f"UPDATE leftovers SET owner = NULL, {_no_later('due')}, {_no_later('since')}"
        " WHERE owner = ANY (%(owners)s)",
        values,
    )
    yield db.execute("UPDATE batches SET owner = NULL WHERE owner = ANY (%(owners)s)", values)


def _correct(db: Session, now: float, keep: float) -> Steps[None]:
    """Correct instants in the future, as the database's clock may have been set back."""
    at = db.at(now)
    values = {"now": at, "latest": at + LONGEST_RETRY_AFTER, "kept": at + keep}
    for table, which in (
        ("prompts", "state = 'accepted' AND due > coalesce(not_before, 0) AND"),
        ("prompts", "state = 'submitted' AND"),
        ("outbox", ""),
    ):
        yield db.execute(
            f"UPDATE {table} SET due = CASE WHEN due > %(latest)s THEN %(now)s ELSE due END,"
            f" {_CLAMP} WHERE {which} owner IS NULL AND due > %(now)s"
            " AND (due > %(latest)s OR since > %(now)s OR held > %(now)s)",
            values,
        )
    yield db.execute("UPDATE prompts SET kept_until = %(kept)s WHERE kept_until > %(kept)s", values)


def _begin_alone(db: Session, now: float) -> Steps[None]:
    """What the first of all owners finds: nobody waits, and polls say how it is."""
    at = db.at(now)
    yield db.execute(
        "UPDATE prompts SET due = %(at)s WHERE state = 'submitted' AND owner IS NULL"
        " AND due > %(at)s",
        {"at": at + FIRST_POLLS},
    )
    yield db.execute(f"UPDATE leftovers SET due = %(now)s, {_no_later('since')}", {"now": at})
    yield db.execute("UPDATE prompts SET needed_until = NULL WHERE needed_until IS NOT NULL")
