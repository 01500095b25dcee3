"""Lets callers wait for the end of asking of their prompts, many at a time.

A waiter costs one timer and no polling: the observers' telling ends its wait. Of what another
daemon does, where several share a journal, that tells: one query for all who wait.
"""

from collections import deque
from collections.abc import Collection, Iterable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chatgpt_source.http.server.connections import MOST_CONNECTIONS
from chatgpt_source.journal import Journal
from chatgpt_source.journal.states import ASKING
from chatgpt_source.journal.watch import Watch
from chatgpt_source.telemetry.observer import AskEnded, Observer

LOOK_EVERY = 0.5
"""Seconds between two looks for prompts that other daemons have asked."""
MOST_WAITERS = MOST_CONNECTIONS // 2
"""The most waiters, however many connections there may be."""
AT_ONCE = 25
"""Waits that end in one turn of the reactor; the rest end in the next turns."""


@define(eq=False, repr=False)
class Waiter:
    """A caller who waits.

    Attributes:
        prompt_id: The prompt's id.
        until: When it gives up, by the steady clock.
        done: Fires with True once asking has ended; with False if it gave up before.
    """

    prompt_id: str
    until: float
    done: Deferred[bool] = field(init=False, factory=Deferred)
    timer: IDelayedCall | None = field(init=False, default=None)

    def end(self, *, ended: bool) -> None:
        """End the wait, unless it has ended."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        if not self.done.called:
            self.done.callback(ended)

    def give_up(self) -> None:
        """End the wait before its time."""
        self.end(ended=False)


class Waiters(Observer):
    """Those who wait, by their prompts.

    Args:
        clock: The time.

    Attributes:
        at_most: How many there may be.
    """

    def __init__(self, clock: IReactorTime, at_most: int = MOST_WAITERS) -> None:
        self.at_most = at_most
        self._clock = clock
        self._of: dict[str, dict[Waiter, None]] = {}
        self._number = 0
        self._ending: deque[tuple[Waiter, bool]] = deque()
        self._stopped: Deferred[None] | None = None

    def __len__(self) -> int:
        return self._number

    def join(self, prompt_id: str, seconds: float) -> Waiter | None:
        """Begin to wait; None if too many wait, or the daemon is stopping.

        Whoever joins leaves, however the wait ends.
        """
        if self._stopped is not None or self._number >= self.at_most:
            return None
        waiter = Waiter(prompt_id, self._clock.seconds() + seconds)
        waiter.timer = self._clock.callLater(seconds, self._end, [waiter], ended=False)
        self._add(waiter)
        return waiter

    @property
    def prompts(self) -> Collection[str]:
        """The ids of the prompts that somebody waits for."""
        return self._of.keys()

    def end(self, prompt_id: str) -> None:
        """End the waits for a prompt whose asking has ended."""
        self._end(self._of.get(prompt_id, ()), ended=True)

    def move(self, waiter: Waiter, prompt_id: str) -> None:
        """Let a waiter wait for another prompt: the one that its own repeats."""
        self._remove(waiter)
        waiter.prompt_id = prompt_id
        self._add(waiter)

    def leave(self, waiter: Waiter) -> bool:
        """End a wait, if it has not ended; returns whether it was the last for its prompt."""
        waiter.give_up()
        self._remove(waiter)
        if self._stopped is not None and not self._number:
            self._stopped.callback(None)
        return waiter.prompt_id not in self._of

    def stop(self) -> Deferred[None]:
        """End all waits, and let no other begin; fires once all have left. Called once."""
        self._stopped = Deferred()
        self._end([waiter for waiters in self._of.values() for waiter in waiters], ended=False)
        if not self._number:
            self._stopped.callback(None)
        return self._stopped

    def asked(self, ended: AskEnded) -> None:
        """A call to the model has ended, and with it perhaps the asking."""
        if ended.state is not None and ended.state not in ASKING:
            self.end(ended.id)

    def cancelled(self, *, prompt_id: str) -> None:
        """A prompt was cancelled."""
        self.end(prompt_id)

    def _add(self, waiter: Waiter) -> None:
        self._of.setdefault(waiter.prompt_id, {})[waiter] = None
        self._number += 1

    def _remove(self, waiter: Waiter) -> None:
        others = self._of[waiter.prompt_id]
        del others[waiter]
        self._number -= 1
        if not others:
            del self._of[waiter.prompt_id]

    def _end(self, waiters: Iterable[Waiter], *, ended: bool) -> None:
        is_idle = not self._ending
        self._ending.extend((waiter, ended) for waiter in waiters)
        if is_idle and self._ending:
            self._clock.callLater(0, self._end_some)

    def _end_some(self) -> None:
        for _ in range(min(AT_ONCE, len(self._ending))):
            waiter, ended = self._ending[0]
            waiter.end(ended=ended)
            self._ending.popleft()  # after that, so that this is not scheduled twice
        if self._ending:
            self._clock.callLater(0, self._end_some)


@define(eq=False, repr=False)
class Elsewhere:
    """Ends the waits for prompts that other daemons have asked.

    Args:
        clock: The time.
        journal: Where the prompts are.
        waiters: Those who wait.
    """

    _clock: IReactorTime
    _journal: Journal
    _waiters: Waiters
    _watch: Watch = field(init=False)

    @_watch.default
    def _make_watch(self) -> Watch:
        doing = "looking for answers to prompts"
        return Watch(self._clock, self._journal, LOOK_EVERY, self._look, doing)

    def start(self) -> None:
        """Begin to look, if there may be others."""
        self._watch.start()

    def stop(self) -> None:
        """Look no more."""
        self._watch.stop()

    async def _look(self) -> None:
        wanted = [*self._waiters.prompts]
        for prompt_id in await self._journal.ended_asking(wanted) if wanted else ():
            self._waiters.end(prompt_id)
