"""The failed prompts by reason."""

from collections.abc import Iterable
from typing import Any

from attrs import asdict, frozen

from chatgpt_source.clock import rfc3339


@frozen
class FailureGroup:
    """The prompts that have failed for the same reason.

    Attributes:
        reason: The reason, without its details.
        count: How many there are.
        first: The date on which the first of them failed.
        last: The date on which the last of them failed.
    """

    reason: str
    count: int
    first: float
    last: float

    def with_more(self, other: "FailureGroup") -> "FailureGroup":
        """This one with the prompts of another one of the same reason."""
        first, last = min(self.first, other.first), max(self.last, other.last)
        return FailureGroup(self.reason, self.count + other.count, first, last)

    def to_dict(self) -> dict[str, Any]:
        """It for JSON; times in RFC 3339, in UTC."""
        return asdict(self) | {"first": rfc3339(self.first), "last": rfc3339(self.last)}


def added_up(groups: Iterable[FailureGroup]) -> list[FailureGroup]:
    """Groups with those of the same reason in one, the largest first."""
    by_reason: dict[str, FailureGroup] = {}
    for each in groups:
        known = by_reason.get(each.reason)
        by_reason[each.reason] = each if known is None else known.with_more(each)
    return sorted(by_reason.values(), key=lambda each: (-each.count, each.reason))


def reason_of(error: str) -> str:
    """The reason of a failed prompt, without advice and details: as the engines group by it."""
    return error.partition(": ")[0]
