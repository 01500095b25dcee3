"""Operations that were committed but not acknowledged, because the file left its path meanwhile.

Once the file is back, so are they: an end of a claim that is repeated returns the first result, and
claims that no worker received are released.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Generic

from attrs import define, field

from chatgpt_source.journal import Admitted, Claims, Ended, Work
from chatgpt_source.journal.group import Operation
from chatgpt_source.journal.sqlite import asks, outbox
from chatgpt_source.journal.sqlite.rows import Owner
from chatgpt_source.prompt import Ask, Delivery


@define
class End:
    """Ends a claim, unless it ended before without an acknowledgement."""

    token: int
    run: Callable[[sqlite3.Connection], Ended]
    unacknowledged: "Unacknowledged"

    def __call__(self, db: sqlite3.Connection) -> Ended:
        """Run in a transaction."""
        return self.unacknowledged.ends.get(self.token) or self.run(db)


@define
class Claim(Generic[Work]):
    """Claims work, after the claims that no worker received are released."""

    owner: Owner
    run: Callable[[sqlite3.Connection], Claims[Work]]
    unreceived: Sequence[Ask | Delivery]

    def __call__(self, db: sqlite3.Connection) -> Claims[Work]:
        """Run in a transaction."""
        for work in self.unreceived:
            if isinstance(work, Ask):
                asks.release(db, self.owner, work)
            else:
                outbox.release(db, self.owner, work)
        return self.run(db)


@define
class Unacknowledged:
    """The unacknowledged operations of one run.

    Attributes:
        ends: The results of ended claims, by token.
        claims: The claims that no worker received.
    """

    ends: dict[int, Ended] = field(factory=dict)
    claims: list[Ask | Delivery] = field(factory=list)

    def add(self, group: Sequence[Operation[sqlite3.Connection]]) -> None:
        """Add what a group committed."""
        for operation in group:
            match operation.result:
                case Ended() if isinstance(operation.run, End):
                    self.ends[operation.run.token] = operation.result
                case Claims(claimed):
                    self.claims += claimed
                case Admitted(ask=Ask() as ask):
                    self.claims.append(ask)

    def acknowledged(self, ended: Ended, token: int) -> Ended:
        """Remove the end of a claim."""
        self.ends.pop(token, None)
        return ended

    def released(self, claims: Claims[Work], count: int) -> Claims[Work]:
        """Remove the first `count` claims."""
        del self.claims[:count]
        return claims
