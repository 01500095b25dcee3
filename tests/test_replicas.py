"""k8s/replicas: what kubectl makes of it, that a rollout loses and repeats nothing, and KEDA."""

import math
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import attrs
import yaml
from kubernetes_validate import validate
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.config import Config, load
from chatgpt_source.delivery.target import TIMEOUT
from tests.admin.common import AdminTestCase
from tests.rules import names, rules
from tests.test_dockerfile import ROOT, the_one
from tests.test_k8s import (
    EGRESS,
    JOURNAL,
    NAMESPACE,
    POLICY,
    README,
    SOURCE,
    TRIAL,
    VERSIONS,
    Document,
    documents,
)
from tests.test_kustomize import KustomizeTestCase

FOLDER = ROOT / "k8s" / "replicas"
SLEEPS = [each for each in VERSIONS if tuple(map(int, each.split("."))) >= (1, 30, 0)]
"""The versions of Kubernetes that have the action `sleep` without being asked for it."""
SCALED = yaml.safe_load((FOLDER / "autoscaling.yaml").read_text(encoding="utf-8"))
QUERY: str = SCALED["spec"]["triggers"][0]["metadata"]["query"]
CLOSING = 10
"""Seconds for what a stop does beside draining: closing ports, connections and the journal."""


def default(name: str) -> Any:
    return getattr(attrs.fields(Config), name).default


def restricted(pod: Document) -> list[str]:
    """What keeps a pod from the Pod Security Standard `restricted`, in words."""
    found = []
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True:
        found.append("runAsNonRoot")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("seccompProfile")
    found += [each for each in ("hostNetwork", "hostPID", "hostIPC") if pod.get(each)]
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append("capabilities")
        found += [f"hostPort {port}" for port in container["ports"] if "hostPort" in port]
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    return found + sorted(kinds - {"configMap", "emptyDir", "persistentVolumeClaim", "secret"})


