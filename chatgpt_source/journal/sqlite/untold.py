"""What was committed and could not be told: its file was lost from its path just then.

Once the file is there again, so is what was written: an end of a claim that is repeated is told as
it was, and what was claimed for nobody is given back.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from attrs import define, field

from chatgpt_source.journal import Claims, Ended
from chatgpt_source.journal.group import Operation
from chatgpt_source.journal.sqlite import asks, outbox
from chatgpt_source.journal.sqlite.rows import Owner
from chatgpt_source.prompt import Ask, Delivery

Work = TypeVar("Work", Ask, Delivery)


@define
class End:
    """Ends the claim of a token, unless it ended and nobody was told."""

    token: int
    run: Callable[[sqlite3.Connection], Ended]
    untold: "Untold"

    def __call__(self, db: sqlite3.Connection) -> Ended:
        """Run in a transaction."""
        return self.untold.ends.get(self.token) or self.run(db)


@define
class Claim(Generic[Work]):
    """Claims, once what was claimed for nobody is given back."""

    owner: Owner
    run: Callable[[sqlite3.Connection], Claims[Work]]
    astray: Sequence[Ask | Delivery]

    def __call__(self, db: sqlite3.Connection) -> Claims[Work]:
        """Run in a transaction."""
        for work in self.astray:
            if isinstance(work, Ask):
                asks.give_back(db, self.owner, work)
            else:
                outbox.give_back(db, self.owner, work)
        return self.run(db)


@define
class Untold:
    """What one run could not tell.

    Attributes:
        ends: How claims ended, by their tokens.
        astray: What was claimed for nobody.
    """

    ends: dict[int, Ended] = field(factory=dict)
    astray: list[Ask | Delivery] = field(factory=list)

    def note(self, group: Sequence[Operation[sqlite3.Connection]]) -> None:
        """Note what a group did, none of which can be told."""
        for operation in group:
            if isinstance(operation.run, End) and operation.error is None:
                self.ends[operation.run.token] = operation.result
            elif isinstance(operation.run, Claim) and operation.error is None:
                self.astray += operation.result.claimed

    def told(self, ended: Ended, token: int) -> Ended:
        """The end of a claim is told."""
        self.ends.pop(token, None)
        return ended

    def given_back(self, claims: Claims[Work], count: int) -> Claims[Work]:
        """So many of what went astray, the first, are due again."""
        del self.astray[:count]
        return claims
