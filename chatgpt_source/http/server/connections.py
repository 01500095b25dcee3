"""Bounds the number of callers' connections, and ends those whose time is up.

A continuous sweep in small steps ends them. A timer for each, or ending ten thousand at once, would
slow the reactor for all.
"""

from collections.abc import Container
from enum import Enum
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

MOST_CONNECTIONS = 20_000
"""The most connections, whatever the limit of open files: each costs some KiB."""
MOST_KEPT = 16
KEPT_SHARE = 8
"""Connections reserved for probes: so many, or one in so many of all, if that is fewer."""
STEP = 0.05
"""Seconds between two steps of the sweep; a whole sweep has 20 steps."""
LOOKED_AT = 25
"""The least number of connections that a step checks, and may end."""
TELL_EVERY = 60.0
"""Seconds between two log lines that say that all connections are taken."""


class Stage(str, Enum):
    """The stage of a connection's request; connections in earlier stages are shed first."""

    CLOSING = "closing"
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"


_EXPIRING = (Stage.CLOSING, Stage.IDLE, Stage.HEAD, Stage.BODY)


class Connection(Protocol):
    """One connection.

    Attributes:
        stage: Set only by `Connections.move`, until the connection is discarded.
        deadline: When `expire` is to be called, if it is neither answering nor gone then.
    """

    stage: Stage
    deadline: float

    def expire(self, now: float) -> None:
        """End a request or a connection that has taken too long."""

    def abort(self) -> None:
        """Close at once, and be discarded."""


class Connections:
    """The open connections; ends each when its time is up, and some if there are too many.

    Args:
        clock: The time.
        at_most: How many there may be. A further one is admitted by shedding the one that has
            waited the longest, but never one whose request is being answered.
        keep: Whether some are reserved for probes, which are then answered while all others are
            taken. `is_kept` says which.
    """

    def __init__(
        self, clock: IReactorTime, at_most: int = MOST_CONNECTIONS, *, keep: bool = False
    ) -> None:
        self.at_most = at_most
        self._keep = keep
        self._kept: dict[Connection, None] = {}
        self._new: dict[Connection, None] = {}
        self._when_heard: Deferred[None] | None = None
        self._clock = clock
        self._stages: dict[Stage, dict[Connection, None]] = {stage: {} for stage in Stage}
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock
        self._unswept: list[Connection] = []
        self._told = float("-inf")

    def __len__(self) -> int:
        return sum(map(len, self._stages.values()))

    def now(self) -> float:
        """The current time, for deadlines."""
        return self._clock.seconds()

    def admit(self, channel: Connection) -> bool:
        """Add a connection, if necessary in place of another; returns whether there was room."""
        room = self._has_room()
        if not room and self._most_kept:
            room = len(self._kept) < self._most_kept or self._shed(self._kept)
            if room:
                self._kept[channel] = None
        if room:
            self._stages[channel.stage][channel] = self._new[channel] = None
            if not self._sweeping.running:
                self._sweeping.start(STEP, now=False).addErrback(self._broken)
        return room

    def is_kept(self, channel: Connection) -> bool:
        """Whether a connection is one of those for probes; no longer once there is other room."""
        if channel in self._kept and self._has_room():
            del self._kept[channel]
        return channel in self._kept

    def move(self, channel: Connection, stage: Stage) -> None:
        """Set a connection's stage."""
        if channel in self._stages[channel.stage]:
            del self._stages[channel.stage][channel]
            self._stages[stage][channel] = None
        channel.stage = stage
        if stage is Stage.ANSWERING and channel in self._new:
            self._hear(channel)

    def discard(self, channel: Connection) -> None:
        """Remove a connection."""
        self._stages[channel.stage].pop(channel, None)
        self._kept.pop(channel, None)
        self._hear(channel)
        if self._sweeping.running and not len(self):
            self._sweeping.stop()

    def all_heard(self) -> Deferred[None]:
        """Fires once each connection has had a whole request, or has ended."""
        self._when_heard = Deferred()
        fires = self._when_heard
        self._tell_heard()
        return fires

    def _hear(self, channel: Connection) -> None:
        self._new.pop(channel, None)
        self._tell_heard()

    def _tell_heard(self) -> None:
        if self._when_heard is not None and not self._new:
            heard, self._when_heard = self._when_heard, None
            heard.callback(None)

    @property
    def _most_kept(self) -> int:
        return min(MOST_KEPT, self.at_most // KEPT_SHARE) if self._keep else 0

    def _has_room(self) -> bool:
        """Whether there is room for one that is not for probes, if necessary by shedding one."""
        room = len(self) - len(self._kept) < self.at_most - self._most_kept
        return room or self._shed()

    def _shed(self, among: Container["Connection"] | None = None) -> bool:
        """End the one that has waited the longest, of some or of those that are not for probes."""
        self._tell()
        for stage in _EXPIRING:
            for channel in self._stages[stage]:
                if (channel in among) if among is not None else (channel not in self._kept):
                    channel.abort()
                    return True
        return False

    def _tell(self) -> None:
        if self.now() - self._told >= TELL_EVERY:
            self._told = self.now()
            log.warn(
                "{number} connections are open, which is the limit: those that have waited"
                " the longest are closed for new ones",
                number=len(self),
            )

    def _sweep(self) -> None:
        """Take one step: check a part of the connections, and end those whose time is up."""
        now, number = self.now(), len(self)
        if not self._unswept:
            self._unswept = [each for stage in _EXPIRING for each in self._stages[stage]]
        may_end = max(LOOKED_AT, number // 200)
        for _ in range(max(LOOKED_AT, number // 20)):
            if not self._unswept or not may_end:
                break
            channel = self._unswept.pop()
            waits = channel.stage in _EXPIRING and channel in self._stages[channel.stage]
            if waits and channel.deadline <= now:
                may_end -= 1
                channel.expire(now)

    def _broken(self, failure: Failure) -> None:
        log_unexpected(log, "ending connections whose time is up", failure)
        again: Deferred[Any] = self._sweeping.start(STEP, now=False)
        again.addErrback(self._broken)
