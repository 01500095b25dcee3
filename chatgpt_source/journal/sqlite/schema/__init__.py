"""The SQLite journal's tables, as scripts.

`tables.sql` creates this version's tables; `upgrade_<n>.sql` upgrades version n to the next.

`prompts` has the record of each prompt, `outbox` its deliveries, `attempts` its failed calls,
`leftovers` what a provider still keeps of it, `texts` its texts, which are deleted on delivery.
They have a table of their own so that no index and no small update copies them. Long texts are in
`long_texts` (see the module `texts`). Triggers keep `counts` exact, and delete texts with their
prompt, also when another process writes.
"""

import sqlite3
from importlib.resources import files
from pathlib import Path

from chatgpt_source.errors import JournalError

HEADER = 72
"""Bytes at the beginning of a file that say which version it is of."""
VERSION = 7
APPLICATION_ID = 0x63677073
"""Marks the file's header as this program's ("cgps")."""

AT_ONCE = 0.0
"""The `due` of a redriven prompt: earlier than any daemon's clock."""
NOT_YET = 1e18
"""The `since` of a redriven prompt: its time starts at the next claim."""

REASON = "substr(error, 1, instr(error || ': ', ': ') - 1)"
"""SQL: the reason of a failed prompt without advice and details, as the index of them has it."""

_SINCE_4 = (
    "'target' AS target, NULL AS request_id, NULL AS not_before, NULL AS deadline, NULL AS ends,"
    " NULL AS submitted"
)
_VIEW_OF_3 = f"CREATE TEMP VIEW prompts AS SELECT *, {_SINCE_4} FROM main.prompts"
_OWNER_OF_1 = "CASE due WHEN 1e18 THEN 0 END AS owner"  # what is under way has this `due`
_VIEW_OF_1 = f"CREATE TEMP VIEW prompts AS SELECT *, {_OWNER_OF_1}, {_SINCE_4} FROM main.prompts"
_OUTBOX_OF_1 = (
    "CREATE TEMP VIEW outbox AS SELECT seq, 'target' AS destination, due, "
    f"{_OWNER_OF_1}, 0 AS attempts, NULL AS error FROM main.prompts WHERE state = 'answered'"
)
_VIEWS = {1: (_VIEW_OF_1, _OUTBOX_OF_1), 2: (_VIEW_OF_1, _OUTBOX_OF_1), 3: (_VIEW_OF_3,)}
"""By version, the views that let an operator read its tables as if they were this version's."""


def version_of(db: sqlite3.Connection) -> int:
    """The version of a journal's tables; 0 if there are none."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def earlier_version(header: bytes) -> int | None:
    """The version of a journal's tables by the first bytes of its file, if it is an earlier one."""
    version, application = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68))
    return version if application == APPLICATION_ID and version < VERSION else None


def read_as_ours(db: sqlite3.Connection) -> None:
    """Let this connection read the tables of an earlier version as if they were this version's."""
    for view in _VIEWS.get(version_of(db), ()):
        db.execute(view)


def read_as_it_is(db: sqlite3.Connection) -> None:
    """End `read_as_ours`; with a view of a table's name, SQLite can't copy the database."""
    for name in ("prompts", "outbox"):
        db.execute(f"DROP VIEW IF EXISTS temp.{name}")


def require_ours(db: sqlite3.Connection, path: Path, *, make: bool) -> None:
    """Require the file to be a journal that this release can use; changes nothing.

    Raises:
        JournalError: If it is not.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    version = version_of(db)
    if application != APPLICATION_ID and (application or not make or not is_empty(db)):
        raise JournalError(
            f"journal {path} is empty, or another program's database: set `journal` to another path"
        )
    if application == APPLICATION_ID and version > VERSION:
        raise JournalError(
            f"journal {path} was written by a newer chatgpt-source (schema {version}, this one"
            f" knows {VERSION}): upgrade, or set `journal` to another path"
        )


def is_empty(db: sqlite3.Connection) -> bool:
    """Whether a database has no tables."""
    return db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def run_script(db: sqlite3.Connection, name: str) -> None:
    """Run a script within the caller's transaction; `executescript` would commit on its own."""
    statement = ""
    for line in files(__package__).joinpath(f"{name}.sql").read_text("utf-8").splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""
