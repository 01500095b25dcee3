"""`twistd chatgpt-source --check`: says what the daemon would do, without doing it."""

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
from chatgpt_source.journal.sqlite.look import Seen, look
from chatgpt_source.prompt import State
from chatgpt_source.quota import day_at

UNGUARDED = (
    "anyone who reaches the prompt port can spend the day's prompts: set `auth`, or set `listen` to"
    " a place that only your callers reach"
)


class Mistakes(Exception):
    """What keeps the daemon from starting; the text has one line for each."""


@frozen
class Facts:
    """What a check has found.

    Attributes:
        config: The settings.
        journal: What is in the journal.
        taken: Whether a running daemon has the ports.
        files: The number of files that the process may open.
    """

    config: Config
    journal: Seen
    taken: bool
    files: int


def gather(environ: Mapping[str, str], twistd: Mapping[str, Any], now: float) -> Facts:
    """Read the settings and the journal, and probe the ports.

    Args:
        environ: The environment.
        twistd: twistd's own options.
        now: The time.

    Raises:
        Mistakes: If the daemon would not start, even after the running one has stopped.
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
            continue  # systemd passes the socket only to the service that it starts
        try:
            check_one(config)
        except PortUnavailable as error:
            if error.taken and journal.in_use:  # by the daemon that uses the journal
                taken = True
            else:
                mistakes.append(str(error))
    if mistakes:
        raise Mistakes("\n".join(mistakes))
    return Facts(config, journal, taken, files)


def check_prompts(config: Config) -> str:
    """Check that the daemon could listen for prompts; returns the endpoint string.

    Raises:
        PortUnavailable: If they can't.
    """
    where = config.listen or port_string(config.port, probe_port(config.port))
    check(where)
    return where


def check_admin(config: Config) -> None:
    """Check that the daemon could listen for operators, if `admin` is set.

    Raises:
        PortUnavailable: If they can't.
    """
    if config.admin is not None:
        check(config.admin, "admin")


def unguarded(config: Config) -> Sequence[str]:
    """Warnings about unprotected ports, one line each."""
    prompts = config.listen or f"tcp:{config.port}"
    return [UNGUARDED] if config.auth is None and is_exposed(prompts) else []


def tell(facts: Facts) -> Sequence[str]:
    """What the daemon would do, one line each."""
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
    return config.admin + "; other machines get only the metrics" * open_to_all


def _schema(journal: Seen) -> str:
    if journal.schema is None:
        return "it would be created"
    if journal.schema < journal.current:
        return f"schema {journal.schema}, which would become {journal.current}"
    return f"schema {journal.schema}"


def journal_path(config: Config, twistd: Mapping[str, Any]) -> Path:
    """The journal's path; a relative one is in twistd's --rundir."""
    return Path(twistd.get("rundir", "."), config.journal).absolute()


def changes_user(twistd: Mapping[str, Any]) -> bool:
    """Whether twistd will change the user, so that our own permissions say nothing."""
    return bool(twistd.get("uid") or twistd.get("gid"))


def hard_limit() -> int:
    """The hard limit of open files."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 2**31
