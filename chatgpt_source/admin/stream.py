"""The live page's streams of server-sent events, few and of bounded memory.

When something happens, a round renders what changed since each viewer's last event, and sends it.
What happens meanwhile is sent by the next round. A viewer that does not read is skipped, then
dropped.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from chatgpt_source.admin.view import Query
from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.log import get_logger, log_unexpected

log = get_logger(__name__)

MOST = 32
"""Streams that may be open at once."""
SPACING = 0.4
"""The least number of seconds from the end of a round to the start of the next."""
SHARE = 5
"""Rounds may take this fraction (1/n) of the time: the longer one took, the later the next."""
LONGEST = 10.0
"""The most seconds that this puts a round off: the process stood still in one that took longer."""
GATHER = 0.1
"""The least number of seconds from an event to the round that shows it."""
BEAT = 5.0
"""The most seconds between two rounds, as the shown ages grow."""
PULSE = 2.0
"""The most seconds between two heartbeats: a viewer should notice soon that there is none."""
SLOW = 30.0
"""Seconds after which a viewer that does not read is dropped."""

HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}

Fragments = Mapping[str, str]
"""The HTML of each fragment, by its id."""
Render = Callable[[AbstractSet[Query]], Awaitable[Mapping[Query, Fragments]]]
"""Renders what each query shows."""


@implementer(IPushProducer)
@define(eq=False, repr=False)
class Stream:
    """One viewer's stream.

    Attributes:
        query: What the viewer sees.
        paused: Since when the viewer has not read; None if it reads.
    """

    query: Query
    _request: BoundedRequest
    _clock: IReactorTime
    _resumed: Callable[[], None]
    paused: float | None = field(init=False, default=None)
    _sent: Fragments = field(init=False, factory=dict)

    def send(self, fragments: Fragments) -> None:
        """Send what changed, or a heartbeat if nothing did."""
        changed = {id_: html for id_, html in fragments.items() if self._sent.get(id_) != html}
        self._sent = fragments
        self._request.send(f"data: {json.dumps(changed)}\n\n".encode("ascii"))

    def pulse(self) -> None:
        """Send a heartbeat, if the viewer reads and what it shows is current."""
        if self.paused is None and self._sent:
            self._request.send(b"data: {}\n\n")

    def pauseProducing(self) -> None:
        """Note that the viewer does not read."""
        self.paused = self._clock.seconds()

    def resumeProducing(self) -> None:
        """Note that the viewer reads again."""
        self.paused = None
        self._resumed()

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost, and the request is told."""

    def close(self) -> None:
        """End at once, even if something is unread."""
        self._request.abort()


class Streams:
    """The open streams, and when they send.

    Args:
        clock: The time.
        render: Renders what the streams show.
    """

    def __init__(self, clock: IReactorTime, render: Render) -> None:
        self._clock = clock
        self._render = render
        self._open: set[Stream] = set()
        self._next: IDelayedCall | None = None
        self._rounding = False
        self._touched = False
        self._pause = SPACING
        self._begun = self._ended = float("-inf")
        self._failed = False
        self._pulse = LoopingCall(self._pulse_all)
        self._pulse.clock = clock

    def open(self, request: BoundedRequest, query: Query) -> None:
        """Open a stream; it lasts until one side ends it.

        Raises:
            Problem: 503 if too many are open.
        """
        if len(self._open) >= MOST:
            told = (
                f"{MOST} pages are live already: close one, or reload this one to see what is new"
            )
            raise Problem(503, told, {"Retry-After": "10"})
        stream = Stream(query, request, self._clock, self.touch)
        self._open.add(stream)
        request.notifyFinish().addBoth(self._closed, stream)
        request.begin(HEADERS, stream)
        request.send(b"retry: 2000\n\n")
        if not self._pulse.running:
            self._pulse.start(PULSE, now=False)
        self.touch()

    def touch(self) -> None:
        """Something happened: start a round soon."""
        self._touched = True
        if self._open and not self._rounding:
            self._round_in(max(GATHER, self._ended + self._pause - self._clock.seconds()))

    def close(self) -> None:
        """End all streams at once."""
        for stream in [*self._open]:
            stream.close()
        self._open.clear()
        self._cancel()

    def _closed(self, _: object, stream: Stream) -> None:
        self._open.discard(stream)
        if not self._open:
            self._cancel()

    def _round_in(self, seconds: float) -> None:
        at = self._clock.seconds() + seconds
        if self._next is not None and self._next.active():
            if self._next.getTime() > at:
                self._next.reset(seconds)
            return
        self._next = self._clock.callLater(seconds, self._start)

    def _cancel(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        if self._pulse.running:
            self._pulse.stop()

    def _pulse_all(self) -> None:
        """Send heartbeats, unless the last round failed, or this one hangs: nothing is current."""
        hangs = self._rounding and self._clock.seconds() - self._begun > BEAT
        if not self._failed and not hangs:
            for stream in [*self._open]:
                stream.pulse()

    def _start(self) -> None:
        told = partial(log_unexpected, log, "a round of the live page")
        Deferred.fromCoroutine(self._round()).addErrback(told)

    async def _round(self) -> None:
        begun = self._begun = self._clock.seconds()
        for stream in [*self._open]:
            if stream.paused is not None and begun - stream.paused > SLOW:
                stream.close()
        self._rounding, self._touched, failed = True, False, True
        try:
            ready = {stream for stream in self._open if stream.paused is None}
            rendered = await self._render({stream.query for stream in ready})
            for stream in ready & self._open:
                stream.send(rendered[stream.query])
            failed = False
        finally:
            self._rounding, self._failed = False, failed
            self._ended = self._clock.seconds()
            self._pause = min(max(SPACING, SHARE * (self._ended - begun)), LONGEST)
            if self._open:
                self._round_in(self._pause if self._touched else max(BEAT, self._pause))
