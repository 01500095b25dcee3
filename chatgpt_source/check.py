"""`twistd chatgpt-source --check`: what the daemon would do, found out without doing it."""

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from chatgpt_source.config import Config, ConfigError, load, require_files
from chatgpt_source.journal.sqlite.look import Seen, look
from chatgpt_source.prompt import JournalError, State
from chatgpt_source.quota import day_at
from chatgpt_source.web import PortUnavailable, probe_port


class Mistakes(Exception):
    """What keeps the daemon from starting; the text has one line for each."""


@frozen
class Facts:
    """What a check has found out.

    Attributes:
        config: The settings.
        journal: What is in the journal.
        port_taken: Whether somebody listens at the port.
        files: How many files the process may open.
    """

    config: Config
    journal: Seen
    port_taken: bool
    files: int


def gather(environ: Mapping[str, str], twistd: Mapping[str, Any], now: float) -> Facts:
    """Find out what a start would meet.

    Args:
        environ: The environment.
        twistd: twistd's own options.
        now: The time.

    Raises:
        Mistakes: If the daemon would not start, or not once the one that runs has stopped.
    """
    try:
        config = load(environ)
    except ConfigError as error:
        raise Mistakes(str(error)) from None
    mistakes: list[str] = []
    files = hard_limit()
    try:
        require_files(config, files)
    except ConfigError as error:
        mistakes.append(str(error))
    path = journal_path(config, twistd)
    day = day_at(now, config.timezone).date
    journal = Seen(path)
    try:
        journal = look(path, day, now, as_writer=not changes_user(twistd))
    except JournalError as error:
        mistakes.append(str(error))
    port_taken = False
    try:
        probe_port(config.port)
    except PortUnavailable as error:
        port_taken = error.taken
        if not (port_taken and journal.in_use):  # else it is that daemon's
            mistakes.append(str(error))
    if mistakes:
        raise Mistakes("\n".join(mistakes))
    return Facts(config, journal, port_taken, files)


def tell(facts: Facts) -> Sequence[str]:
    """What the daemon would do, a line each."""
    config, journal = facts.config, facts.journal
    left = max(0, config.everyday_limit - journal.used)
    lines = {
        "settings": config.origin,
        "listens": f"port {config.port}" + (", where a daemon listens now" * facts.port_taken),
        "asks": f"{config.model} at {host(config.base_url)}",
        "delivers": f"to {host(config.target)}",
        "limit": (
            f"{config.everyday_limit} prompts a day ({config.timezone.key}); {left} left today"
        ),
        "journal": f"{journal.path} ({_schema(journal)})",
        "prompts": ", ".join(f"{journal.prompts[state]} {state.value}" for state in State),
        "at once": f"{journal.to_ask} to ask, {journal.to_deliver} to deliver",
        "files": f"{facts.files} may be open",
    }
    return [
        "chatgpt-source would start"
        + (", once the daemon that uses this journal has stopped" if journal.in_use else ""),
        *(f"{name + ':':<10}{value}" for name, value in lines.items()),
        *(f"warning:  {warning}" for warning in config.warnings),
    ]


def _schema(journal: Seen) -> str:
    if journal.schema is None:
        return "it would be made"
    if journal.schema < journal.current:
        return f"schema {journal.schema}, which would become {journal.current}"
    return f"schema {journal.schema}"


def journal_path(config: Config, twistd: Mapping[str, Any]) -> Path:
    """Where the journal lies; a relative path is in twistd's --rundir."""
    return Path(twistd.get("rundir", "."), config.journal).absolute()


def changes_user(twistd: Mapping[str, Any]) -> bool:
    """Whether twistd is to become another user: what we may write says nothing then."""
    return bool(twistd.get("uid") or twistd.get("gid"))


def host(url: str) -> str:
    """A URL's scheme, host and port: the rest may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def hard_limit() -> int:
    """How many files this process may be allowed to open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 2**31
