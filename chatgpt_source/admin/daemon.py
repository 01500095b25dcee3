"""Which daemon answers, and how many share its journal."""

import os
from typing import Any

from attrs import asdict, frozen
from twisted.web.template import Tag, tags

from chatgpt_source.admin.markup import element
from chatgpt_source.admin.words import count
from chatgpt_source.identity import host_name
from chatgpt_source.journal import Journal, Tally

OWN = (
    "What is not well and the calls are this daemon’s own; all else is the journal’s, and so the"
    " same at each."
)


@frozen
class Daemon:
    """A daemon among those that may share a journal.

    Attributes:
        name: Its host's name; in a pod, the pod's.
        pid: Its process's id.
        owner: The number of its run among all that have used the journal.
        daemons: How many use the journal; None if that was never read.
        shared: Whether others may use the journal at the same time.
    """

    name: str = ""
    pid: int = 0
    owner: int | None = None
    daemons: int | None = None
    shared: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The daemon for JSON."""
        return asdict(self)


def this_daemon(journal: Journal, tally: Tally | None) -> Daemon:
    """The daemon of this process.

    Args:
        journal: Its journal.
        tally: The journal's last known counts.
    """
    daemons = None if tally is None else tally.daemons
    return Daemon(host_name(), os.getpid(), journal.owner, daemons, journal.is_shared)


def fragment(daemon: Daemon) -> Tag:
    """The line about it, and whose figures the page has if there may be others."""
    told = tags.span("answered by ", tags.code(daemon.name), f", process {daemon.pid}")
    if daemon.shared:
        many = "" if daemon.daemons is None else f" of {count(daemon.daemons, 'daemon')}"
        told(f", one{many} on this journal. {OWN}")
    return element("p", told, id="daemon")
