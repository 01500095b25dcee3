"""A journal in memory: as much of one as the door needs."""

from collections.abc import Callable, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed

from chatgpt_source.errors import Draining, KeyReused, NotCancelled, TooLate
from chatgpt_source.journal import Admitted, Cancelled, Kept, Key, Record, Submission, Terms
from chatgpt_source.journal.states import ASKING
from chatgpt_source.prompt import Prompt, State


class MemoryJournal:
    """Keeps prompts in memory.

    Args:
        date: The date.

    Attributes:
        prompts: The prompts, by id.
        needs: Until when each is needed.
        unneeded_: The ids that are needed no longer, in this order.
        claimed: Whether a claim was requested, for each acceptance.
        forgotten: The ids that were cancelled, if what a provider keeps of them is to be deleted.
    """

    is_shared = False
    fault = claim_asks = claim_deliveries = claim_expired = claim_submitted = None
    claim_leftovers = None

    def __init__(self, date: Callable[[], float]) -> None:
        self._date = date
        self.prompts: dict[str, Prompt] = {}
        self.needs: dict[str, float] = {}
        self.unneeded_: list[str] = []
        self.claimed: list[bool] = []
        self.forgotten: list[str] = []
        self._kept: dict[str, Kept] = {}
        self._keys: dict[Key, str] = {}
        self._used = 0

    @property
    def date(self) -> float:
        return self._date()

    def accept(
        self, submissions: Sequence[Submission], terms: Terms, *, claim: bool = False
    ) -> Deferred[Sequence[Admitted]]:
        self.claimed.append(claim)
        known = [self._keys.get(each.key) if each.key else None for each in submissions]
        if terms.draining and None in known:
            return fail(Draining("stopping", retry_after=1))
        for each, earlier in zip(submissions, known, strict=True):
            if each.late and earlier is None:
                return fail(TooLate())
            other = earlier and self.prompts[earlier].text != each.prompt.text
            if other and each.key and not each.key.any_content:
                return fail(KeyReused())
        self._used += known.count(None)
        left = terms.limit - self._used
        return succeed(
            [
                Admitted(earlier, left, repeated=True) if earlier else self._store(each, left)
                for each, earlier in zip(submissions, known, strict=True)
            ]
        )

    def _store(self, submission: Submission, left: int) -> Admitted:
        prompt = submission.prompt
        self.prompts[prompt.id] = prompt
        record = Record(
            prompt.id, State.ACCEPTED, prompt.accepted, None, None, 0, 0, None, target=prompt.target
        )
        self._kept[prompt.id] = Kept(record, None)
        if submission.key is not None:
            self._keys[submission.key] = prompt.id
        if submission.needed_until is not None:
            self.needs[prompt.id] = submission.needed_until
        return Admitted(prompt.id, left)

    def record(self, prompt_id: str) -> Deferred[Record | None]:
        kept = self._kept.get(prompt_id)
        return succeed(None if kept is None else kept.record)

    def kept(self, prompt_id: str, needed_until: float | None = None) -> Deferred[Kept | None]:
        if needed_until is not None and prompt_id in self._kept:
            self.needs[prompt_id] = max(needed_until, self.needs.get(prompt_id, 0))
        return succeed(self._kept.get(prompt_id))

    def unneeded(self, prompt_id: str) -> Deferred[None]:
        self.unneeded_.append(prompt_id)
        self.needs.pop(prompt_id, None)
        return succeed(None)

    def cancel(self, prompt_id: str, *, forget: bool = False) -> Deferred[Cancelled | None]:
        if prompt_id not in self._kept:
            return succeed(None)
        state = self._kept[prompt_id].record.state
        if state not in {*ASKING, State.CANCELLED}:
            return fail(NotCancelled("it was answered"))
        self.end(prompt_id, State.CANCELLED)
        self.forgotten += [prompt_id] * forget
        return succeed(Cancelled(state is State.CANCELLED))

    def end(
        self,
        prompt_id: str,
        state: State,
        event: bytes | None = None,
        error: str | None = None,
        *,
        timed_out: bool = False,
    ) -> None:
        """Set what has become of a prompt."""
        record = evolve(self._kept[prompt_id].record, state=state, error=error)
        self.put(Kept(record, event, timed_out))

    def put(self, kept: Kept) -> None:
        """Set a prompt's record and event."""
        self._kept[kept.record.id] = kept
