"""Connect to the database, and say in plain words what is wrong with it."""

import re
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, TypeVar

import psycopg
from attrs import field, frozen
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from psycopg.rows import dict_row

from chatgpt_source.errors import JournalError, JournalUnavailable, JournalUnreachable
from chatgpt_source.identity import label
from chatgpt_source.journal.group_commit import RETRY_AFTER
from chatgpt_source.journal.postgres import schema
from chatgpt_source.journal.postgres.session import Connection, Row

Result = TypeVar("Result")

_UNREADABLE = "`journal` can't be read: it must be postgresql://<user>@<host>/<database>"
_UNENCODED = f"{_UNREADABLE}; what it has behind % must be UTF-8"
_MISREAD = (
    f"{_UNREADABLE}. Write @ and / in a password as %40 and %2F, or set `journal_password`;"
    " a port is a number"
)
_LIBPQ: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "target_session_attrs": "read-write",
}
"""What libpq is told, unless the URL says otherwise."""
WAIT_INTERVAL = 0.1
"""Seconds between two looks whether a connection is silent, or was closed."""
_SESSION = {
    "idle_in_transaction_session_timeout": "3s",  # else who stands still keeps the day's row
    "lock_timeout": "5s",
    "statement_timeout": "30s",
    "default_transaction_isolation": "read committed",
    "client_encoding": "UTF8",
}


_PASSING = ("25006", "25P03", "40", "53", "55", "57")
"""The beginnings of the SQLSTATEs of what may be over soon."""


@frozen
class Database:
    """A database.

    Attributes:
        url: Its URL, as libpq reads it; it may have a secret.
        password: Its password, if that is elsewhere; read for each connection, as it may change.
        program: Who connects; the session's `application_name` has it, the host and the process.
    """

    url: str = field(repr=False)
    password: Callable[[], str] | None = field(default=None, repr=False)
    program: str = "chatgpt-source"

    @property
    def conninfo(self) -> str:
        """What libpq is told.

        Raises:
            JournalError: If the URL can't be read; the text has nothing of it.
        """
        secret = {} if self.password is None else {"password": self.password()}
        named = {"application_name": label(self.program)}
        return make_conninfo(**{**_LIBPQ, **named, **self._given, **secret})

    @property
    def _given(self) -> dict[str, Any]:
        try:
            given = conninfo_to_dict(self.url)
        except psycopg.Error as error:
            option = re.search(r'invalid URI query parameter: "([a-z_]{1,30})"', str(error))
            raise JournalError(
                f"{_UNREADABLE}{f'; it has no {option[1]}' if option else ''}"
            ) from None
        except UnicodeError:
            raise JournalError(_UNENCODED) from None
        hosts, name = str(given.get("host", "")), str(given.get("dbname", ""))
        ports = str(given.get("port", ""))
        if (
            re.search("[@/]", name)
            or any(
                "@" in each or ("/" in each.lstrip("/") and each[0] != "/")
                for each in hosts.split(",")
            )
            or not all(each.isdecimal() and int(each) < 65536 for each in ports.split(",") if each)
        ):
            raise JournalError(_MISREAD)
        if self.password is not None and given.get("password"):
            raise JournalError(
                "`journal` must be without a password where `journal_password` is set: keep one"
            )
        return given

    @property
    def location(self) -> str:
        """Its place, for people; without user and password."""
        told = {
            each.keyword.decode(): each.val.decode()
            for each in Conninfo.get_defaults()
            if each.val is not None
        }
        told.update(self._given)
        hosts = str(told.get("host", told.get("hostaddr", "localhost"))).split(",")
        ports = str(told["port"]).split(",")
        ports *= len(hosts) if len(ports) == 1 else 1
        places = ",".join(map(":".join, zip(hosts, ports, strict=False)))
        return f"postgresql://{places}/{told.get('dbname', '')}"


