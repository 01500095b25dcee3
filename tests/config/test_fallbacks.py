"""Fallbacks: their own settings, those that they share, and their mistakes."""

from typing import Any

from chatgpt_source.config import ConfigError, files_for_callers, require_files
from tests.config.test_config import GOOD, ConfigCase

SECOND = {"name": "second", "base_url": "http://second/v1", "token": "t2"}


class FallbacksTests(ConfigCase):
    def of(self, fallback: dict[str, Any], **settings: Any) -> Any:
        (config,) = self.load({**GOOD, "fallbacks": [fallback], **settings}).of_fallbacks.values()
        return config

    def complaint(self, *fallbacks: Any, **settings: Any) -> str:
        return self.mistake({**GOOD, "fallbacks": [*fallbacks], **settings})

    def test_what_it_shares(self) -> None:
        shared = {"model": "m", "temperature": 0.5, "body": {"seed": 1}, "openai_timeout": 9}
        config = self.of(SECOND, **shared)
        self.assertEqual((config.base_url, config.token.read()), ("http://second/v1", "t2"))
        for name, value in shared.items():
            self.assertEqual(getattr(config, name), value)
        other = self.of({**SECOND, "model": "n", "body": {}}, **shared)
        self.assertEqual((other.model, other.body, other.temperature), ("n", {}, 0.5))
        self.assertEqual(other.fallbacks, ())

    def test_what_belongs_to_the_first_provider_alone(self) -> None:
        own = {
            "headers": {"X-Key": "k"},
            "organization": "o",
            "project": "p",
            "api_version": "2024-10-21",
        }
        config = self.of(SECOND, **own)
        self.assertEqual(config.headers, {})
        told = (config.organization, config.project, config.api_version)
        self.assertEqual(told, (None, None, None))
        config = self.of({**SECOND, **own})
        self.assertEqual(config.headers["X-Key"].read(), "k")
        self.assertEqual(config.organization, "o")

    def test_the_background_of_an_api_that_has_none(self) -> None:
        first = {"api": "responses", "background": True}
        self.assertTrue(self.of(SECOND, **first).background)
        self.assertFalse(self.of({**SECOND, "api": "chat"}, **first).background)

    def test_names(self) -> None:
        config = self.load({**GOOD, "fallbacks": [{**SECOND, "name": None}]})
        self.assertEqual([config.provider, *config.of_fallbacks], ["api.openai.com", "second"])
        other_port = {"base_url": "http://second:81/", "token": "t"}
        config = self.load({**GOOD, "fallbacks": [{**SECOND, "name": None}, other_port]})
        self.assertEqual([*config.of_fallbacks], ["second", "second:81"])

    def test_a_host_with_the_name_of_a_tier(self) -> None:
        other = {"base_url": "http://batch/v1", "token": "t"}
        self.assertIn("`name` must be set, since `batch`, the host,", self.complaint(other))
        config = self.load({**GOOD, "fallbacks": [{**other, "name": "other"}]})
        self.assertEqual([*config.of_fallbacks], ["other"])

    def test_the_same_name_twice(self) -> None:
        self.assertIn("give no. 2,", self.complaint(SECOND, SECOND))
        first = {"base_url": "https://api.openai.com/v1", "token": "t"}
        self.assertIn("give no. 1,", self.complaint(first))

    def test_mistakes_name_their_place(self) -> None:
        line = self.complaint(SECOND, {**SECOND, "name": "b", "api": "MARKED", "top_p": 2})
        self.assertIn("`fallbacks`", line)
        self.assertIn("in no. 2, `api` must be one of", line)
        self.assertIn(", and `top_p` must be a number", line)
        self.assertNotIn("MARKED", line)
        line = self.complaint({**SECOND, "token": {"env": "NOT_SET"}}, {"token": "t"})
        self.assertIn("in no. 1, `token` must be", line)
        self.assertIn("in no. 2, `base_url` is missing", line)

    def test_settings_that_exclude_each_other(self) -> None:
        line = self.complaint({**SECOND, "background": True})
        self.assertIn("`fallbacks`, in no. 1: `background` must be false", line)
        line = self.complaint({**SECOND, "max_tokens": 5}, body={"max_tokens": 6})
        self.assertIn("in no. 1: `body` must be without `max_tokens`", line)

    def test_no_secret_is_shown(self) -> None:
        self.assertNotIn("t2", repr(self.load({**GOOD, "fallbacks": [SECOND]})))

    def test_files(self) -> None:
        config = self.load({**GOOD, "concurrency": 10, "fallbacks": [SECOND]})
        self.assertEqual(files_for_callers(config, 1000), 1000 - 100 - 30)
        require_files(config, 230)
        self.assertRaises(ConfigError, require_files, config, 229)
        config = self.load(
            {**GOOD, "concurrency": 10, "fallbacks": [{**SECOND, "concurrency": 11}]}
        )
        self.assertEqual(files_for_callers(config, 1000), 1000 - 100 - 40)
        config = self.load({**GOOD, "concurrency": 10, "flex_over": 5})
        self.assertEqual(files_for_callers(config, 1000), 1000 - 100 - 30)
