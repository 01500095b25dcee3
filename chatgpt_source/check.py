"""`twistd chatgpt-source --check`: says what the daemon would do, without doing it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from chatgpt_source.config import Config, ConfigError, load, require_files
from chatgpt_source.errors import JournalError
from chatgpt_source.files import hard_limit
from chatgpt_source.http.listen import check, have_one_port, is_exposed, is_shared, port_string
from chatgpt_source.http.listen.probe import probe_port
from chatgpt_source.http.listen.string import PortUnavailable, parse
from chatgpt_source.http.server import origin_of
from chatgpt_source.journal.engine import Engine, engine_of
from chatgpt_source.journal.seen import Seen
from chatgpt_source.prompt import State
from chatgpt_source.quota import day_at
from chatgpt_source.terminal import look_of

UNGUARDED = (
    "anyone who reaches the prompt port can spend the day's prompts: set `auth`, or set `listen` to"
    " a place that only your callers reach"
)
ADMIN_SHARED = (
    "`admin` must not have reusePort=yes: each process has its own metrics and page, so give each a"
    " port of its own"
)
OPEN_TO_ALL = "only the metrics and the probes"
"""What the admin site has for other machines, if it asks for no credentials."""
ADMIN_ON_PROMPTS_PORT = (
    "`admin` must have another port than the prompts: the two sites are kept apart, as prompts may"
    " come from anywhere"
)


class Mistakes(SystemExit):
    """What keeps the daemon from starting; the text, for standard error, has a line for each."""

    def __init__(self, mistakes: str) -> None:
        super().__init__(look_of(sys.stderr, os.environ).fold(mistakes, "  "))


@frozen
class Facts:
    """The findings of a check.

    Attributes:
        config: The settings.
        engine: Opens the journal.
        journal: The content of the journal; at a start, only its place.
        where: The endpoint string for prompts.
        taken: Whether a running daemon has the ports.
        files: The number of files that the process may open.
    """

    config: Config
    engine: Engine
    journal: Seen
    where: str
    taken: bool
    files: int


def gather(
    environ: Mapping[str, str], twistd: Mapping[str, Any], now: float, *, starting: bool = False
) -> Facts:
    """Read the settings, and find everything that keeps the daemon from starting with them.

    Args:
        environ: The environment.
        twistd: twistd's own options.
        now: The time.
        starting: Whether this is a start. A start creates the journal, unless twistd changes the
            user, and needs its ports now. A check creates nothing, and ignores the ports of a
            running daemon with the same journal.

    Raises:
        Mistakes: If the daemon would not start.
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
    # a user that twistd changes to may do what we may not
    mine = not (twistd.get("uid") or twistd.get("gid"))
    journal = Seen(config.journal)
    try:
        engine = journal_engine(config, Path(twistd.get("rundir", ".")))
        journal = Seen(engine.location)
        if not starting:
            today = day_at(now, config.timezone).date
            journal = engine.look(today, now, as_writer=mine)
        elif mine:  # after a fork, a start that fails has no line of its own on the terminal
            engine.check(by_writing=not twistd.get("nodaemon"))
    except JournalError as error:
        mistakes.append(str(error))
    where, unavailable = _find_ports(config, environ, starting=starting)
    own = [error for error in unavailable if error.taken and journal.users]  # the running daemon's
    mistakes += [str(error) for error in unavailable if error not in own]
    if mistakes:
        raise Mistakes("\n".join(mistakes))
    return Facts(config, engine, journal, where, bool(own), files)


def journal_engine(config: Config, folder: Path) -> Engine:
    """The engine of the journal that the settings name.

    Args:
        config: The settings.
        folder: twistd's `--rundir`, where a relative path begins.

    Raises:
        JournalError: If there is none.
    """
    password = config.journal_password
    return engine_of(config.journal, None if password is None else password.read, folder)


def _find_ports(
    config: Config, environ: Mapping[str, str], *, starting: bool
) -> tuple[str, list[PortUnavailable]]:
    """The endpoint string for prompts, and the mistakes of `listen` and `admin`."""
    prompts, unavailable = config.listen or "", []
    try:
        prompts = prompts or port_string(config.port, probe_port(config.port))
    except PortUnavailable as error:
        unavailable.append(error)
    # systemd passes its sockets only to the service that it starts
    passed = starting or "LISTEN_FDS" in environ
    if config.admin is not None and is_shared(config.admin):
        unavailable.append(PortUnavailable(ADMIN_SHARED))
    if config.admin is not None and prompts and have_one_port(config.admin, prompts):
        unavailable.append(PortUnavailable(ADMIN_ON_PROMPTS_PORT))
    for key, where in (("listen", config.listen), ("admin", config.admin)):
        try:
            if where is not None and (passed or parse(where).kind != "systemd"):
                check(where, key)
        except PortUnavailable as error:  # noqa: PERF203 - all mistakes at once
            unavailable.append(error)
    return prompts, unavailable


