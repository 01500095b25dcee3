"""`chatgpt-source-journal`: shows what is in a journal, and works on it."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react

from chatgpt_source.config import ConfigError, Credentials, read_credentials, read_journal
from chatgpt_source.errors import JournalError, JournalUnavailable
from chatgpt_source.journal.command.operator import Operator
from chatgpt_source.journal.command.parser import FILE, parsed
from chatgpt_source.journal.engine import Engine, Opened, engine_of, is_url
from chatgpt_source.journal.sqlite import open_beside
from chatgpt_source.journal.sqlite.backup import BackupStopped, back_up
from chatgpt_source.journal.sqlite.engine import SqliteEngine
from chatgpt_source.output import require_open, written
from chatgpt_source.terminal import look_of


def engine_for(options: argparse.Namespace, environ: Mapping[str, str]) -> Engine:
    """The engine of the journal that is asked for.

    Raises:
        JournalError: If there is none.
    """
    if options.journal is not None:
        return engine_of(options.journal)
    try:
        where, password = read_journal(environ)
    except ConfigError as error:
        if Path(FILE).exists():  # the config may be another user's, or another machine's
            return engine_of(FILE)
        raise JournalError(str(error)) from None
    if not is_url(where):
        return engine_of(FILE)
    return engine_of(where, None if password is None else password.read)


def run_copy(
    options: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO
) -> int:
    """Copy a journal in a file into PostgreSQL. Returns the exit status.

    Raises:
        JournalError: If it can't be copied.
    """
    source = options.source or options.journal or FILE
    if is_url(source):
        raise JournalError("--from must be a file: a database is copied by pg_dump")
    if options.to is None:
        options.journal = None
        engine = engine_for(options, environ)
    else:
        engine = engine_of(options.to)
    if isinstance(engine, SqliteEngine):
        raise JournalError("--to must be postgresql://<user>@<host>/<database>")
    # Its module needs the driver, which `engine_of` has found.
    command: Any = import_module("chatgpt_source.journal.copying.command")
    return int(command.run(Path(source).absolute(), engine, out, err, as_json=options.json))


def run_backup(engine: Engine, options: argparse.Namespace, out: TextIO) -> int:
    """Make a backup; a signal stops it, and no file is left. Returns the exit status.

    Raises:
        SystemExit: With one line, if no backup can be made.
    """
    if str(options.to) == "-":
        raise SystemExit("backup - can't be made: a backup is a file, so name one")
    if not isinstance(engine, SqliteEngine):
        raise SystemExit(
            f"journal {engine.location} can't be copied by this command: back up its database, as"
            " by pg_dump"
        )
    try:
        opened = open_beside(engine.path)
    except JournalError as error:
        raise SystemExit(str(error)) from None
    os.nice(10)  # the daemon has priority
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: signals.append(number))
    try:
        with closing(opened):
            size = back_up(opened.connection, options.to, lambda: bool(signals))
    except JournalError as error:
        raise SystemExit(str(error)) from None
    except BackupStopped:
        sys.stderr.write(f"stopped: no backup {options.to} was made\n")
        return 128 + signals[0]
    line = {"backup": str(options.to), "bytes": size}
    with written(out):
        out.write(json.dumps(line) + "\n" if options.json else f"{options.to}  {size} bytes\n")
    return 0


def credentials_of(
    options: argparse.Namespace, environ: Mapping[str, str]
) -> Sequence[Credentials]:
    """The callers' credentials, for a command that finds prompts by their keys.

    Where the config can't be read, there are none: only the keys of callers without are known.
    """
    if options.command != "show":
        return ()
    try:
        return read_credentials(environ)
    except ConfigError:
        return ()


async def _run(reactor: IReactorTime, opened: Opened, options: argparse.Namespace) -> None:
    # It needs no thread. The operations of one turn of the reactor form one transaction.
    journal = opened(reactor, lambda run: deferLater(reactor, 0, run))
    operator = Operator(
        journal,
        reactor,
        sys.stdout,
        options.json,
        lambda delay: deferLater(reactor, delay),
        sys.stderr,
        look_of(sys.stdout, os.environ),
        credentials_of(options, os.environ),
    )
    try:
        with written(sys.stdout):
            status = await operator.do(options)
    except JournalUnavailable as error:
        raise SystemExit(f"journal {journal.location}: {error.reason}") from None
    finally:
        await journal.close()
    raise SystemExit(status)


def main(argv: Sequence[str] | None = None) -> None:
    """The console script."""
    with written(sys.stdout):
        options = parsed(argv)
    require_open("stderr", sys.stderr)
    try:
        if options.command == "copy":
            raise SystemExit(run_copy(options, os.environ, sys.stdout, sys.stderr))
        engine = engine_for(options, os.environ)
        if options.command == "backup":
            raise SystemExit(run_backup(engine, options, sys.stdout))
        opened = engine.open_beside()
    except JournalError as error:
        raise SystemExit(str(error)) from None
    react(lambda reactor: Deferred.fromCoroutine(_run(reactor, opened, options)))
