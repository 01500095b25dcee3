"""The command line of `chatgpt-source-journal`."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from attrs import frozen

from chatgpt_source import __version__
from chatgpt_source.clock import read_duration
from chatgpt_source.cloudevent import read_time
from chatgpt_source.config.targets import NAME
from chatgpt_source.journal.pause import ASKING, INTAKE
from chatgpt_source.prompt import DEAD_LETTER, TARGET, State
from chatgpt_source.terminal import look_of

DESCRIPTION = """`chatgpt-source-journal`: shows what is in a journal, and works on it.

It works on the journal of a running or a stopped daemon: it takes no lock of
a daemon, and writes in short transactions. A running daemon notices within
2 s what was redriven, paused or resumed. Only `copy`, which moves a journal
into PostgreSQL, needs all daemons to be stopped.
"""
EXAMPLES = """examples:
  chatgpt-source-journal list --since 24h
  chatgpt-source-journal list --state all --limit 5
  chatgpt-source-journal show 0effe4cc
  chatgpt-source-journal reasons
  chatgpt-source-journal redrive 0effe4cc
  chatgpt-source-journal redrive --all --reason "the target answered 503"
  chatgpt-source-journal purge --all --since 24h
  chatgpt-source-journal pause target.billing
  chatgpt-source-journal resume target.billing
  chatgpt-source-journal paused
  chatgpt-source-journal backup backup.sqlite
  chatgpt-source-journal copy --to postgresql://user@host/database
"""
_MORE = {
    "redrive": """
Asking again takes a unit of the day's limit, delivering again takes none.
Without a unit, the prompt stays failed. One that is taken up has no deadline
any more.""",
    "purge": """
Their records are deleted, too. This can't be undone.""",
    "pause": """
All daemons of the journal notice it within 2 s, and it lasts over restarts.
Nothing fails because of a pause, but deadlines go on.""",
}
"""What the help of some commands says beside their line."""
IN_A_TERMINAL = 30
"""Prompts that `list` shows in a terminal unless `--limit` says otherwise."""
_ID = "an id, or its beginning"
FILE = "journal.sqlite"
WHAT = (INTAKE, ASKING, TARGET.label, f"{TARGET.label}.<name>", DEAD_LETTER.label)
"""What may be paused."""


class _Parser(argparse.ArgumentParser):
    """A parser that folds what it says of a mistake."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        told = look_of(sys.stderr, os.environ).fold(f"{self.prog}: error: {message}", "  ")
        self.exit(2, f"{told}\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    top = _Parser(
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
        type=_reason,
        metavar="TEXT",
        help="only those of this reason, as `reasons` has it; of any that has this text, if it is"
        " none of those",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    listing = _command(
        commands, "list", "list prompts, by default the failed ones, the newest first", also, some
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
        type=_limit,
        metavar="N",
        help=f"how many; 0: all (default: {IN_A_TERMINAL} in a terminal, else all)",
    )
    show = _command(commands, "show", "show a prompt, call by call", also)
    show.add_argument("id", type=_text, metavar="ID", help=f"{_ID}; or an idempotency key")
    for name, text in (
        ("redrive", "ask or deliver failed prompts again"),
        ("purge", "delete failed prompts and their texts"),
    ):
        acting = _command(commands, name, text, also, some)
        which = acting.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", type=_text, metavar="ID", nargs="*", default=[], help=_ID)
        which.add_argument(
            "--all", action="store_true", help="every failed prompt, or those of --since, --reason"
        )
    _command(commands, "reasons", "list why prompts have failed, and how many of each", also)
    for name, text in (
        ("pause", "stop the intake, asking, or deliveries to a receiver, until resumed"),
        ("resume", "end a pause"),
    ):
        pausing = _command(commands, name, text, also)
        what: Any = pausing.add_argument(
            "what",
            type=_what,
            metavar="WHAT",
            help="intake (prompts are refused), asking (the model gets no new calls), or a"
            f" receiver: {', '.join(WHAT[2:])}",
        )
        what.completer = lambda **_: [each for each in WHAT if "<" not in each]  # by argcomplete
    _command(commands, "paused", "list what is paused, since when, by whom", also)
    backup = _command(
        commands, "backup", "copy the journal to a new file that you alone can read", also
    )
    backup.add_argument("to", metavar="PATH", type=Path, help="the copy's, where no file may be")
    copy = _command(
        commands,
        "copy",
        "move a journal in a file into PostgreSQL, while no daemon runs; started again, it goes on"
        " where it was stopped",
        also,
    )
    copy.add_argument(
        "--from", dest="source", metavar="PATH", help=f"the file (default: --journal, or {FILE})"
    )
    copy.add_argument(
        "--to", metavar="URL", help="postgresql://…, empty (default: the URL in the config file)"
    )
    return top


def _command(
    commands: Any, name: str, line: str, *parents: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Add a command, whose own help says what it does, with examples."""
    title, *examples = EXAMPLES.splitlines()
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        parents=parents,
        help=line,
        description=fill(f"{line[0].upper()}{line[1:]}.", 78) + _MORE.get(name, ""),
        epilog="\n".join([title, *(each for each in examples if each.split()[1] == name)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return added


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of prompts")
    return int(text)


def _text(given: str) -> str:
    """An argument that can be looked for and shown: nothing has U+FFFD, for what is not UTF-8."""
    return os.fsencode(given).decode("utf-8", "replace")


def _reason(text: str) -> str:
    if not text:  # perhaps a script's unset variable; every reason has this text
        raise argparse.ArgumentTypeError("give some text, or leave out --reason")
    return text


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