def unguarded(config: Config) -> Sequence[str]:
    """Warnings about unprotected ports, one line each."""
    prompts = config.listen or f"tcp:{config.port}"
    return [UNGUARDED] if config.auth is None and is_exposed(prompts) else []


def _answers(config: Config) -> str:
    """What callers may do beside sending prompts."""
    wait = f"callers may wait {config.max_wait:g} s" if config.max_wait >= 1 else "no caller waits"
    keep = f"; kept {config.keep_answers:g} s after delivery" if config.keep_answers else ""
    reply = f"; replies to brokers within {config.reply:g} s" if config.reply else ""
    late = f"; not asked after {config.deadline:g} s" if config.deadline is not None else ""
    return f"{wait}{keep}{reply}{late}"


def tell(facts: Facts) -> Sequence[str]:
    """What the daemon would do, one line each."""
    config, journal = facts.config, facts.journal
    left = max(0, config.everyday_limit - journal.used)
    lines = {
        "settings": config.origin,
        "listens": _listens(facts),
        "admin": _admin(config),
        "asks": f"{config.model} at {origin_of(config.base_url)}{_by(config)}{_later(config)}",
        **_otherwise(config),
        "delivers": "; ".join(
            [
                f"to {origin_of(config.target)}",
                *(f"`{name}` to {origin_of(each.url)}" for name, each in config.targets.items()),
            ]
        ),
        "answers": _answers(config),
        **_prices(config),
        "limit": (
            f"{config.everyday_limit} prompts a day ({config.timezone.key}); {left} left today"
        ),
        "journal": f"{journal.location} ({_schema(journal)}{_users(journal)})",
        "prompts": ", ".join(f"{journal.prompts[state]} {state.value}" for state in State),
        "at once": f"{journal.to_ask} to ask, {journal.to_deliver} to deliver",
        "files": f"{facts.files} may be open",
    }
    return [
        "chatgpt-source would start"
        + (
            ", once the daemon that uses this journal has stopped"
            if journal.users and not journal.shared
            else ""
        ),
        *(f"{name + ':':<10}{value}" for name, value in lines.items()),
        *(
            f"warning:  {warning}"
            for warning in (*config.warnings, *unguarded(config), *_taken(facts))
        ),
    ]


def _taken(facts: Facts) -> Sequence[str]:
    """A warning about ports in use, where the daemon that has them may be another one."""
    if not (facts.taken and facts.journal.shared):
        return []
    return ["a port is in use: by this daemon, if it runs; else it can't start there"]


def _later(config: Config) -> str:
    """How prompts are asked that have time."""
    told = ""
    if config.flex_over is not None:
        told += f"; on its flex tier with more than {config.flex_over:g} s to the deadline"
    if config.batch_over is not None:
        told += f"; in batches with more than {config.batch_over:g} s to the deadline"
    if told and config.deadline is None:
        told += " (of prompts that name one: `deadline` is not set)"
    return told


def _otherwise(config: Config) -> Mapping[str, str]:
    """Who is asked if the model fails."""
    if not config.fallbacks:
        return {}
    after = " or is slow" if config.fallback_after_timeout else ""
    named = (
        f"`{name}`: {each.model} at {origin_of(each.base_url)}{_by(each)}"
        for name, each in config.of_fallbacks.items()
    )
    return {"or asks": f"if that fails{after}, {'; '.join(named)}"}


def _prices(config: Config) -> Mapping[str, str]:
    """Of which models the costs are counted."""
    return {"prices": f"of {', '.join(config.prices)}"} if config.prices else {}


def _listens(facts: Facts) -> str:
    where = facts.config.listen or f"port {facts.config.port}"
    return f"{where}, where a daemon listens now" if facts.taken else where


def _by(config: Config) -> str:
    background = ", in the background" if config.background else ""
    by = f" by the Responses API{background}" if config.api == "responses" else ""
    form = config.response_format or {"type": "text"}
    shapes = {"json_object": ", for JSON objects", "json_schema": ", for JSON by a schema"}
    return by + shapes.get(form["type"], "")


def _admin(config: Config) -> str:
    if config.admin is None:
        return "nowhere"
    if config.admin_auth is None and is_exposed(config.admin):
        return f"{config.admin}; other machines get {OPEN_TO_ALL}"
    return config.admin


def _schema(journal: Seen) -> str:
    if journal.schema is None:
        return "it would be created"
    if journal.current is not None and journal.schema < journal.current:
        return f"schema {journal.schema}, which would become {journal.current}"
    return f"schema {journal.schema}"


def _users(journal: Seen) -> str:
    """How many daemons share a journal."""
    if not journal.shared:
        return ""
    many = {0: "no daemon uses", 1: "1 daemon uses"}
    return f"; {many.get(journal.users, f'{journal.users} daemons use')} it"
