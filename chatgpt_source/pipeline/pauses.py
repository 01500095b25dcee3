"""What operators have paused: kept in the journal, and seen by all daemons that use it.

A pause begins at once here, before it is on disk: no claim that is requested later than that is
granted. What was claimed before goes on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import Journal, Pause
from chatgpt_source.journal.pause import ASKING, INTAKE
from chatgpt_source.journal.watch import Watch
from chatgpt_source.log import get_logger
from chatgpt_source.log.audit import audit
from chatgpt_source.prompt import receiver_of

log = get_logger(__name__)

LOOK_EVERY = 1.0
"""Seconds between two looks for what another daemon, or the command, has paused or resumed."""


def in_words(what: str) -> str:
    """What is paused, for people."""
    words = {INTAKE: "the intake", ASKING: "asking"}
    return words.get(what) or f"delivery to {receiver_of(what).name}"


@define(eq=False, repr=False)
class Pauses:
    """Knows what is paused.

    Args:
        clock: The time.
        journal: Has the pauses.
        receivers: The labels of the receivers, which may be paused one by one.
        resumed: Called when something is resumed.
    """

    _clock: IReactorTime
    _journal: Journal
    _receivers: Collection[str]
    _resumed: Callable[[], None] = field(default=lambda: None)
    _known: dict[str, Pause] = field(init=False, factory=dict)
    _resumed_at: dict[str, float] = field(init=False, factory=dict)
    """When each was resumed last, by the steady clock."""
    _beginning: list[str] = field(init=False, factory=list)
    """What is being paused, and is not on disk yet."""
    _changes: int = field(init=False, default=0)
    _watch: Watch = field(init=False)

    @_watch.default
    def _make_watch(self) -> Watch:
        doing = "looking for what is paused"
        return Watch(self._clock, self._journal, LOOK_EVERY, self._look, doing, always=True)

    def start(self, known: Mapping[str, Pause]) -> None:
        """Begin to look, with what the journal had at the start."""
        self._known = dict(known)
        self._resumed_at = {each.what: self._resumption(each) for each in known.values()}
        for pause in self.current:
            log.warn("{what} is paused by {who}", what=in_words(pause.what), who=pause.who)
        self._watch.start()

    def stop(self) -> None:
        """Look no more."""
        self._watch.stop()

    @property
    def what(self) -> Sequence[str]:
        """What may be paused, in order."""
        return (INTAKE, ASKING, *self._receivers)

    @property
    def current(self) -> Sequence[Pause]:
        """What is paused, in order; also a target that is not set any more."""
        paused = [each for each in self._known.values() if not each.resumed]
        order = {what: number for number, what in enumerate(self.what)}
        return sorted(paused, key=lambda each: (order.get(each.what, len(order)), each.what))

    def is_paused(self, what: str) -> bool:
        """Whether something is paused."""
        if what in self._beginning:
            return True
        known = self._known.get(what)
        return known is not None and not known.resumed

    def waited(self, what: str, since: float, now: float) -> float:
        """Seconds that work has waited since an instant, or since it was resumed last.

        Nobody gives up because of a pause, so there are none while it lasts.
        """
        if self.is_paused(what):
            return 0.0
        return now - max(since, self._resumed_at.get(what, since))

    async def pause(self, what: str, who: str) -> Pause:
        """Pause something; returns the pause, an earlier one if it was already.

        Raises:
            JournalUnavailable: If the journal can't be written; then it is not paused.
        """
        self._beginning.append(what)
        try:
            pause = await self._journal.pause(what, who)
            self._note(pause)
        finally:
            self._beginning.remove(what)
        return pause

    async def resume(self, what: str, who: str) -> bool:
        """Resume something; returns whether it was paused.

        Raises:
            JournalUnavailable: If the journal can't be written; then it is still paused.
        """
        resumed = await self._journal.resume(what, who)
        if resumed is not None:
            self._note(resumed)
        return resumed is not None

    async def _look(self) -> None:
        changes = self._changes
        found = await self._journal.pauses()
        if changes == self._changes:  # else it may be older than what is known
            for pause in found.values():
                self._note(pause)

    def _resumption(self, pause: Pause) -> float:
        """When something was resumed, by the steady clock, as the dates are now."""
        return self._clock.seconds() - max(0.0, self._journal.date - pause.since)

    def _note(self, pause: Pause) -> None:
        """Note a pause, or its end; whoever did it, each daemon logs it once."""
        known = self._known.get(pause.what)
        if known == pause:
            return
        self._known[pause.what] = pause
        self._resumed_at[pause.what] = self._resumption(pause)
        self._changes += 1
        if known is None and pause.resumed:  # both since the last look
            return
        audit(pause.who, f"{'resumed' if pause.resumed else 'paused'} {pause.what}")
        if not pause.resumed and pause.what not in self.what:
            words = in_words(pause.what)
            log.warn("{what} is paused, and the settings have no such target", what=words)
        if pause.resumed:
            self._resumed()
