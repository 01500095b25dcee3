"""The pipeline with a provider that keeps prompts under ids, on a journal in memory."""

from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.pipeline import Pipeline
from chatgpt_source.prompt import Ask, Prompt, Submitted
from chatgpt_source.telemetry.observer import AskEnded, Observer, Observers
from chatgpt_source.telemetry.outcome_log import OutcomeLog
from tests.clocks import Clocks
from tests.contracts.driver import NOON, prompt
from tests.fakes.claims import ClaimsJournal
from tests.pipeline.test_pipeline import Peer

CONFIG = Config(target="http://target", token=Secret("t"), concurrency=2)


class FakeProvider:
    """A provider whose calls the test answers.

    Attributes:
        asks: The calls that ask.
        polls: The calls that look up; their work is an id.
        cancels: The calls that cancel.
        forgets: The calls that delete.
    """

    def __init__(self) -> None:
        self.asks, self.polls, self.cancels, self.forgets = Peer(), Peer(), Peer(), Peer()
        self.ask, self.cancel, self.forget = self.asks.call, self.cancels.call, self.forgets.call

    async def look_up(self, submitted: str, _: Prompt) -> Any:
        return await self.polls.call(submitted)


class Told(Observer):
    """Notes what it is told of asks and polls."""

    def __init__(self) -> None:
        self.ends: list[AskEnded] = []

    def asked(self, ended: AskEnded) -> None:
        self.ends.append(ended)


class SubmittedTestCase(SynchronousTestCase):
    config = CONFIG

    def setUp(self) -> None:
        self.clock = Clocks()
        self.clock.advance(NOON)
        self.journal = ClaimsJournal()
        self.provider, self.target, self.letters = FakeProvider(), Peer(), Peer()
        self.told = Told()
        self.start()

    def begin(self, **changes: Any) -> None:
        """Begin anew with other settings."""
        self.pipeline.end()
        self.start(**changes)

    def start(self, **changes: Any) -> None:
        receivers = {"target": self.target.receive, "dead_letter": self.letters.receive}
        self.pipeline = Pipeline(
            cast(Any, self.clock),
            cast(Any, self.journal),
            attrs.evolve(self.config, **changes),
            cast(Any, self.provider),
            receivers if self.config.dead_letter else {"target": self.target.receive},
            lambda: 1.0,
            Observers(self.told, OutcomeLog()),
        )
        self.pipeline.start()
        self.addCleanup(self.pipeline.end)

    def post(self, name: str = "p1", **parts: Any) -> None:
        """Accept a prompt, and ask it."""
        each = attrs.evolve(prompt(name, accepted=self.clock.seconds()), **parts)
        self.journal.asks.append(Ask(each, 1, 1, self.clock.seconds()))
        self.pipeline.redriven()

    def submit(self, name: str = "p1", **parts: Any) -> None:
        """Post a prompt that the provider keeps under an id."""
        self.post(name, **parts)
        self.provider.asks.answer(Submitted(f"resp_{name}"))

    def poll(self, *results: Any) -> None:
        """Answer the next polls, each once it comes."""
        for result in results:
            for _ in range(1000):
                if self.provider.polls.under_way:
                    break
                self.clock.advance(0.1)
            self.provider.polls.answer(result)

    @property
    def last(self) -> Any:
        """How the last claim ended."""
        return self.journal.ends[-1]

    def wait_of(self, outcome: Any) -> float:
        return round(outcome.until - self.clock.seconds(), 3)

    def drain(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.pipeline.drain())
