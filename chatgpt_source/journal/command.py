"""`chatgpt-source-journal`: shows what is in a journal, and works on it.

It works on the journal of a running or a stopped daemon: it takes no lock of
a daemon, and writes in short transactions. A running daemon notices within
2 s what was redriven, paused or resumed. Only `copy`, which moves a journal
into PostgreSQL, needs all daemons to be stopped.
"""

import argparse
import json
import os
import pwd
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from attrs import asdict, field, frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react

from chatgpt_source import __version__
from chatgpt_source.clock import read_duration, rfc3339, wall
from chatgpt_source.cloudevent import read_time
from chatgpt_source.config import ConfigError, read_journal
from chatgpt_source.config.targets import NAME
from chatgpt_source.errors import JournalError, JournalUnavailable, NotRedriven, QuotaUsedUp
from chatgpt_source.journal import Journal, Record, reason_of
from chatgpt_source.journal.details import details
from chatgpt_source.journal.engine import Engine, Opened, engine_of, is_url
from chatgpt_source.journal.sqlite import open_beside
from chatgpt_source.journal.sqlite.backup import BackupStopped, back_up
from chatgpt_source.journal.sqlite.engine import SqliteEngine
from chatgpt_source.journal.table import (
    header,
    line,
    pause_header,
    pause_line,
    pause_row,
    reason_header,
    reason_line,
    reason_row,
    row,
    since,
)
from chatgpt_source.prompt import State
from chatgpt_source.terminal import Look, look_of

EXAMPLES = """examples:
  chatgpt-source-journal list --since 24h
  chatgpt-source-journal list --state all --limit 5
  chatgpt-source-journal show 0effe4cc       the beginning of an id is enough
  chatgpt-source-journal reasons             why prompts have failed
  chatgpt-source-journal redrive --all --reason "the target answered 503"
  chatgpt-source-journal pause target        until `resume target`
  chatgpt-source-journal backup backup.sqlite
  chatgpt-source-journal copy --to postgresql://user@host/database
"""
IN_A_TERMINAL = 30
"""Prompts that `list` shows in a terminal unless `--limit` says otherwise."""
_ID = "an id, or its beginning"
FILE = "journal.sqlite"
WHAT = ("intake", "asking", "target", "target.<name>", "dead_letter")
"""What may be paused."""
MOST_REASONS = 10_000
PAGE = 500
"""Records read at a time, so that a long journal needs little memory."""

MOST_AT_ONCE = 50
"""Prompts in one transaction at the most."""
QUICK = 0.01
"""Seconds of one transaction; after a slower one, the next has half as many prompts."""
PAUSE = 0.03
"""Seconds between two of them at the least; after a slow one, four times its time."""

