"""The PostgreSQL journal's tables, as scripts; created and upgraded under an advisory lock.

`tables.sql` creates this version's tables; `upgrade_<n>.sql` upgrades version n to the next, while
daemons that know version n go on.
"""

from importlib.resources import files
from typing import Any

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.postgres.session import Connection

VERSION = 2
LOCK = 0x63677073
"""The advisory lock under which one process at a time creates or upgrades the tables."""

AT_ONCE = 0.0
"""The `due` of a redriven prompt: earlier than any clock."""
NOT_YET = 1e18
"""The `since` of a redriven prompt: its time starts at the next claim."""
REASON = "left(error, strpos(error || ': ', ': ') - 1)"
"""SQL: the reason of a failed prompt without advice and details, as the index of them has it."""

_HAVE_ALL_TEXTS = {"UTF8", "SQL_ASCII"}
"""The encodings of databases that have what callers send as it is."""


def version(connection: Connection) -> int | None:
    """The version of the tables; None if there are none.

    Raises:
        JournalError: If they are another program's, or a newer release's.
    """
    found = _row(
        connection,
        "SELECT to_regclass('prompts') IS NOT NULL AS made"
        ", to_regclass('schema') IS NOT NULL AS ours",
    )
    if not found["made"] and not found["ours"]:
        return None
    if not (found["made"] and found["ours"]):
        raise JournalError("its database has another program's tables: use one of its own")
    known = int(_row(connection, "SELECT version FROM schema")["version"])
    if known > VERSION:
        raise JournalError(
            f"it was written by a newer chatgpt-source (schema {known}, this one knows"
            f" {VERSION}): upgrade"
        )
    return known


def require_whole(connection: Connection) -> None:
    """Require that no copy of another journal is incomplete; there are tables.

    Raises:
        JournalError: If one is.
    """
    if _row(connection, "SELECT EXISTS (SELECT 1 FROM copy WHERE whole IS NULL) AS part")["part"]:
        raise JournalError(
            "a copy to it has not ended: finish it by `chatgpt-source-journal copy`, or drop its"
            " tables"
        )


def require_fit(connection: Connection) -> None:
    """Check that tables may be created, and can have any text.

    Raises:
        JournalError: If not.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in _HAVE_ALL_TEXTS:
        raise JournalError(
            f"its database has {encoding} as its encoding: create it with ENCODING 'UTF8'"
            " TEMPLATE template0 LOCALE 'C'"
        )
    may = _row(connection, "SELECT has_schema_privilege(current_schema(), 'CREATE') AS may")["may"]
    if not may:
        raise JournalError(
            "its user may not create tables there: make it the owner of the database, or"
            " GRANT CREATE ON SCHEMA public"
        )


def require(connection: Connection, *, make: bool = True, whole: bool = True) -> None:
    """Create the tables if there are none, or upgrade an earlier release's, if that is to be done.

    Args:
        connection: A connection.
        make: Whether they are to be made or upgraded.
        whole: Whether to require that no copy of another journal is incomplete.

    Raises:
        JournalError: If another program, or a newer release, made them, or there are none, or they
            are an earlier release's, and nothing is to be made.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        known = version(connection)
        if known is None:
            if not make:
                raise JournalError("no daemon has used it yet")
            require_fit(connection)
            connection.execute(_script("tables"))
            connection.execute(
                "INSERT INTO secret VALUES (sha256(uuid_send(gen_random_uuid())"
                " || uuid_send(gen_random_uuid())))"
            )
            connection.execute("INSERT INTO probes VALUES (0)")
            return
        if whole:
            require_whole(connection)
        if known < VERSION and not make:
            raise JournalError(
                f"it is of an earlier release (schema {known}, this one knows {VERSION}): let this"
                " release's daemon start"
            )
        for earlier in range(known, VERSION):
            connection.execute(_script(f"upgrade_{earlier}"))
            connection.execute("UPDATE schema SET version = %s", (earlier + 1,))


def _script(name: str) -> bytes:
    return files(__package__).joinpath(f"{name}.sql").read_bytes()


def _row(connection: Connection, query: str) -> dict[str, Any]:
    """The first row of a query; empty if it has none."""
    return connection.execute(query.encode()).fetchone() or {}
