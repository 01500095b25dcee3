"""The callers' connections: how many there are, and which must go.

A sweep each second ends those whose time is up: with a timer for each, ten thousand idle callers
would slow the reactor for all.
"""

from enum import Enum
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

MOST_CONNECTIONS = 20_000
"""However many files may be open: each costs some KiB."""
TELL_EVERY = 60.0
"""Seconds between two log lines that say that the door is full."""


class Stage(Enum):
    """How far a connection has come with its request; the earlier ones are the first to be shed."""

    CLOSING = "closing"
    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    ANSWERING = "answering"


class Connection(Protocol):
    """One of them.

    Attributes:
        stage: Set by `Connections.move` alone, until it is discarded.
        deadline: When `expire` is to be called, if it is neither answering nor gone then.
    """

    stage: Stage
    deadline: float

    def expire(self, now: float) -> None:
        """End what has taken too long."""

    def abort(self) -> None:
        """Close at once, and be discarded."""


class Connections:
    """The open connections, each ended when its time is up, and some when there are too many.

    Args:
        clock: Says how late it is.
        at_most: How many there may be; more of them are admitted by shedding the one that has
            waited the longest, and never one whose request is being answered.
    """

    def __init__(self, clock: IReactorTime, at_most: int = MOST_CONNECTIONS) -> None:
        self.at_most = at_most
        self._clock = clock
        self._stages: dict[Stage, dict[Connection, None]] = {stage: {} for stage in Stage}
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock
        self._told = float("-inf")

    def __len__(self) -> int:
        return sum(map(len, self._stages.values()))

    def now(self) -> float:
        """The time that deadlines are told in."""
        return self._clock.seconds()

    def admit(self, channel: Connection) -> bool:
        """Take in a new connection, if need be in the place of another; whether there was room."""
        room = len(self) < self.at_most or self._shed()
        if room:
            self._stages[channel.stage][channel] = None
            if not self._sweeping.running:
                self._sweeping.start(1.0, now=False).addErrback(self._broken)
        return room

    def move(self, channel: Connection, stage: Stage) -> None:
        """Take note of a connection's new stage."""
        if channel in self._stages[channel.stage]:
            del self._stages[channel.stage][channel]
            self._stages[stage][channel] = None
        channel.stage = stage

    def discard(self, channel: Connection) -> None:
        """Forget a connection."""
        self._stages[channel.stage].pop(channel, None)
        if self._sweeping.running and not len(self):
            self._sweeping.stop()

    def _shed(self) -> bool:
        self._tell()
        for stage in (Stage.CLOSING, Stage.IDLE, Stage.HEAD, Stage.BODY):
            for channel in self._stages[stage]:
                channel.abort()
                return True
        return False

    def _tell(self) -> None:
        if self.now() - self._told >= TELL_EVERY:
            self._told = self.now()
            log.warn(
                "{number} connections are open, as many as there may be: those that have waited"
                " the longest are closed for new ones",
                number=len(self),
            )

    def _sweep(self) -> None:
        now = self.now()
        for stage in (Stage.CLOSING, Stage.IDLE, Stage.HEAD, Stage.BODY):
            for channel in [each for each in self._stages[stage] if each.deadline <= now]:
                channel.expire(now)

    def _broken(self, failure: Failure) -> None:
        log_unexpected(log, "ending connections whose time is up", failure)
        again: Deferred[Any] = self._sweeping.start(1.0, now=False)
        again.addErrback(self._broken)
