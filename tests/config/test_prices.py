"""What tokens cost: whose price it is, and the mistakes of `prices`."""

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Price, price_of
from tests.config.test_config import GOOD, ConfigCase

LUNA, MINI = Price(1, 2), Price(3, 4)


class PriceOfTests(SynchronousTestCase):
    PRICES: ClassVar = {"gpt-4o": LUNA, "gpt-4o-mini": MINI, "llama3.2:1b": LUNA}

    def of(self, *names: str | None) -> Price | None:
        return price_of(self.PRICES, *names)

    def test_by_its_name(self) -> None:
        self.assertEqual((self.of("gpt-4o"), self.of("gpt-4o-mini")), (LUNA, MINI))
        self.assertEqual(self.of("llama3.2:1b"), LUNA)

    def test_a_version_makes_no_difference(self) -> None:
        self.assertEqual(self.of("gpt-4o-2024-08-06"), LUNA)
        self.assertEqual(self.of("gpt-4o-mini-2024-07-18"), MINI)
        self.assertEqual(self.of("gpt-4o@20240806"), LUNA)

    def test_another_model_is_not_a_version(self) -> None:
        self.assertIsNone(self.of("gpt-4o-audio-preview"))
        self.assertIsNone(self.of("gpt-4o-mini-audio-2024-12-17"))
        self.assertIsNone(self.of("gpt-4"))
        self.assertIsNone(self.of("x-gpt-4o-2024-08-06"))

    def test_the_first_that_has_one(self) -> None:
        self.assertEqual(self.of(None, "gpt-4o"), LUNA)
        self.assertEqual(self.of("other", "gpt-4o-mini"), MINI)
        self.assertIsNone(self.of())


class PricesTests(ConfigCase):
    def complaint(self, prices: Any) -> str:
        return self.mistake({**GOOD, "prices": prices})

    def test_read(self) -> None:
        config = self.load({**GOOD, "prices": {"m": {"input": 1, "output": 0, "cached_input": 0}}})
        self.assertEqual(config.prices, {"m": Price(1.0, 0.0, 0.0)})

    def test_every_mistake_is_named_and_no_name_is_told(self) -> None:
        told = self.complaint(
            {"MARKED": {"input": -1, "output": "MARKED"}, "b": {"input": 1}, "c": "MARKED"}
        )
        self.assertNotIn("MARKED", told)
        self.assertIn("of model no. 1, `input` must be a number from 0 to 1000000, and `out", told)
        self.assertIn("; of model no. 2, `output` is missing; of model no. 3, there must", told)

    def test_what_does_nothing_is_warned_of(self) -> None:
        prices = {"gpt-6-luna": {"input": 1, "output": 2}}
        (warning,) = self.load({**GOOD, "prices": prices}).warnings
        self.assertIn("`prices` does nothing without `admin`", warning)
        admin = {"admin": "tcp:9464", "prices": prices}
        self.assertEqual(self.load({**GOOD, **admin}).warnings, ())
        fallback = {"base_url": "http://second/v1", "token": "t", "model": "other-1"}
        (warning,) = self.load({**GOOD, **admin, "fallbacks": [fallback]}).warnings
        self.assertIn("`prices` has none for other-1", warning)
