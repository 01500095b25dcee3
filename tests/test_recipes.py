"""What can be checked of the recipes without their platforms."""

import re
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config import Config, load
from chatgpt_source.prompt import DEFAULT_TYPE
from tests.test_dockerfile import ROOT

RECIPES = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
TRIGGER = (ROOT / "k8s/knative-trigger.yaml").read_text(encoding="utf-8")
SERVICE = next(
    iter(yaml.safe_load_all((ROOT / "k8s/source-chatgpt.yaml").read_text(encoding="utf-8")))
)
OURS = "# config.yml\n"


def blocks() -> list[str]:
    return re.findall(r"(?ms)^```yaml\n(.*?)^```$", RECIPES)


def service_url() -> str:
    """Where pods of the cluster reach us."""
    (port,) = SERVICE["spec"]["ports"]
    about = SERVICE["metadata"]
    return f"http://{about['name']}.{about['namespace']}.svc.cluster.local:{port['port']}/"


class RecipesTests(SynchronousTestCase):
    def load(self, text: str) -> Config:
        path = Path(self.mktemp())
        path.write_text(text, encoding="utf-8")
        target = {} if "target:" in text else {"CONNECTOR_TARGET": "http://localhost:1"}
        return load({"OPENAI_API_KEY": "sk-made-up", **target}, path)

    def test_our_parts_are_configurations(self) -> None:
        ours = [block for block in blocks() if block.startswith(OURS)]
        self.assertGreater(len(ours), 5)
        for block in ours:
            self.assertEqual(self.load(block).warnings, ())

    def test_the_others_are_yaml_and_name_our_service(self) -> None:
        documents: list[Any] = [
            document
            for block in blocks()
            if not block.startswith(OURS)
            for document in yaml.safe_load_all(block)
        ]
        self.assertIn("Sequence", [document.get("kind") for document in documents])
        urls = re.findall(r"http://source-chatgpt\.vanus\S*", RECIPES)
        self.assertEqual(set(urls), {service_url()})

    def test_links_lead_somewhere(self) -> None:
        headings = re.findall(r"(?m)^#+ (.*)$", RECIPES)
        anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        for link in re.findall(r"\]\(([^)]+)\)", RECIPES):
            path, _, anchor = link.partition("#")
            if path:
                self.assertTrue((ROOT / "docs" / path).exists(), link)
            else:
                self.assertIn(anchor, anchors)


class TriggerTests(SynchronousTestCase):
    def test_the_trigger(self) -> None:
        trigger = yaml.safe_load(TRIGGER)
        self.assertEqual(
            (trigger["apiVersion"], trigger["kind"]), ("eventing.knative.dev/v1", "Trigger")
        )
        self.assertEqual(trigger["metadata"], SERVICE["metadata"])
        spec = trigger["spec"]
        self.assertEqual(spec["subscriber"], {"uri": service_url()})
        self.assertNotEqual(spec["filter"]["attributes"]["type"], DEFAULT_TYPE)
        self.assertIn("kubectl apply -f k8s/knative-trigger.yaml", TRIGGER)

    def test_its_broker_is_that_of_the_overlay(self) -> None:
        binding = yaml.safe_load((ROOT / "k8s/overlays/knative/sinkbinding.yaml").read_text())
        broker = binding["spec"]["sink"]["ref"]
        self.assertEqual(yaml.safe_load(TRIGGER)["spec"]["broker"], broker["name"])
        self.assertEqual(binding["metadata"]["namespace"], SERVICE["metadata"]["namespace"])

    def test_the_settings_that_it_names(self) -> None:
        lines = re.findall(r"(?m)^# {5}(\w+: \d+)", TRIGGER)
        path = Path(self.mktemp())
        path.write_text("\n".join(["target: http://localhost:1", *lines]), encoding="utf-8")
        config = load({"OPENAI_API_KEY": "sk-made-up"}, path)
        self.assertEqual((config.reply, config.keep_answers), (30, 3600))
