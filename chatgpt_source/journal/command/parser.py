"""The command line of `chatgpt-source-journal`."""

import argparse
import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from attrs import frozen

from chatgpt_source import __version__
from chatgpt_source.clock import read_duration
from chatgpt_source.cloudevent import read_time
from chatgpt_source.config.targets import NAME
from chatgpt_source.journal.pause import ASKING, INTAKE
from chatgpt_source.prompt import DEAD_LETTER, TARGET, State

DESCRIPTION = """`chatgpt-source-journal`: shows what is in a journal, and works on it.

It works on the journal of a running or a stopped daemon: it takes no lock of
a daemon, and writes in short transactions. A running daemon notices within
2 s what was redriven, paused or resumed. Only `copy`, which moves a journal
into PostgreSQL, needs all daemons to be stopped.
"""
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
WHAT = (INTAKE, ASKING, TARGET.label, f"{TARGET.label}.<name>", DEAD_LETTER.label)
"""What may be paused."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = argparse.ArgumentParser(
        prog="chatgpt-source-journal",
        description=DESCRIPTION,
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
