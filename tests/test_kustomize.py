"""The overlays: what kubectl makes of them, and that they are the plain manifest."""

import re
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from kubernetes_validate import validate
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.config import load
from tests.test_dockerfile import ROOT
from tests.test_k8s import JOURNAL, README, SOURCE, VERSIONS, Document, documents

OVERLAYS = ("vanus", "knative")


class KustomizeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        shutil.copytree(ROOT / "k8s", self.folder)

    def config(self, overlay: str) -> Path:
        return self.folder / "overlays" / overlay / "config.yml"

    def render(self, overlay: str) -> dict[str, Document]:
        """What `kubectl apply -k` of an overlay would apply, by kind."""
        return self.build(f"overlays/{overlay}")

    def build(self, folder: str) -> dict[str, Document]:
        """What `kubectl apply -k` would apply, by kind."""
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise SkipTest("no kubectl, which renders the overlays")
        ran = subprocess.run(
            [kubectl, "kustomize", str(self.folder / folder)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        return documents(ran.stdout)


def plain(found: dict[str, Document]) -> dict[str, Any]:
    """The documents with the ConfigMap by its plain name, and what it holds as data."""
    found = deepcopy(found)
    config = found["ConfigMap"]
    generated, config["metadata"]["name"] = config["metadata"]["name"], "source-chatgpt"
    config["data"] = {name: yaml.safe_load(text) for name, text in config["data"].items()}
    for volume in found["Deployment"]["spec"]["template"]["spec"]["volumes"]:
        if volume.get("configMap", {}).get("name") == generated:
            volume["configMap"]["name"] = "source-chatgpt"
    return found


class SameTests(KustomizeTestCase):
    def test_vanus_and_the_journal_are_the_plain_manifest(self) -> None:
        self.assertEqual(
            plain({**self.render("vanus"), **documents(JOURNAL)}), plain(documents(SOURCE))
        )

    def test_knative_differs_by_the_target_and_the_binding(self) -> None:
        found = plain({**self.render("knative"), **documents(JOURNAL)})
        del found["SinkBinding"]
        expected = plain(documents(SOURCE))
        del expected["ConfigMap"]["data"]["config.yml"]["target"]
        self.assertEqual(found, expected)

    def test_the_schemas_of_kubernetes(self) -> None:
        for overlay in OVERLAYS:
            for kind, document in self.render(overlay).items():
                for version in VERSIONS if kind != "SinkBinding" else ():
                    validate(document, version, strict=True)


class ConfigMapTests(KustomizeTestCase):
    def mounted(self, found: dict[str, Document]) -> str:
        (name,) = (
            volume["configMap"]["name"]
            for volume in found["Deployment"]["spec"]["template"]["spec"]["volumes"]
            if "configMap" in volume
        )
        return str(name)

    def test_a_change_starts_a_new_pod(self) -> None:
        for overlay in OVERLAYS:
            before = self.render(overlay)
            with self.config(overlay).open("a", encoding="utf-8") as file:
                file.write("everyday_limit: 5\n")
            after = self.render(overlay)
            for found in (before, after):
                self.assertEqual(self.mounted(found), found["ConfigMap"]["metadata"]["name"])
            self.assertNotEqual(before["Deployment"], after["Deployment"])

    def test_none_is_shared(self) -> None:
        names = {self.mounted(self.render(overlay)) for overlay in OVERLAYS}
        self.assertEqual(len(names | {self.mounted(documents(SOURCE))}), 3)

    def test_deleting_an_overlay_leaves_what_was_made_apart(self) -> None:
        for overlay in OVERLAYS:
            kinds = set(self.render(overlay)) - {"SinkBinding"}
            self.assertEqual(kinds, {"ConfigMap", "Service", "Deployment"})


class KnativeTests(KustomizeTestCase):
    """With Knative the target comes from the binding, whose variables the daemon reads."""

    def test_binds_our_deployment(self) -> None:
        found = self.render("knative")
        binding, deployment = found["SinkBinding"], found["Deployment"]
        self.assertEqual(binding["apiVersion"], "sources.knative.dev/v1")
        self.assertEqual(
            binding["spec"]["subject"],
            {
                "apiVersion": deployment["apiVersion"],
                "kind": "Deployment",
                "name": deployment["metadata"]["name"],
            },
        )
        namespaces = {each["metadata"]["namespace"] for each in found.values()}
        self.assertEqual(namespaces, {"vanus"})
        self.assertEqual(set(binding["spec"]["sink"]["ref"]), {"apiVersion", "kind", "name"})

    def test_what_the_binding_injects_is_read(self) -> None:
        config = self.config("knative")
        token = (self.folder / "token").absolute()
        token.write_text("made-up", encoding="utf-8")
        text = config.read_text(encoding="utf-8")
        config.write_text(re.sub(r"/run/secrets/\S+", str(token), text), encoding="utf-8")
        sink = "http://broker-ingress.knative-eventing.svc.cluster.local/vanus/default"
        overrides = '{"extensions":{"cluster":"a"}}'
        read = load({"K_SINK": sink, "K_CE_OVERRIDES": overrides}, config)
        self.assertEqual((read.target, read.extensions), (sink, {"cluster": "a"}))


class ReadmeTests(KustomizeTestCase):
    def test_an_overlay_of_ones_own(self) -> None:
        text = re.search(r"```yaml\n(resources:\n  - \.\./vanus\n.*?)```", README, re.DOTALL)
        assert text is not None
        mine = self.folder / "overlays" / "mine"
        mine.mkdir()
        (mine / "kustomization.yaml").write_text(text[1], encoding="utf-8")
        (container,) = self.render("mine")["Deployment"]["spec"]["template"]["spec"]["containers"]
        self.assertTrue(container["image"].startswith("registry.example/chatgpt-source:"))

    def test_what_it_names_is_there(self) -> None:
        docs = README + (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
        named = set(re.findall(r"\bk8s/[\w./-]*\w", docs)) - {
            "k8s/overlays/mine/kustomization.yaml"
        }
        self.assertLessEqual({"k8s/source-chatgpt.yaml", "k8s/overlays/knative"}, named)
        for name in named:
            self.assertTrue((ROOT / name).exists(), name)
        for overlay in re.findall(r"-k (\S+?)[`\s]", docs):
            self.assertTrue((ROOT / overlay / "kustomization.yaml").exists(), overlay)