Act = Callable[[str], Coroutine[Deferred[Any], Any, tuple[bool, str]]]
"""Acts on the prompt with an id; returns whether it was done, and words for people."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = argparse.ArgumentParser(
        prog="chatgpt-source-journal",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_common(top, None, as_json=False)
    also = argparse.ArgumentParser(add_help=False)
    # These must not undo one before the command.
    _add_common(also, argparse.SUPPRESS, as_json=argparse.SUPPRESS)
    some = argparse.ArgumentParser(add_help=False)
    some.add_argument(
        "--since",
        type=_Since.read,
        metavar="TIME",
        help="only those in their state since then: 90s, 15m, 24h, 7d, or 2026-01-31T12:00:00Z",
    )
    some.add_argument(
        "--reason",
        metavar="TEXT",
        help="only those of this reason, as `reasons` has it; of any that has this text, if it is"
        " none of those",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    listing = commands.add_parser(
        "list",
        parents=[also, some],
        help="list prompts, by default the failed ones, the newest first",
    )
    states = [state.value for state in State]
    listing.add_argument(
        "--state",
        choices=[*states, "all"],
        default="failed",
        metavar="STATE",
        help=f"{', '.join(states)}, or all (default: %(default)s)",
    )
    listing.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"how many; 0: all (default: {IN_A_TERMINAL} in a terminal, else all)",
    )
    show = commands.add_parser("show", parents=[also], help="show a prompt, call by call")
    show.add_argument("id", metavar="ID", help=_ID)
    for name, text in (
        ("redrive", "ask or deliver failed prompts again"),
        ("purge", "delete failed prompts and their texts"),
    ):
        acting = commands.add_parser(name, parents=[also, some], help=text)
        which = acting.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", metavar="ID", nargs="*", default=[], help=_ID)
        which.add_argument(
            "--all", action="store_true", help="every failed prompt, or those of --since, --reason"
        )
    commands.add_parser(
        "reasons", parents=[also], help="list why prompts have failed, and how many of each"
    )
    for name, text in (
        ("pause", "let daemons do something no more, until it is resumed, over restarts, too"),
        ("resume", "let it go on"),
    ):
        pausing = commands.add_parser(name, parents=[also], help=text)
        what: Any = pausing.add_argument(
            "what",
            type=_what,
            metavar="WHAT",
            help="intake (prompts are refused), asking (the model gets no new calls), or a"
            f" receiver: {', '.join(WHAT[2:])}",
        )
        what.completer = lambda **_: [each for each in WHAT if "<" not in each]  # by argcomplete
    commands.add_parser("paused", parents=[also], help="list what is paused, since when, by whom")
    backup = commands.add_parser(
        "backup", parents=[also], help="copy the journal to a new file that you alone can read"
    )
    backup.add_argument("to", metavar="PATH", type=Path, help="the copy's, where no file may be")
    copy = commands.add_parser(
        "copy",
        parents=[also],
        help="move a journal in a file into PostgreSQL, while no daemon runs; started again, it"
        " goes on where it was stopped",
    )
    copy.add_argument(
        "--from", dest="source", metavar="PATH", help=f"the file (default: --journal, or {FILE})"
    )
    copy.add_argument(
        "--to", metavar="URL", help="postgresql://…, empty (default: the URL in the config file)"
    )
    return top


def _what(text: str) -> str:
    if text not in WHAT and not re.fullmatch(f"target\\.{NAME}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(WHAT)}")
    return text


def _add_common(to: argparse.ArgumentParser, journal: str | None, *, as_json: bool | str) -> None:
    to.add_argument(
        "--journal",
        default=journal,
        metavar="JOURNAL",
        help="the journal's path, or its postgresql:// URL (default: the URL in the config file,"
        f" else {FILE} in this folder, the daemon's --rundir)",
    )
    to.add_argument(
        "--json", action="store_true", default=as_json, help="print JSON, one object a line"
    )


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """The options of a command line; a mistake ends the process with a line."""
    top = parser()
    if "_ARGCOMPLETE" in os.environ:  # set by a shell that asks for completions
        argcomplete: Any = import_module("argcomplete")
        argcomplete.autocomplete(top)
    options = top.parse_args(argv)
    if getattr(options, "ids", None) and (options.since or options.reason):
        top.error("--since and --reason choose among --all: leave out the ids")
    return options


@frozen
class _Since:
    """A date, or a duration before now."""

    ago: float | None
    date: float | None

    @classmethod
    def read(cls, text: str) -> "_Since":
        ago, date = read_duration(text), read_time(text)
        if ago is None and date is None:
            raise argparse.ArgumentTypeError(
                f"{text!r} is neither a duration like 90s, 15m, 24h or 7d, nor a time like"
                " 2026-01-31T12:00:00Z"
            )
        return cls(ago, date)

    def at(self, now: float) -> float:
        """The date."""
        return now - (self.ago or 0.0) if self.date is None else self.date


def login() -> str:
    """Who runs this process, and by what: for the log of the daemons."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container
        name = f"user {os.getuid()}"
    return f"{name} by chatgpt-source-journal"


