"""What an answer cost."""

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.admin.costs import Costs, Tokens, dollars
from chatgpt_source.config import Price
from chatgpt_source.config.fallbacks import Fallback
from chatgpt_source.config.secret import Secret
from chatgpt_source.prompt import Answer, Ask, Details, Prompt, State
from chatgpt_source.telemetry.observer import AskEnded
from tests.door import CONFIG

MILLION = 1_000_000
FALLBACK = Fallback(
    "second", {"base_url": "http://second/v1", "token": Secret("t"), "model": "llama"}
)
PRICES = {"luna": Price(1.0, 10.0, 0.1), "llama": Price(2.0, 20.0), "sol": Price(3.0, 30.0)}


class TokensTests(SynchronousTestCase):
    def of(self, **usage: Any) -> Tokens:
        return Tokens.of(Answer("x", usage=usage))

    def test_by_the_names_of_either_api(self) -> None:
        told = self.of(
            prompt_tokens=9, completion_tokens=4, prompt_tokens_details={"cached_tokens": 5}
        )
        self.assertEqual(told, Tokens(9, 4, 5))
        told = self.of(input_tokens=9, output_tokens=4, input_tokens_details={"cached_tokens": 5})
        self.assertEqual(told, Tokens(9, 4, 5))

    def test_what_can_not_be_is_not_believed(self) -> None:
        for wrong in ("9", -1, 1.5, True, None, 10**9, [], {}):
            self.assertEqual(self.of(prompt_tokens=wrong, completion_tokens=wrong), Tokens())
            details = {"cached_tokens": wrong}
            told = self.of(prompt_tokens=9, prompt_tokens_details=details).cached
            self.assertEqual(told, 0)
            self.assertEqual(self.of(prompt_tokens=9, prompt_tokens_details=wrong), Tokens(9))
        self.assertEqual(Tokens.of(Answer("x")), Tokens())

    def test_no_more_are_cached_than_there_are(self) -> None:
        told = self.of(prompt_tokens=9, prompt_tokens_details={"cached_tokens": 99})
        self.assertEqual(told, Tokens(9, 0, 9))


class DollarsTests(SynchronousTestCase):
    def test_each_kind_has_its_price(self) -> None:
        tokens = Tokens(3 * MILLION, MILLION, MILLION)
        self.assertAlmostEqual(dollars(Price(1.0, 10.0, 0.1), tokens), 2.0 + 0.1 + 10.0)

    def test_what_is_cached_costs_as_what_is_not(self) -> None:
        tokens = Tokens(3 * MILLION, MILLION, MILLION)
        self.assertAlmostEqual(dollars(Price(1.0, 10.0), tokens), 13.0)


class CostsTests(SynchronousTestCase):
    def cost(self, answer: Answer, *, model: str | None = None, **more: Any) -> float | None:
        config = attrs.evolve(CONFIG, model="luna", fallbacks=(FALLBACK,), prices=PRICES)
        details = Details(call={"model": model} if model else {})
        batch = more.pop("batch", None)
        ended = AskEnded(
            started=0,
            seconds=0,
            date=0,
            state=State.ANSWERED,
            ask=Ask(Prompt("p", "x", "s", "t", 0.0, details=details), 1, 1, 0.0, batch=batch),
            **more,
        )
        return Costs(config).cost(ended, answer, Tokens(MILLION))

    def test_of_the_model_that_the_provider_names(self) -> None:
        self.assertEqual(self.cost(Answer("x", "sol-2026-03-01")), 3.0)

    def test_else_of_the_one_that_was_asked_for(self) -> None:
        self.assertEqual(self.cost(Answer("x")), 1.0)
        self.assertEqual(self.cost(Answer("x", "a-deployment")), 1.0)
        self.assertEqual(self.cost(Answer("x"), provider="second"), 2.0)
        self.assertEqual(self.cost(Answer("x"), model="sol"), 3.0)

    def test_unknown(self) -> None:
        self.assertIsNone(self.cost(Answer("x", "mars-2026"), model="mars"))

    def test_half_the_price(self) -> None:
        for tier in ("flex", "batch"):
            self.assertEqual(self.cost(Answer("x", service_tier=tier)), 0.5)
        self.assertEqual(self.cost(Answer("x", service_tier="default")), 1.0)
        self.assertEqual(self.cost(Answer("x"), batch=7), 0.5)

    def test_no_prices(self) -> None:
        self.assertFalse(Costs(CONFIG).are_known)