class Patient(psycopg.Connection[Row]):
    """A connection that is given up once nothing has come for long.

    TCP notices a peer that is gone, but not one that takes what is sent and never answers: a proxy
    whose other side is lost, or a server's process that stands still.

    Attributes:
        SILENCE: The seconds: more than `statement_timeout`, after which there is an answer.
    """

    SILENCE: ClassVar[float] = 40.0

    def wait(
        self, gen: PQGen[Result], interval: float = WAIT_INTERVAL, *given: Any, **named: Any
    ) -> Result:
        """Wait for what libpq waits for.

        Raises:
            psycopg.OperationalError: If nothing came for long; the connection is closed then.
        """
        return super().wait(self._patiently(gen), interval, *given, **named)

    def _patiently(self, gen: PQGen[Result]) -> PQGen[Result]:
        heard = monotonic()
        try:
            waits_for = next(gen)
            while True:
                ready = yield waits_for
                if ready:
                    heard = monotonic()
                elif monotonic() - heard > self.SILENCE:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(
                        f"the connection failed: nothing came for {self.SILENCE:.0f} s"
                    )
                waits_for = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def connect(conninfo: str) -> Connection:
    """A connection whose statements commit on their own.

    Raises:
        psycopg.Error: If there is none to be had.
    """
    connection = Patient.connect(
        conninfo, autocommit=True, row_factory=dict_row, prepare_threshold=None
    )
    try:
        for name, value in _SESSION.items():
            connection.execute("SELECT set_config(%s, %s, FALSE)", (name, value))
    except BaseException:
        connection.close()
        raise
    return connection


def open_journal(database: Database, *, beside: bool = False) -> tuple[Database, Connection]:
    """Connect, and create the tables if there are none.

    Args:
        database: The database.
        beside: Require that there are tables.

    Raises:
        JournalUnreachable: If it can't be reached now; the text has no secret.
        JournalError: If it can't be used.
    """
    where = f"journal {database.location}"
    try:
        connection = connect(database.conninfo)
    except psycopg.Error as error:
        raise JournalUnreachable(f"{where} can't be opened: {reason_of(error)}") from None
    try:
        schema.require(connection, make=not beside)
    except JournalError as error:
        connection.close()
        raise JournalError(f"{where} can't be used: {error}") from None
    except psycopg.Error as error:
        connection.close()
        kind = JournalUnreachable if _is_passing(error) else JournalError
        raise kind(f"{where} can't be opened: {reason_of(error)}") from None
    except BaseException:
        connection.close()
        raise
    return database, connection


@frozen
class Trouble:
    """Why the database can't be used.

    Attributes:
        reason: See `reason_of`.
        is_passing: Whether it may be over soon: a lost connection, a lock, a standby.
    """

    reason: str
    is_passing: bool

    @classmethod
    def of(cls, error: Exception) -> "Trouble":
        """What an error says."""
        return cls(reason_of(error), _is_passing(error))

    def error(self) -> JournalUnavailable:
        """It as the journal's error."""
        return JournalUnavailable(self.reason, retry_after=RETRY_AFTER, is_passing=self.is_passing)


def _is_passing(error: Exception) -> bool:
    state: str | None = getattr(error, "sqlstate", None)
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(_PASSING)


def is_of_statement(error: Exception) -> bool:
    """Whether an error is the server's word on a statement, after which the session goes on."""
    return isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized == "ERROR"


def reason_of(error: Exception) -> str:
    """What is wrong, in words that have no value of a statement and no secret."""
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        told = str(error)
        fails = "refuses the connection" if "FATAL:" in told else "can't be reached"
        return f"the database {fails}{_of_libpq(told)}"
    state = getattr(error, "sqlstate", None)
    name = type(error).__name__
    return f"the database refused it ({name}{f', {state}' if state else ''})"


_SAFE = re.compile(
    "connection is bad: |could not|failed to resolve|invalid|nothing came|server closed"
)
"""How messages begin that are not about an attempt to connect."""


def _of_libpq(told: str) -> str:
    """What libpq says of an attempt to connect, without users, addresses and other values."""
    line = told.strip().partition("\n")[0]
    if " failed: " not in line and not _SAFE.match(line):
        return ""
    reason = re.split(" failed: | is bad: ", line)[-1].replace("FATAL:", "")
    plain = re.sub(r""" ?"[^"]*"| ?'[^']*'| ?\([^)]*\)""", "", reason).strip()
    return f" ({plain})" if plain else ""
