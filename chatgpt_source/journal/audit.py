"""Logs what operators' commands have done to the journal: one line for each entry, once."""

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.journal import Journal
from chatgpt_source.journal.watch import Watch
from chatgpt_source.log.audit import audit

LOOK_EVERY = 2.0
"""Seconds between two looks."""


@define(eq=False, repr=False)
class AuditWatch:
    """Looks for what commands have done; of daemons that share a journal, one logs it.

    Args:
        clock: The time.
        journal: Has the entries.
    """

    _clock: IReactorTime
    _journal: Journal
    _watch: Watch = field(init=False)

    @_watch.default
    def _make_watch(self) -> Watch:
        doing = "looking for what operators have done"
        return Watch(self._clock, self._journal, LOOK_EVERY, self._look, doing, always=True)

    def start(self) -> None:
        """Begin to look."""
        self._watch.start()

    def stop(self) -> None:
        """Look no more."""
        self._watch.stop()

    async def _look(self) -> None:
        if await self._journal.has_audit_entries():
            for entry in await self._journal.take_audit_entries():
                audit(entry.who, entry.did)
