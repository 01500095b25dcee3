"""The settings whose change makes the next start forget a peer's state."""

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Config, TargetSettings
from chatgpt_source.config.fallbacks import Fallback
from chatgpt_source.config.secret import Secret
from chatgpt_source.pipeline.peers import BATCHES, FLEX, peers_of
from chatgpt_source.prompt import DEAD_LETTER, MODEL, TARGET

CONFIG = Config(
    target="http://target",
    token=Secret("t"),
    headers={"x-ours": Secret("v")},
    target_headers={"x-ours": Secret("v")},
)


class PeersTests(SynchronousTestCase):
    def changed_by(self, config: Config = CONFIG, /, **settings: Any) -> set[str]:
        before, after = peers_of(config), peers_of(attrs.evolve(config, **settings))
        return {peer for peer in before if before[peer] != after[peer]}

    def test_all_that_a_call_to_the_model_holds(self) -> None:
        for name, value in {
            "base_url": "http://model/v2",
            "token": Secret("another"),
            "api_version": "2026-01-01",
            "organization": "org-1",
            "project": "proj-1",
            "headers": {"x-theirs": Secret("v")},
            "model": "another",
            "system_prompt": "Be brief.",
            "max_tokens": 5,
            "temperature": 0.5,
            "top_p": 0.5,
            "reasoning_effort": "low",
            "response_format": {"type": "json_object"},
            "body": {"seed": 1},
        }.items():
            with self.subTest(name=name):
                self.assertEqual(self.changed_by(**{name: value}), {MODEL, BATCHES, FLEX})

    def test_of_a_fallback(self) -> None:
        second = Fallback("second", {"base_url": "http://second", "token": Secret("t2")})
        known = attrs.evolve(CONFIG, fallbacks=(second,))
        changed = attrs.evolve(second, settings={**second.settings, "token": Secret("t3")})
        self.assertEqual(self.changed_by(known, fallbacks=(changed,)), {"model.second"})
        self.assertEqual(self.changed_by(known, headers={}), {MODEL, BATCHES, FLEX})
        everybodys = {MODEL, BATCHES, FLEX, "model.second"}
        self.assertEqual(self.changed_by(known, model="another"), everybodys)

    def test_all_that_decides_how_a_target_answers(self) -> None:
        for name, value in {
            "target": "http://another",
            "target_headers": {"x-theirs": Secret("v")},
            "signing_secret": (Secret("whsec_another"),),
        }.items():
            with self.subTest(name=name):
                self.assertEqual(self.changed_by(**{name: value}), {TARGET.setting})

    def test_of_the_dead_letters(self) -> None:
        self.assertEqual(self.changed_by(dead_letter="http://another"), {DEAD_LETTER.setting})

    def test_of_a_named_target(self) -> None:
        billing = TargetSettings("http://billing")
        known = attrs.evolve(CONFIG, targets={"billing": billing})
        for name, value in {
            "url": "http://another",
            "headers": {"x-theirs": Secret("v")},
            "signing_secret": (Secret("whsec_another"),),
            "content_mode": "binary",
        }.items():
            with self.subTest(name=name):
                changed = attrs.evolve(billing, **{name: value})
                self.assertEqual(self.changed_by(known, targets={"billing": changed}), {"billing"})

    def test_the_form_of_events(self) -> None:
        both = {TARGET.setting, DEAD_LETTER.setting}
        self.assertEqual(self.changed_by(content_mode="binary"), both)

    def test_no_other(self) -> None:
        self.assertEqual(self.changed_by(concurrency=2, everyday_limit=5, port=81), set())