@frozen
class Operator:
    """Runs one command.

    Attributes:
        journal: The journal.
        clock: The time.
        out: The output.
        json: Whether to print JSON.
        pause: Waits for some seconds.
        err: The output for what is no result.
        look: How the output looks.
        who: Who runs it.
    """

    journal: Journal
    clock: IReactorTime
    out: TextIO
    json: bool
    pause: Callable[[float], Awaitable[None]]
    err: TextIO
    look: Look
    who: str = field(factory=login)

    async def do(self, options: argparse.Namespace) -> int:
        """Run the command; returns the exit status."""
        match options.command:
            case "list":
                return await self._list(options)
            case "show":
                return await self._show(options.id)
            case "reasons":
                return await self._reasons()
            case "paused":
                return await self._paused()
            case "pause" | "resume":
                return await self._set(options.what, is_paused=options.command == "pause")
        return await self._act_on(options)

    async def _act_on(self, options: argparse.Namespace) -> int:
        act = self._redrive if options.command == "redrive" else self._purge
        if options.all:
            wanted = await self._wanted(options)
            ids = [each.id async for each in self._oldest(State.FAILED) if wanted(each)]
            if not ids and not self.json:
                self.err.write("no failed prompts\n")
            return 0 if await self._each(ids, act) else 1
        return 0 if await self._each(options.ids, partial(self._whole, act)) else 1

    async def _list(self, options: argparse.Namespace) -> int:
        limit = options.limit
        if limit is None and self._is_table:
            limit = IN_A_TERMINAL
        wanted, shown = await self._wanted(options), 0
        async for record in self._newest(None if options.state == "all" else State(options.state)):
            if not wanted(record):
                continue
            if shown == limit and limit:
                self.err.write(f"and more: --limit shows more than {limit}, and 0 all\n")
                return 0
            if not shown and self._is_table:
                self.out.write(header(self.look) + "\n")
            shown += 1
            text = row(record, wall(self.clock), self.look) if self._is_table else line(record)
            self._write(record.to_dict(), text)
        if not shown and not self.json:
            self.err.write(f"no {'' if options.state == 'all' else options.state + ' '}prompts\n")
        return 0

    @property
    def _is_table(self) -> bool:
        return self.look.width is not None and not self.json

    async def _wanted(self, options: argparse.Namespace) -> Callable[[Record], bool]:
        """Whether a prompt is one of those that `--since` and `--reason` choose."""
        earliest = options.since.at(wall(self.clock)) if options.since else 0.0
        reason = options.reason or ""
        groups = await self.journal.groups(MOST_REASONS) if reason else ()
        is_whole = any(each.reason == reason for each in groups)

        def wanted(record: Record) -> bool:
            error = record.error or ""
            has_it = reason_of(error) == reason if is_whole else reason.lower() in error.lower()
            return has_it and since(record) >= earliest

        return wanted

    async def _reasons(self) -> int:
        groups, now = await self.journal.groups(MOST_REASONS), wall(self.clock)
        if not groups and not self.json:
            self.err.write("no failed prompts\n")
        elif self._is_table:
            self.out.write(reason_header(self.look) + "\n")
        for each in groups:
            text = reason_row(each, now, self.look) if self._is_table else reason_line(each)
            values = asdict(each) | {"first": rfc3339(each.first), "last": rfc3339(each.last)}
            self._write(values, text)
        return 0

    async def _paused(self) -> int:
        known, now = await self.journal.pauses(), wall(self.clock)
        paused = [each for each in known.values() if not each.resumed]
        if not paused and not self.json:
            self.err.write("nothing is paused\n")
        elif self._is_table:
            self.out.write(pause_header(self.look) + "\n")
        for each in paused:
            text = pause_row(each, now, self.look) if self._is_table else pause_line(each)
            values = {"what": each.what, "who": each.who, "since": rfc3339(each.since)}
            self._write(values, text)
        return 0

    async def _set(self, what: str, *, is_paused: bool) -> int:
        """Pause or resume something; returns 1 if it was not paused."""
        done = True
        if is_paused:
            pause = await self.journal.pause(what, self.who)
            told = f"paused since {rfc3339(pause.since)} by {pause.who}"
        else:
            done = await self.journal.resume(what, self.who) is not None
            told = "resumed" if done else "not paused"
        self._write({"what": what, "done": done, "detail": told}, f"{what}  {told}")
        return 0 if done else 1

    async def _each(self, ids: Sequence[str], act: Act) -> bool:
        """Act on prompts, a few in a transaction; returns whether all were acted on.

        A daemon's write waits for one transaction at the most, then has the pause.
        """
        done, most = True, 1
        while ids:
            some, ids = ids[:most], ids[most:]
            started = self.clock.seconds()
            acts: list[Deferred[Any]] = [
                Deferred.fromCoroutine(self._act(id_, act)) for id_ in some
            ]
            try:
                done &= all(await gatherResults(acts))
            except FirstError as error:
                error.subFailure.raiseException()
            took = self.clock.seconds() - started
            most = min(2 * most, MOST_AT_ONCE) if took < QUICK else max(1, most // 2)
            if ids:
                await self.pause(max(PAUSE, 4 * took))
        return done

    async def _act(self, prompt_id: str, act: Act) -> bool:
        done, detail = await act(prompt_id)
        self._tell(prompt_id, detail, done=done)
        return done

    async def _whole(self, act: Act, given: str) -> tuple[bool, str]:
        """Act on the prompt whose id begins so."""
        prompt_id, detail = await self._found(given)
        if prompt_id is None:
            return False, detail
        done, detail = await act(prompt_id)
        return done, detail if prompt_id == given else f"({prompt_id}) {detail}"

    async def _found(self, given: str) -> tuple[str | None, str]:
        """The id that is given whole, or by its beginning; None, and why, if there is none."""
        ids = await self.journal.ids(given, 2) if given else []
        if not ids:
            return None, "not in this journal"
        if len(ids) > 1 and given != ids[0]:
            return None, "several ids begin so: give more of it"
        return ids[0], ""

    def _oldest(self, state: State | None) -> AsyncIterator[Record]:
        return _each_of(lambda after: self.journal.records(state, after or 0, PAGE))

    def _newest(self, state: State | None) -> AsyncIterator[Record]:
        return _each_of(lambda before: self.journal.latest(state, before, PAGE))

    async def _show(self, given: str) -> int:
        prompt_id, detail = await self._found(given)
        found = prompt_id and await self.journal.detail(prompt_id)
        if not found:
            self._tell(given, detail or "not in this journal", done=False)
            return 1
        self._write(found.to_dict(), "\n".join(details(found, self.look)))
        return 0

    async def _redrive(self, prompt_id: str) -> tuple[bool, str]:
        try:
            state = await self.journal.redrive(prompt_id)
        except NotRedriven as error:
            return False, f"not redriven: {error}"
        except QuotaUsedUp as error:
            return False, f"not redriven: asking again takes a unit, and {error.reason}"
        return True, f"to be {'delivered' if state is State.ANSWERED else 'asked'} again"

    async def _purge(self, prompt_id: str) -> tuple[bool, str]:
        gone = await self.journal.purge(prompt_id)
        return gone, "forgotten" if gone else "no failed prompt of this journal"

    def _tell(self, prompt_id: str, detail: str, *, done: bool) -> None:
        self._write({"id": prompt_id, "done": done, "detail": detail}, f"{prompt_id}  {detail}")

    def _write(self, values: Mapping[str, object], text: str) -> None:
        self.out.write(f"{json.dumps(values) if self.json else text}\n")


async def _each_of(
    page_from: Callable[[int | None], Awaitable[Sequence[Record]]],
) -> AsyncIterator[Record]:
    """The records of all pages; each page begins after the last record of the one before."""
    position = None
    while page := await page_from(position):
        for record in page:
            yield record
        position = page[-1].position


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
    out.write(json.dumps(line) + "\n" if options.json else f"{options.to}  {size} bytes\n")
    return 0


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
    )
    try:
        status = await operator.do(options)
        sys.stdout.flush()
    except JournalUnavailable as error:
        raise SystemExit(f"journal {journal.location}: {error.reason}") from None
    except BrokenPipeError:  # as by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except OSError as error:
        raise SystemExit(f"the output can't be written: {error.strerror}") from None
    finally:
        await journal.close()
    raise SystemExit(status)


def main(argv: Sequence[str] | None = None) -> None:
    """The console script."""
    options = parsed(argv)
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