class ReplicasTestCase(KustomizeTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.found = self.build("replicas")
        self.spec = self.found["Deployment"]["spec"]
        self.pod = self.spec["template"]["spec"]
        (self.container,) = self.pod["containers"]
        (text,) = self.found["ConfigMap"]["data"].values()
        self.settings = yaml.safe_load(text)

    def mounts(self) -> dict[str, Document]:
        return {mount["name"]: mount for mount in self.container["volumeMounts"]}

    def volumes(self) -> dict[str, Document]:
        return {volume["name"]: volume for volume in self.pod["volumes"]}


class OverlayTests(ReplicasTestCase):
    def test_the_schemas_of_kubernetes(self) -> None:
        self.assertGreater(len(SLEEPS), 1)
        for document in self.found.values():
            for version in SLEEPS:
                validate(document, version, strict=True)

    def test_what_a_cluster_says(self) -> None:
        if not os.environ.get("KUBECONFIG"):
            raise SkipTest("KUBECONFIG names no cluster: no server-side dry run")
        text = yaml.safe_dump_all(list(self.found.values()))
        ran = subprocess.run(
            ["kubectl", "apply", "--dry-run=server", "--filename=-"],
            input=re.sub(r"(?m)^  namespace: vanus$", "  namespace: default", text),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)

    def test_kinds(self) -> None:
        self.assertEqual(
            set(self.found),
            {"ConfigMap", "Service", "Deployment", "ServiceAccount", "PodDisruptionBudget"},
        )

    def test_takes_the_place_of_the_one_daemon(self) -> None:
        before = documents(SOURCE)
        for kind in ("Service", "Deployment"):
            metadata = before[kind]["metadata"]
            for key in ("name", "namespace"):
                self.assertEqual(self.found[kind]["metadata"][key], metadata[key])
        self.assertEqual(self.found["Service"]["spec"], before["Service"]["spec"])
        # The API server refuses a change of it.
        self.assertEqual(self.spec["selector"], before["Deployment"]["spec"]["selector"])

    def test_labels(self) -> None:
        expected = {
            "app": "source-chatgpt",
            "app.kubernetes.io/name": "chatgpt-source",
            "app.kubernetes.io/instance": "source-chatgpt",
            "app.kubernetes.io/component": "source",
        }
        for kind, document in self.found.items():
            self.assertEqual(document["metadata"]["labels"], expected, kind)
            self.assertEqual(document["metadata"]["namespace"], "vanus", kind)
        self.assertEqual(self.spec["template"]["metadata"]["labels"], expected)

    def test_the_rest_of_the_pod_is_that_of_the_base(self) -> None:
        before = documents(SOURCE)["Deployment"]["spec"]["template"]
        self.assertEqual(
            self.spec["template"]["metadata"]["annotations"], before["metadata"]["annotations"]
        )
        (container,) = before["spec"]["containers"]
        for key in container.keys() - {"volumeMounts"}:
            self.assertEqual(self.container[key], container[key], key)
        self.assertEqual(self.container.keys() - container.keys(), {"lifecycle"})
        self.assertEqual(self.pod["securityContext"], before["spec"]["securityContext"])

    def test_pod_security_standard_restricted(self) -> None:
        self.assertEqual(restricted(self.pod), [])
        self.assertTrue(self.container["securityContext"]["readOnlyRootFilesystem"])

    def test_an_account_of_its_own_without_a_key_to_the_cluster(self) -> None:
        account = self.found["ServiceAccount"]
        self.assertEqual(self.pod["serviceAccountName"], account["metadata"]["name"])
        self.assertFalse(account["automountServiceAccountToken"])
        self.assertFalse(self.pod["automountServiceAccountToken"])

    def test_a_change_of_the_config_starts_new_pods(self) -> None:
        with (self.folder / "replicas" / "config.yml").open("a", encoding="utf-8") as file:
            file.write("everyday_limit: 5\n")
        after = self.build("replicas")
        self.assertNotEqual(after["Deployment"], self.found["Deployment"])
        self.assertEqual(
            after["ConfigMap"]["metadata"]["name"],
            after["Deployment"]["spec"]["template"]["spec"]["volumes"][2]["configMap"]["name"],
        )


class RolloutTests(ReplicasTestCase):
    def test_no_pod_ends_before_its_successor_is_ready(self) -> None:
        self.assertEqual(self.spec["replicas"], 3)
        self.assertEqual(
            self.spec["strategy"],
            {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        )

    def test_a_stop_cuts_no_call_off(self) -> None:
        drain = self.settings["drain_timeout"]
        self.assertGreaterEqual(drain, default("openai_timeout") + TIMEOUT)
        sleep = self.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreaterEqual(sleep, 5)
        self.assertGreaterEqual(self.pod["terminationGracePeriodSeconds"], sleep + drain + CLOSING)

    def test_they_are_spread_by_the_pods_labels(self) -> None:
        labels = self.spec["template"]["metadata"]["labels"].items()
        keys = [each["topologyKey"] for each in self.pod["topologySpreadConstraints"]]
        self.assertEqual(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"])
        for each in self.pod["topologySpreadConstraints"]:
            self.assertLessEqual(each["labelSelector"]["matchLabels"].items(), labels)
            # A cluster of one node is no reason not to start.
            self.assertEqual(each["whenUnsatisfiable"], "ScheduleAnyway")

    def test_a_drain_of_nodes_ends_one_at_a_time(self) -> None:
        budget = self.found["PodDisruptionBudget"]["spec"]
        labels = self.spec["template"]["metadata"]["labels"].items()
        self.assertLessEqual(budget["selector"]["matchLabels"].items(), labels)
        self.assertEqual(budget["maxUnavailable"], 1)

    def test_one_daemon_has_no_budget(self) -> None:
        for overlay in ("vanus", "knative"):
            self.assertNotIn("PodDisruptionBudget", self.render(overlay))
        self.assertNotIn("PodDisruptionBudget", documents(SOURCE))


class JournalTests(ReplicasTestCase):
    def test_it_is_in_postgresql_and_nowhere_else(self) -> None:
        self.assertRegex(self.settings["journal"], "^postgresql://")
        for name, volume in self.volumes().items():
            self.assertNotIn("persistentVolumeClaim", volume, name)
        # Else a daemon whose config has lost `journal` would start on one that its end deletes.
        mount = self.mounts()["rundir"]
        self.assertEqual(mount["mountPath"], the_one("VOLUME"))
        self.assertTrue(mount["readOnly"])
        self.assertTrue(all(each.get("readOnly") for each in self.mounts().values()))

    def test_every_mount_has_its_volume(self) -> None:
        self.assertEqual(self.mounts().keys(), self.volumes().keys())

    def test_secrets_are_where_the_config_looks_for_them(self) -> None:
        for file, name in (
            (self.settings["token_file"], "token"),
            (self.settings["journal_password"]["file"], "journal-password"),
        ):
            self.assertEqual(str(Path(file).parent), self.mounts()[name]["mountPath"])
            self.assertNotIn("subPath", self.mounts()[name])  # which is never brought up to date
            self.assertEqual(self.volumes()[name]["secret"]["defaultMode"], 0o440)

    def test_secrets_are_made_apart_and_the_files_say_how(self) -> None:
        command = "kubectl create secret generic source-chatgpt-journal --namespace vanus"
        secret = self.volumes()["journal-password"]["secret"]["secretName"]
        self.assertEqual(secret, command.split()[4])
        self.assertIn(f"\n{command} ", README)
        for path in sorted((ROOT / "k8s").rglob("*.y*ml")):
            text = path.read_text(encoding="utf-8")
            self.assertNotRegex(text, r"(?m)^kind: Secret\b", path.name)
            self.assertNotRegex(text, r"://[^/@\s]*:[^/@\s]*@", path.name)
            if "password" in text and "kustomization" in path.name:
                self.assertIn(f"#   {command} ", text)

    def test_the_config_is_one(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        secret = folder / "secret"
        secret.write_text("made-up\n", encoding="utf-8")
        path = folder / "config.yml"
        text = (FOLDER / "config.yml").read_text(encoding="utf-8")
        path.write_text(re.sub(r"/run/secrets/[\w/-]+", str(secret), text), encoding="utf-8")
        config = load({}, path)
        self.assertEqual(config.journal, self.settings["journal"])
        self.assertEqual((config.drain_timeout, config.warnings), (150, ()))


class TrialTests(ReplicasTestCase):
    """The server to try them with is the one that they look for."""

    def setUp(self) -> None:
        super().setUp()
        self.trial = documents(TRIAL)
        self.server = self.trial["StatefulSet"]["spec"]["template"]["spec"]
        (self.postgres,) = self.server["containers"]

    def test_url(self) -> None:
        user, host, database = re.fullmatch(  # type: ignore[union-attr]
            r"postgresql://(\w+)@([\w-]+)/(\w+)", self.settings["journal"]
        ).groups()
        service = self.trial["Service"]
        self.assertEqual(service["metadata"]["name"], host)
        self.assertEqual(service["metadata"]["namespace"], "vanus")
        self.assertEqual(service["spec"]["ports"][0]["port"], 5432)
        environ = {each["name"]: each["value"] for each in self.postgres["env"]}
        self.assertEqual((environ["POSTGRES_USER"], environ["POSTGRES_DB"]), (user, database))

    def test_password(self) -> None:
        (volume,) = [each for each in self.server["volumes"] if "secret" in each]
        ours = self.volumes()["journal-password"]["secret"]
        self.assertEqual(volume["secret"]["secretName"], ours["secretName"])
        environ = {each["name"]: each["value"] for each in self.postgres["env"]}
        self.assertEqual(
            Path(environ["POSTGRES_PASSWORD_FILE"]).name,
            Path(self.settings["journal_password"]["file"]).name,
        )

    def test_selectors(self) -> None:
        labels = self.trial["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(self.trial["Service"]["spec"]["selector"], labels)
        policy = self.trial["NetworkPolicy"]["spec"]
        self.assertEqual(policy["podSelector"]["matchLabels"], labels)
        (rule,) = policy["ingress"]
        self.assertEqual(
            rule["from"], [{"podSelector": {"matchLabels": self.spec["selector"]["matchLabels"]}}]
        )
        # What the README deletes by its label is not the database.
        self.assertNotEqual(labels["app"], self.spec["selector"]["matchLabels"]["app"])

    def test_pod_security_standard_restricted(self) -> None:
        self.assertEqual(restricted(self.server), [])

    def test_the_pods_reach_it_where_egress_is_forbidden(self) -> None:
        spec = documents(EGRESS)["NetworkPolicy"]["spec"]
        self.assertEqual(spec["policyTypes"], ["Egress"])
        self.assertEqual(
            spec["podSelector"], documents(POLICY)["NetworkPolicy"]["spec"]["podSelector"]
        )
        labels = self.trial["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
        self.assertIn(
            {
                "to": [{"podSelector": {"matchLabels": labels}}],
                "ports": [{"protocol": "TCP", "port": 5432}],
            },
            spec["egress"],
        )


class ScaledObjectTests(AdminTestCase):
    def test_scales_our_deployment(self) -> None:
        target = documents(SOURCE)["Deployment"]
        self.assertEqual(
            SCALED["spec"]["scaleTargetRef"],
            {
                "apiVersion": target["apiVersion"],
                "kind": "Deployment",
                "name": target["metadata"]["name"],
            },
        )
        self.assertEqual(SCALED["metadata"]["namespace"], target["metadata"]["namespace"])

    def test_is_not_applied_by_default(self) -> None:
        for file in (FOLDER / "kustomization.yaml", FOLDER / "deployment.yaml"):
            self.assertNotRegex(file.read_text(encoding="utf-8"), r"(?m)^[^#]*autoscaling")

    def test_its_metrics_and_labels_exist(self) -> None:
        text = self.get("/metrics").body.decode()
        for name in names(QUERY):
            self.assertIn(f"\n{name}", text)
        for name, peers in re.findall(r'(\w+)\{peer=~?"([\w|]+)"', QUERY):
            for peer in peers.split("|"):
                self.assertIn(f'{name}{{peer="{peer}"}}', text)

    def test_its_numbers_are_those_of_the_settings_and_the_alert(self) -> None:
        spec = SCALED["spec"]
        (trigger,) = spec["triggers"]
        threshold = float(trigger["metadata"]["threshold"])
        fewest, most = spec["minReplicaCount"], spec["maxReplicaCount"]
        self.assertIn(f"> {fewest * default('concurrency')})", QUERY)
        self.assertGreater(threshold * fewest, default("openai_timeout") + TIMEOUT)
        (alert,) = [rule for rule in rules() if rule["alert"] == "ChatGPTSourceBacklogAges"]
        pages = float(alert["expr"].partition("> ")[2])
        self.assertLess(math.ceil(threshold * most), pages)
        patch = yaml.safe_load((FOLDER / "deployment.yaml").read_text(encoding="utf-8"))
        self.assertEqual(fewest, patch["spec"]["replicas"])
        self.assertEqual(fewest, spec["fallback"]["replicas"])
        # Of an age, KEDA must make age / threshold, and not the replicas there are times that.
        self.assertEqual(trigger["metricType"], "AverageValue")


class QueryTests(SynchronousTestCase):
    """What Prometheus itself makes of the query."""

    def ask(self, *series: str) -> float | None:
        """The query's value over series of three replicas; None if there is none."""
        promtool = shutil.which("promtool")
        if promtool is None:
            raise SkipTest("promtool is not installed (Debian's package prometheus has it)")
        folder = Path(self.mktemp())
        folder.mkdir()
        rule = {"record": "asked", "expr": QUERY}
        (folder / "rules.yml").write_text(
            yaml.safe_dump({"groups": [{"name": "keda", "rules": [rule]}]})
        )
        given = []
        for each in series:
            name, value = each.rsplit(" ", 1)
            for pod in range(3):
                labels = f'pod="{pod}"'
                there = name.replace("{", f"{{{labels},") if "{" in name else f"{name}{{{labels}}}"
                given.append({"series": there, "values": value})
        for expected in (None, 300.0):
            samples = [] if expected is None else [{"labels": "asked", "value": expected}]
            case = {
                "interval": "1m",
                "input_series": given,
                "promql_expr_test": [{"expr": "asked", "eval_time": "1m", "exp_samples": samples}],
            }
            test = folder / "test.yml"
            test.write_text(
                yaml.safe_dump(
                    {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [case]}
                )
            )
            done = subprocess.run(
                [promtool, "test", "rules", str(test)], capture_output=True, text=True, check=False
            )
            if done.returncode == 0:
                return expected
        raise AssertionError(done.stdout + done.stderr)

    AGE = "chatgpt_source_backlog_oldest_age_seconds 300+0x5"
    MANY = "chatgpt_source_backlog 500+0x5"
    PEERS = (
        'chatgpt_source_circuit_open{peer="model"} 0+0x5',
        'chatgpt_source_circuit_open{peer="target"} 0+0x5',
        'chatgpt_source_throttled{peer="model"} 0+0x5',
    )

    def test_the_age_once_though_each_replica_tells_it(self) -> None:
        self.assertEqual(self.ask(self.AGE, self.MANY, *self.PEERS), 300)

    def test_the_age_where_nothing_is_known_of_the_peers(self) -> None:
        self.assertEqual(self.ask(self.AGE, self.MANY), 300)

    def test_nothing_while_few_wait(self) -> None:
        self.assertIsNone(self.ask(self.AGE, "chatgpt_source_backlog 192+0x5", *self.PEERS))

    def test_nothing_while_a_peer_is_held_or_throttles(self) -> None:
        for index, series in enumerate(self.PEERS):
            peers = list(self.PEERS)
            peers[index] = series.replace(" 0+", " 1+")
            self.assertIsNone(self.ask(self.AGE, self.MANY, *peers), series)

    def test_a_further_target_that_is_held_does_not_matter(self) -> None:
        other = 'chatgpt_source_circuit_open{peer="target.other"} 1+0x5'
        self.assertEqual(self.ask(self.AGE, self.MANY, *self.PEERS, other), 300)


class ManifestsTests(SynchronousTestCase):
    def test_no_manifest_holds_a_secret(self) -> None:
        for text in (SOURCE, NAMESPACE, JOURNAL, POLICY, TRIAL, EGRESS):
            self.assertNotRegex(text, r"(?m)^kind: Secret\b")
