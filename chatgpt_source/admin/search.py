"""Finds prompts by what an operator has of them: an id, its beginning, or an idempotency key."""

from collections.abc import Sequence

from attrs import frozen

from chatgpt_source.config import Config
from chatgpt_source.journal import Journal, Record
from chatgpt_source.journal.keys import possible_keys
from chatgpt_source.waiting import results_of

MOST = 50
"""Prompts that are found at the most."""


@frozen
class Found:
    """What was found.

    Attributes:
        records: The records of the prompts.
        more: Whether there are more.
    """

    records: Sequence[Record]
    more: bool = False


@frozen(eq=False, repr=False)
class Search:
    """Searches the journal.

    Attributes:
        journal: The journal.
        config: Has the credentials: each has idempotency keys of its own.
    """

    journal: Journal
    config: Config

    async def find(self, word: str) -> Found:
        """The prompts whose id begins so, or that came with this idempotency key.

        Raises:
            JournalUnavailable: If the journal can't be read.
        """
        known = self.config.auth, self.config.admin_auth
        by_key = await self.journal.ids_of(possible_keys(word, known))
        ids = list(dict.fromkeys([*by_key, *await self.journal.ids(word, MOST + 1)]))
        records = await results_of(self.journal.record(each) for each in ids[:MOST])
        return Found([each for each in records if each is not None], more=len(ids) > MOST)
