"""The PostgreSQL journal's tables, as scripts; created under an advisory lock."""

from importlib.resources import files
from typing import Any

import psycopg

from chatgpt_source.errors import JournalError

VERSION = 1
LOCK = 0x63677073
"""The advisory lock under which one process at a time creates or upgrades the tables."""

AT_ONCE = 0.0
"""The `due` of a redriven prompt: earlier than any clock."""
NOT_YET = 1e18
"""The `since` of a redriven prompt: its time starts at the next claim."""


def require(connection: psycopg.Connection[dict[str, Any]]) -> None:
    """Create the tables if there are none.

    Raises:
        JournalError: If a newer release made them.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        found = _row(
            connection,
            "SELECT to_regclass('prompts') IS NOT NULL AS made"
            ", to_regclass('schema') IS NOT NULL AS ours",
        )
        if not found["made"] and not found["ours"]:
            script = files(__package__).joinpath("tables.sql").read_bytes()
            connection.execute(script)
            connection.execute(
                "INSERT INTO secret VALUES (sha256(uuid_send(gen_random_uuid())"
                " || uuid_send(gen_random_uuid())))"
            )
            connection.execute("INSERT INTO probes VALUES (0)")
            return
        if not (found["made"] and found["ours"]):
            raise JournalError("its database has another program's tables: use one of its own")
        version = _row(connection, "SELECT version FROM schema")["version"]
        if version > VERSION:
            raise JournalError(
                f"it was written by a newer chatgpt-source (schema {version}, this one knows"
                f" {VERSION}): upgrade"
            )


def _row(connection: psycopg.Connection[dict[str, Any]], query: str) -> dict[str, Any]:
    """The first row of a query; empty if it has none."""
    return connection.execute(query.encode()).fetchone() or {}
