"""The batches, and what waits for each tier."""

from collections.abc import Mapping, Sequence
from enum import Enum

from attrs import frozen

from chatgpt_source.prompt import Tier


class Phase(str, Enum):
    """Where a batch is on its way.

    `GATHERING`: prompts are put into it. `UPLOADING`, `SUBMITTING`: its file, and then the batch,
    is sent. `SUBMITTED`: the provider works on it. `CANCELLING`: the provider was told to stop it.
    `COLLECTING`: it has ended, and its results are read.
    """

    GATHERING = "gathering"
    UPLOADING = "uploading"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    CANCELLING = "cancelling"
    COLLECTING = "collecting"


@frozen
class Batch:
    """Prompts that are sent to the provider together, in one file.

    Attributes:
        id: Its id.
        key: What the provider keeps with it, so that it is found after a crash.
        created: The date on which it was opened.
        deadline: The first deadline of its prompts, by the steady clock; None while it is open.
        file: The provider's id of its file, once that is uploaded.
        remote: The provider's id of the batch, once that is submitted.
        results: The provider's ids of the files with its results, once it has ended.
        cancelled: Whether the provider was told to stop it.
    """

    id: int
    key: str
    created: float
    deadline: float | None = None
    file: str | None = None
    remote: str | None = None
    results: Sequence[str] | None = None
    cancelled: bool = False

    @property
    def phase(self) -> Phase:
        """Where it is on its way."""
        if self.results is not None:
            return Phase.COLLECTING
        if self.remote is not None:
            return Phase.CANCELLING if self.cancelled else Phase.SUBMITTED
        if self.deadline is None:
            return Phase.GATHERING
        return Phase.UPLOADING if self.file is None else Phase.SUBMITTING


@frozen
class TierTally:
    """What waits for each tier, and what is in batches, at one moment.

    Attributes:
        waiting: How many accepted prompts each tier is to serve.
        batches: The batches, the oldest first, each with how many prompts are in it.
    """

    waiting: Mapping[Tier, int]
    batches: Sequence[tuple[Batch, int]] = ()
