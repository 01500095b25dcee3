"""Connect to the database, and say in plain words what is wrong with it."""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from chatgpt_source.errors import JournalError
from chatgpt_source.journal.postgres.session import Connection

_LIBPQ: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "target_session_attrs": "read-write",
    "application_name": "chatgpt-source",
}
"""What libpq is told, unless the URL says otherwise."""
_SESSION = {
    "idle_in_transaction_session_timeout": "10s",  # else a half-open client keeps the day's row
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "default_transaction_isolation": "read committed",
    "client_encoding": "UTF8",
}


def read_url(url: str, password: str | None = None) -> str:
    """What libpq is told.

    Raises:
        JournalError: If the URL can't be read; the text has nothing of it.
    """
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        raise JournalError(
            "the journal's URL can't be read: it must be postgresql://<host>/<database>"
        ) from None
    secret = {} if password is None else {"password": password}
    return make_conninfo(**{**_LIBPQ, **given, **secret})


def location(conninfo: str) -> str:
    """The database's place, for people; without user and password."""
    given = conninfo_to_dict(conninfo)
    host, port = given.get("host", "localhost"), given.get("port", 5432)
    return f"postgresql://{host}:{port}/{given.get('dbname', '')}"


def connect(conninfo: str) -> Connection:
    """A connection whose statements commit on their own.

    Raises:
        psycopg.Error: If there is none to be had.
    """
    connection = psycopg.connect(
        conninfo, autocommit=True, row_factory=dict_row, prepare_threshold=None
    )
    try:
        for name, value in _SESSION.items():
            connection.execute("SELECT set_config(%s, %s, FALSE)", (name, value))
    except BaseException:
        connection.close()
        raise
    return connection


def reason_of(error: Exception) -> str:
    """What is wrong, in words that have no value of a statement and no secret."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return "the database can't be reached"
    state = getattr(error, "sqlstate", None)
    name = type(error).__name__
    return f"the database refused it ({name}{f', {state}' if state else ''})"
