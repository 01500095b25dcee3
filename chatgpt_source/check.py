"""`twistd chatgpt-source --check`: what the daemon would do, found out without doing it."""

import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from chatgpt_source.config import Config, ConfigError, load, require_files
from chatgpt_source.errors import JournalError
from chatgpt_source.http.listen import (
    PortUnavailable,
    check,
    is_exposed,
    parse,
    port_string,
    probe_port,
)
from chatgpt_source.http.server import origin_of
from chatgpt_source.journal.engine import Seen, look
from chatgpt_source.prompt import State
from chatgpt_source.quota import day_at

UNGUARDED = (
    "anyone who reaches the prompt port can spend the day's prompts: set `auth`, or let `listen` be"
    " a place that only your callers reach"
)


class Mistakes(Exception):
    """What keeps the daemon from starting; the text has one line for each."""


@frozen
class Facts:
    """What a check has found out.

    Attributes:
        config: The settings.
        journal: What is in the journal.
        taken: Whether somebody listens where it would.
        files: How many files the process may open.
    """

    config: Config
    journal: Seen
    taken: bool
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
    taken = False
    for where, check_one in ((config.listen, check_prompts), (config.admin, check_admin)):
        if where and parse(where).kind == "systemd" and "LISTEN_FDS" not in environ:
            continue  # systemd passes it to what it starts, and to nobody else
        try:
            check_one(config)
        except PortUnavailable as error:
            if error.taken and journal.in_use:  # by that daemon
                taken = True
            else:
                mistakes.append(str(error))
    if mistakes:
        raise Mistakes("\n".join(mistakes))
    return Facts(config, journal, taken, files)


def check_prompts(config: Config) -> str:
    """See whether prompts can be listened for; returns the endpoint string.

    Raises:
        PortUnavailable: If they can't.
    """
    where = config.listen or port_string(config.port, probe_port(config.port))
    check(where)
    return where


def check_admin(config: Config) -> None:
    """See whether operators can be listened for, if they are to be.

    Raises:
        PortUnavailable: If they can't.
    """
    if config.admin is not None:
        check(config.admin, "admin")


def unguarded(config: Config) -> Sequence[str]:
    """What strangers can do, a line each."""
    prompts = config.listen or f"tcp:{config.port}"
    return [UNGUARDED] if config.auth is None and is_exposed(prompts) else []


def tell(facts: Facts) -> Sequence[str]:
    """What the daemon would do, a line each."""
    config, journal = facts.config, facts.journal
    left = max(0, config.everyday_limit - journal.used)
    lines = {
        "settings": config.origin,
        "listens": (
            (config.listen or f"port {config.port}") + ", where a daemon listens now" * facts.taken
        ),
        "admin": _admin(config),
        "asks": f"{config.model} at {origin_of(config.base_url)}",
        "delivers": f"to {origin_of(config.target)}",
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
        *(f"warning:  {warning}" for warning in (*config.warnings, *unguarded(config))),
    ]


def _admin(config: Config) -> str:
    if config.admin is None:
        return "nowhere"
    open_to_all = config.admin_auth is None and is_exposed(config.admin)
    return config.admin + "; from elsewhere, the metrics alone" * open_to_all


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


def hard_limit() -> int:
    """How many files this process may be allowed to open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 2**31
