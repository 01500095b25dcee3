"""`chatgpt-source-journal`: read a journal, redrive or purge failed prompts, back it up.

It works on the journal of a running or a stopped daemon: it takes no lock of a daemon, and writes
in short transactions, with pauses for the daemon. A running daemon finds redriven prompts within
2 s.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

from attrs import frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater, react

from chatgpt_source.errors import JournalError, JournalUnavailable, NotRedriven, QuotaUsedUp
from chatgpt_source.journal import Journal, Record
from chatgpt_source.journal.engine import OpenJournal, journal_in, open_beside
from chatgpt_source.journal.sqlite.backup import BackupStopped, back_up
from chatgpt_source.prompt import State

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
    top = argparse.ArgumentParser(prog="chatgpt-source-journal", description=__doc__)
    top.add_argument(
        "--journal",
        type=Path,
        default=Path("journal.sqlite"),
        help="the journal's path (default: journal.sqlite in this folder, the daemon's --rundir)",
    )
    _add_json(top, default=False)
    also = argparse.ArgumentParser(add_help=False)
    _add_json(also, default=argparse.SUPPRESS)  # else it would undo one before the command
    commands = top.add_subparsers(dest="command", required=True)
    listing = commands.add_parser(
        "list", parents=[also], help="list prompts, by default the failed ones"
    )
    states = [state.value for state in State]
    listing.add_argument("--state", choices=[*states, "all"], default="failed")
    show = commands.add_parser("show", parents=[also], help="show a prompt's record")
    show.add_argument("id", metavar="ID")
    for name, text in (
        ("redrive", "ask or deliver failed prompts again"),
        ("purge", "delete failed prompts and their texts"),
    ):
        acting = commands.add_parser(name, parents=[also], help=text)
        which = acting.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", metavar="ID", nargs="*", default=[])
        which.add_argument("--all", action="store_true", help="every failed prompt")
    backup = commands.add_parser(
        "backup", parents=[also], help="copy the journal to a new file that you alone can read"
    )
    backup.add_argument("to", metavar="PATH", type=Path, help="the copy's, where no file may be")
    return top


def _add_json(to: argparse.ArgumentParser, *, default: bool | str) -> None:
    to.add_argument(
        "--json", action="store_true", default=default, help="print JSON, one object a line"
    )


@frozen
class Operator:
    """Runs one command.

    Attributes:
        journal: The journal.
        clock: The time.
        out: The output.
        json: Whether to print JSON.
        pause: Waits for some seconds.
    """

    journal: Journal
    clock: IReactorTime
    out: TextIO
    json: bool
    pause: Callable[[float], Awaitable[None]]

    async def do(self, options: argparse.Namespace) -> int:
        """Run the command; returns the exit status."""
        if options.command == "list":
            state = None if options.state == "all" else State(options.state)
            async for record in self._records(state):
                self._print(record)
            return 0
        if options.command == "show":
            return await self._show(options.id)
        ids = options.ids
        if options.all:
            ids = [record.id async for record in self._records(State.FAILED)]
        act = self._redrive if options.command == "redrive" else self._purge
        return 0 if await self._each(ids, act) else 1

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

    async def _records(self, state: State | None) -> AsyncIterator[Record]:
        after = 0
        while page := await self.journal.records(state, after, PAGE):
            for record in page:
                yield record
            after = page[-1].position

    async def _show(self, prompt_id: str) -> int:
        record = await self.journal.record(prompt_id)
        if record is None:
            self._tell(prompt_id, "not in this journal", done=False)
            return 1
        values = record.to_dict()
        lines = (f"{name + ':':<14}{'-' if v is None else v}" for name, v in values.items())
        self._write(values, "\n".join(lines))
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

    def _print(self, record: Record) -> None:
        values = record.to_dict()
        line = (
            f"{record.id}  {record.state.value:<9}  {values['accepted']}"
            f"  asks={record.asks} deliveries={record.deliveries}  {record.error or ''}"
        )
        self._write(values, line.rstrip())

    def _tell(self, prompt_id: str, detail: str, *, done: bool) -> None:
        self._write({"id": prompt_id, "done": done, "detail": detail}, f"{prompt_id}  {detail}")

    def _write(self, values: Mapping[str, object], text: str) -> None:
        self.out.write(f"{json.dumps(values) if self.json else text}\n")


def run_backup(opened: OpenJournal, options: argparse.Namespace, out: TextIO) -> int:
    """Make a backup; a signal stops it, and no file is left. Returns the exit status.

    Raises:
        SystemExit: With one line, if no backup can be made.
    """
    if str(options.to) == "-":
        raise SystemExit("backup - can't be made: a backup is a file, so name one")
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


async def _run(reactor: IReactorTime, opened: OpenJournal, options: argparse.Namespace) -> None:
    # It needs no thread. The operations of one turn of the reactor form one transaction.
    journal = journal_in(opened, reactor, lambda run: deferLater(reactor, 0, run))
    operator = Operator(
        journal, reactor, sys.stdout, options.json, lambda delay: deferLater(reactor, delay)
    )
    try:
        status = await operator.do(options)
        sys.stdout.flush()
    except JournalUnavailable as error:
        raise SystemExit(f"journal {options.journal}: {error.reason}") from None
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
    options = parser().parse_args(argv)
    try:
        opened = open_beside(options.journal)
    except JournalError as error:
        raise SystemExit(str(error)) from None
    if options.command == "backup":
        raise SystemExit(run_backup(opened, options, sys.stdout))
    react(lambda reactor: Deferred.fromCoroutine(_run(reactor, opened, options)))
