"""What a journal keeps of the calls for a prompt, as tests that every engine passes."""

from typing import Any

from attrs import evolve

from chatgpt_source.journal import Detail
from chatgpt_source.prompt import Tier
from tests.contracts.driver import NOON, JournalDriver, prompt


class AttemptsContract(JournalDriver):
    def detail(self, name: str = "p1") -> Any:
        return self.successResultOf(self.journal.detail(name))

    def test_a_new_prompt_has_no_calls(self) -> None:
        new = evolve(prompt(), deadline=NOON + 60, expiry=NOON + 30)
        self.accept(new)
        expected = Detail(
            self.record(),
            source="a-source",
            type="a-type",
            tier=Tier.STANDARD,
            deadline=NOON + 30,
        )
        self.assertEqual(evolve(self.detail(), attempts=()), expected)
        self.assertEqual(self.detail().attempts, [])

    def test_there_is_no_such_prompt(self) -> None:
        self.assertIsNone(self.detail())
