"""The Helm chart: what helm makes of it, that it is our manifests, and what it refuses."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from kubernetes_validate import validate
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.config import load
from tests.rules import RULES
from tests.test_dockerfile import ROOT, setup_argument
from tests.test_k8s import EGRESS, POLICY, README, SOURCE, Document, documents
from tests.test_kustomize import KustomizeTestCase
from tests.test_replicas import CLOSING, SCALED, SLEEPS, restricted

CHART = ROOT / "deploy" / "helm" / "chatgpt-source"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
TABLE = (CHART / "README.md").read_text(encoding="utf-8")
JOURNAL = "postgresql://chatgpt@source-chatgpt-postgres/chatgpt"
SHARED = {"replicas": 3, "settings": {"journal": JOURNAL}}
EVERYTHING = {
    **SHARED,
    "image": {"repository": "registry.example/chatgpt-source", "tag": "1", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "secretMounts": [{"secret": "callers", "mountPath": "/run/secrets/callers"}],
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"a": "b"}},
    "serviceAccount": {"annotations": {"a": "b"}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"enabled": True, "egress": {"enabled": True}},
    "keda": {"enabled": True, "selector": 'namespace="vanus"'},
    "knative": {"trigger": {"enabled": True}},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "shop"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}
BOUND = {"settings": {"target": None}, "knative": {"sinkBinding": {"enabled": True}}}
PODS = {"podMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}
SETS: tuple[dict[str, Any], ...] = ({}, SHARED, EVERYTHING, BOUND, PODS)
OTHERS = {
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "ServiceMonitor",
    "SinkBinding",
    "Trigger",
}
"""Kinds that are not Kubernetes' own: kubernetes-validate has no schemas of them."""


def find_helm() -> str:
    here = Path(sys.prefix) / "bin" / "helm"
    found = shutil.which("helm") or (str(here) if here.exists() else None)
    if found is None:
        raise SkipTest("no helm: `make test` installs it on Linux on x86-64 only")
    return found


def without_nulls(value: Any) -> Any:
    """As a cluster keeps it: null means that a member is not there."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def named(listed: list[Document]) -> dict[str, Document]:
    return {each["name"]: each for each in listed}


class HelmTestCase(KustomizeTestCase):
    def helm(self, *arguments: str, values: Document) -> subprocess.CompletedProcess[str]:
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return subprocess.run(
            [find_helm(), *arguments, str(CHART), "--values", str(path), "--namespace", "vanus"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def template(self, values: Document, release: str = "source-chatgpt") -> dict[str, Document]:
        """What `helm install` would apply, by kind; the Service for Prometheus as `Metrics`."""
        ran = self.helm("template", release, values=values)
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        found: dict[str, Document] = {}
        for document in yaml.safe_load_all(ran.stdout):
            kind = document["kind"]
            if kind == "Service" and document["metadata"]["name"].endswith("-metrics"):
                kind = "Metrics"
            self.assertNotIn(kind, found)
            found[kind] = document
        return found

    def refusal(self, values: Document) -> str:
        ran = self.helm("template", "source-chatgpt", values=values)
        self.assertNotEqual(ran.returncode, 0, ran.stdout)
        return ran.stderr


def pod_of(found: dict[str, Document]) -> Document:
    return found["Deployment"]["spec"]["template"]["spec"]


def container_of(found: dict[str, Document]) -> Document:
    (container,) = pod_of(found)["containers"]
    return container


def settings_of(found: dict[str, Document]) -> Document:
    (text,) = found["ConfigMap"]["data"].values()
    return yaml.safe_load(text)


def comparable(found: dict[str, Document]) -> dict[str, Any]:
    """What must be the same in the chart and in the manifests.

    Left out: the labels and annotations that each has of its own, and what a ConfigMap is called.
    """
    found = without_nulls(deepcopy(found))
    for document in found.values():
        document["metadata"] = {key: document["metadata"][key] for key in ("name", "namespace")}
    config = found["ConfigMap"]
    config["data"] = settings_of(found)
    config["metadata"]["name"] = "source-chatgpt"
    template = found["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    template["metadata"]["labels"] = {"app": labels["app"]}
    template["metadata"]["annotations"].pop("checksum/config", None)
    volumes = named(template["spec"]["volumes"])
    volumes["config"]["configMap"]["name"] = "source-chatgpt"
    template["spec"]["volumes"] = volumes
    (container,) = template["spec"]["containers"]
    container["volumeMounts"] = named(container["volumeMounts"])
    return found


class RenderTests(HelmTestCase):
    def test_lint(self) -> None:
        for values in SETS:
            ran = self.helm("lint", "--strict", values=values)
            self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)

    def test_the_schemas_of_kubernetes(self) -> None:
        for values in SETS:
            for kind, document in self.template(values).items():
                for version in SLEEPS if kind not in OTHERS else ():
                    validate(without_nulls(document), version, strict=True)

    def test_everything_renders_everything(self) -> None:
        self.assertEqual(
            {kind for values in SETS for kind in self.template(values)},
            {"ConfigMap", "Service", "Metrics", "Deployment", "ServiceAccount", "NetworkPolicy"}
            | {"PersistentVolumeClaim", "PodDisruptionBudget"}
            | OTHERS,
        )

    def test_by_default_it_is_the_plain_manifest(self) -> None:
        found = comparable(self.template({}))
        account = found.pop("ServiceAccount")
        named_one = found["Deployment"]["spec"]["template"]["spec"].pop("serviceAccountName")
        self.assertEqual(named_one, account["metadata"]["name"])
        self.assertEqual(found, comparable(documents(SOURCE)))

    def test_with_replicas_it_is_the_overlay(self) -> None:
        self.assertEqual(comparable(self.template(SHARED)), comparable(self.build("replicas")))

    def test_labels_are_those_of_the_overlay_and_the_selector_that_of_the_base(self) -> None:
        found, overlay = self.template(SHARED), self.build("replicas")
        for kind, document in overlay.items():
            labels = document["metadata"]["labels"].items()
            self.assertLessEqual(labels, found[kind]["metadata"]["labels"].items(), kind)
        template = overlay["Deployment"]["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(found["Deployment"]["spec"]["template"]["metadata"]["labels"], template)

    def test_every_name_follows_the_release(self) -> None:
        for values in SETS:
            for kind, document in self.template(values, "mine").items():
                name = "mine-metrics" if kind == "Metrics" else "mine"
                self.assertEqual(document["metadata"]["name"], name)
                self.assertEqual(document["metadata"]["namespace"], "vanus")
                self.assertNotIn("source-chatgpt", str(document.get("spec", {}).get("selector")))
        deployment = self.template(SHARED, "mine")["Deployment"]
        secrets = [
            volume["secret"]["secretName"]
            for volume in deployment["spec"]["template"]["spec"]["volumes"]
            if "secret" in volume
        ]
        self.assertEqual(secrets, ["mine", "mine-journal"])

    def test_pod_security_standard_restricted(self) -> None:
        for values in SETS:
            found = self.template(values)
            self.assertEqual(restricted(pod_of(found)), [])
            self.assertTrue(container_of(found)["securityContext"]["readOnlyRootFilesystem"])
            self.assertFalse(pod_of(found)["automountServiceAccountToken"])

    def test_the_commands_of_the_readme(self) -> None:
        commands = re.findall(r"(?m)^helm (?:upgrade --install|install) ((?:.*\\\n)*.*)$", README)
        self.assertEqual(len(commands), 2)
        for command, values in zip(commands, ({}, SHARED), strict=True):
            ran = subprocess.run(
                [find_helm(), "template", *shlex.split(command.replace("\\\n", ""))],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            found = {each["kind"]: each for each in yaml.safe_load_all(ran.stdout)}
            self.assertEqual(found, self.template(values))

    def test_it_holds_no_secret(self) -> None:
        for values in SETS:
            self.assertNotIn("Secret", self.template(values))

    def test_a_change_of_the_settings_starts_new_pods(self) -> None:
        def checksum(values: Document) -> str:
            template = self.template(values)["Deployment"]["spec"]["template"]
            return template["metadata"]["annotations"]["checksum/config"]

        before = checksum({})
        self.assertNotEqual(checksum({"settings": {"everyday_limit": 5}}), before)
        self.assertEqual(checksum({"service": {"port": 80}}), before)

    def test_the_volume_outlives_the_release(self) -> None:
        claim = self.template({})["PersistentVolumeClaim"]
        self.assertEqual(claim["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")

    def test_a_volume_that_is_there_already(self) -> None:
        found = self.template({"persistence": {"existingClaim": "mine"}})
        self.assertNotIn("PersistentVolumeClaim", found)
        volume = named(pod_of(found)["volumes"])["journal"]
        self.assertEqual(volume["persistentVolumeClaim"]["claimName"], "mine")

    def test_the_account_is_always_named(self) -> None:
        for account, name in (
            ({}, "source-chatgpt"),
            ({"name": "mine"}, "mine"),
            ({"create": False}, "default"),
            ({"create": False, "name": "mine"}, "mine"),
        ):
            found = self.template({"serviceAccount": account})
            self.assertEqual(pod_of(found)["serviceAccountName"], name)
            self.assertEqual("ServiceAccount" in found, account.get("create", True))

    def test_one_daemon_after_several_has_no_rolling_update(self) -> None:
        self.assertEqual(
            self.template({})["Deployment"]["spec"]["strategy"],
            {"type": "Recreate", "rollingUpdate": None},
        )

    def notes(self, values: Document) -> str:
        ran = self.helm("install", "source-chatgpt", "--dry-run=client", values=values)
        if "cluster unreachable" in ran.stderr:
            raise SkipTest("Helm 3 asks a cluster for its version even for this, and there is none")
        self.assertEqual(ran.returncode, 0, ran.stderr)
        return ran.stdout.partition("NOTES:")[2]

    def test_notes_name_the_secrets(self) -> None:
        notes = self.notes(SHARED)
        for command in re.findall(r"(?m)^ *(kubectl create secret .*?)<", README):
            self.assertIn(command, notes)

    def test_notes_name_no_secret_that_is_not_mounted(self) -> None:
        self.assertNotIn(
            "kubectl create secret", self.notes({"settings": {"token": {"env": "KEY"}}})
        )


class SettingsTests(HelmTestCase):
    def test_the_daemon_takes_them(self) -> None:
        secret = Path(self.mktemp()).absolute()
        secret.write_text("made-up", encoding="utf-8")
        more = {"settings": {"max_body_size": 5000000, "openai_timeout": 0.5, "timezone": "UTC"}}
        for values in ({}, more, SHARED):
            (text,) = self.template(values)["ConfigMap"]["data"].values()
            path = Path(self.mktemp())
            path.write_text(re.sub(r"/run/secrets/[\w/-]+", str(secret), text), encoding="utf-8")
            config = load({}, path)
            self.assertEqual(config.warnings, ())
            self.assertEqual(config.target, VALUES["settings"]["target"])
            self.assertEqual(config.token.read(), "made-up")
            for key, value in values.get("settings", {}).items():
                self.assertEqual(str(getattr(config, key)), str(value), key)

    def test_ones_own_are_kept(self) -> None:
        given = {
            "token": {"env": "KEY"},
            "journal": JOURNAL,
            "journal_password": {"file": "/run/secrets/mine"},
            "drain_timeout": 0,
        }
        self.assertLessEqual(given.items(), settings_of(self.template({"settings": given})).items())
        self.assertNotIn("token_file", settings_of(self.template({"settings": given})))

    def test_the_ports_follow_them(self) -> None:
        found = self.template({"settings": {"port": 9000, "admin": "tcp:9500"}})
        ports = {port["name"]: port["containerPort"] for port in container_of(found)["ports"]}
        self.assertEqual(ports, {"http": 9000, "admin": 9500})
        annotations = found["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        self.assertEqual(annotations["prometheus.io/port"], "9500")

    def test_metrics_where_pods_have_ipv6_alone(self) -> None:
        found = self.template({"settings": {"admin": "tcp6:9500"}, **PODS})
        self.assertEqual(named(container_of(found)["ports"])["admin"]["containerPort"], 9500)

    def test_the_time_to_stop_follows_them(self) -> None:
        for settings, sleep in (
            ({}, 0),
            ({"drain_timeout": 60}, 0),
            ({"drain_timeout": 0.5}, 0),
            ({"journal": JOURNAL}, 10),
            ({"journal": JOURNAL, "openai_timeout": 300}, 10),
            ({"journal": JOURNAL, "drain_timeout": 12.5}, 10),
        ):
            found = self.template({"settings": settings})
            drain = settings_of(found).get("drain_timeout", 8)
            grace = pod_of(found)["terminationGracePeriodSeconds"]
            self.assertGreaterEqual(grace, drain + sleep + CLOSING, settings)
            self.assertLessEqual(grace, max(30, drain + sleep + 21), settings)
        found = self.template({"settings": {"journal": JOURNAL, "openai_timeout": 300}})
        self.assertEqual(settings_of(found)["drain_timeout"], 330)

    def test_the_probes_follow_them(self) -> None:
        key = ":privateKey=/k:certKey=/c"
        for listen, port, expected in (
            ("tcp:9000", 9000, {"httpGet": {"path": "/readyz", "port": "http"}}),
            ("tcp6:port=9000", 9000, {"httpGet": {"path": "/readyz", "port": "http"}}),
            (
                f"ssl:port=8443{key}",
                8443,
                {"httpGet": {"path": "/readyz", "port": "http", "scheme": "HTTPS"}},
            ),
            (f"ssl:8443{key}:clientCA=/a", 8443, {"tcpSocket": {"port": "http"}}),
        ):
            container = container_of(self.template({"settings": {"listen": listen}}))
            self.assertLessEqual(expected.items(), container["readinessProbe"].items())
            self.assertEqual(container["ports"][0], {"name": "http", "containerPort": port})

    def test_a_secret_that_no_setting_names_is_not_waited_for(self) -> None:
        """A pod does not start before all Secrets are there that it mounts."""
        own = {"token": {"env": "KEY"}, "journal": JOURNAL, "journal_password": {"env": "WORD"}}
        local = {"fallbacks": [{"token_file": "/run/secrets/source-chatgpt/local"}]}
        for values, expected in (
            ({"settings": own}, set()),
            ({"settings": own, "token": {"secret": "keys"}}, {"token"}),
            ({"settings": {**own, **local}}, {"token"}),
            ({"settings": {"journal": JOURNAL}}, {"token", "journal-password"}),
        ):
            pod = pod_of(self.template(values))
            secrets = {each["name"] for each in pod["volumes"] if "secret" in each}
            self.assertEqual(secrets, expected)
            mounts = {each["name"] for each in pod["containers"][0]["volumeMounts"]}
            self.assertEqual(mounts, {"config", "rundir", *expected})

    def test_further_secrets(self) -> None:
        found = self.template(EVERYTHING)
        volume = named(pod_of(found)["volumes"])["secret-0"]
        self.assertEqual(volume["secret"], {"secretName": "callers", "defaultMode": 0o440})
        mount = named(container_of(found)["volumeMounts"])["secret-0"]
        self.assertEqual(mount["mountPath"], "/run/secrets/callers")


class RefusalTests(HelmTestCase):
    def test_what_can_not_work(self) -> None:
        keda = {"enabled": True}
        for values, told in (
            ({"replicas": 2}, "replicas: a SQLite journal has one daemon"),
            ({"replicas": 2, "settings": {"journal": "/a.sqlite"}}, "replicas: a SQLite journal"),
            ({"keda": keda}, "keda.enabled: it needs a journal that replicas can share"),
            ({**SHARED, "keda": {**keda, "maxReplicas": 2}}, "keda.maxReplicas: it must be"),
            (
                {"keda": keda, "settings": {"journal": JOURNAL, "batch_over": 3600}},
                "keda.enabled: with `settings.batch_over`",
            ),
            (
                {"settings": {"journal": "postgresql://a:secret@b/c"}},
                "settings.journal: it holds a password",
            ),
            (
                {"settings": {"journal": "postgresql://a@b/c?password=secret"}},
                "settings.journal: it holds a password",
            ),
            ({"settings": {"target": None}}, "settings.target: where the answers go is missing"),
            (
                {"knative": {"sinkBinding": {"enabled": True}}},
                "knative.sinkBinding.enabled: `settings.target` would win",
            ),
            (
                {"settings": {"admin": None}, "serviceMonitor": {"enabled": True}},
                "settings.admin: Prometheus needs a TCP port",
            ),
            (
                {"settings": {"admin": None}, **PODS},
                "settings.admin: Prometheus needs a TCP port",
            ),
            (
                {**PODS, "serviceMonitor": {"enabled": True}},
                "podMonitor.enabled: with `serviceMonitor.enabled`",
            ),
            (
                {
                    "settings": {"admin": "ssl:9464:privateKey=/k"},
                    "serviceMonitor": {"enabled": True},
                },
                "settings.admin: Prometheus needs a TCP port",
            ),
            (
                {"settings": {"admin": "tcp:9464:interface=127.0.0.1"}, **PODS},
                "settings.admin: Prometheus needs a TCP port",
            ),
            (
                {"settings": {"listen": "tcp:8080:interface=127.0.0.1"}},
                "settings.listen: at a loopback address",
            ),
            (
                {"settings": {"listen": "tcp6:8080:interface=\\:\\:1"}},
                "settings.listen: at a loopback address",
            ),
            (
                {"settings": {"listen": "unix:/run/socket"}},
                "settings.listen: the Service needs a port",
            ),
            (
                {"settings": {"journal": JOURNAL}, "terminationGracePeriodSeconds": 150},
                "terminationGracePeriodSeconds: the pod would be killed",
            ),
        ):
            said = self.refusal(values)
            self.assertIn(told, said)
            self.assertNotIn("secret@", said)

    def test_what_works_is_not_refused(self) -> None:
        for values in (
            {"replicas": 0},
            {"settings": {"journal": JOURNAL}},
            {"settings": {"journal": "postgres://b/c?sslmode=verify-full"}, "replicas": 2},
            {"settings": {"target": None}, "extraEnv": [{"name": "K_SINK", "value": "http://x"}]},
            {"settings": {"journal": JOURNAL}, "terminationGracePeriodSeconds": 170},
            {"settings": {"admin": None}},
            {"settings": {"admin": "tcp:9464:interface=127.0.0.1"}},
            {"settings": {"token": {"env": "KEY"}, "signing_secret": [{"file": "/a"}]}},
        ):
            self.template(values)

    def test_secrets_that_would_stand_in_the_config_map(self) -> None:
        for settings in (
            {"token": "sk-made-up"},
            {"journal": JOURNAL, "journal_password": "sk-made-up"},
            {"signing_secret": "sk-made-up"},
            {"signing_secret": ["sk-made-up"]},
            {"auth": {"bearer": ["sk-made-up"]}},
            {"admin_auth": {"basic": {"me": "sk-made-up"}}},
            {"targets": {"a": {"url": "http://a", "signing_secret": "sk-made-up"}}},
            {"fallbacks": [{"base_url": "http://a", "token": "sk-made-up"}]},
        ):
            said = self.refusal({"settings": settings})
            # As Helm 4 and Helm 3 say it.
            self.assertRegex(said, "got string, want|Expected: .*, given: string")
            self.assertNotIn("sk-made-up", said)

    def test_a_typo(self) -> None:
        for values in (
            {"replicaCount": 3},
            {"image": {"name": "a"}},
            {"networkPolicy": {"egress": {"enable": True}}},
            {"replicas": "three"},
            {"service": {"port": 70000}},
        ):
            self.assertIn("values", self.refusal(values))


class FeatureTests(HelmTestCase):
    def test_budget_is_for_several(self) -> None:
        self.assertNotIn("PodDisruptionBudget", self.template({}))
        one = self.template({"settings": {"journal": JOURNAL}})
        self.assertNotIn("PodDisruptionBudget", one)
        scaled = {"settings": {"journal": JOURNAL}, "keda": {"enabled": True}}
        self.assertIn("PodDisruptionBudget", self.template(scaled))
        without = {**SHARED, "podDisruptionBudget": {"enabled": False}}
        self.assertNotIn("PodDisruptionBudget", self.template(without))

    def test_scaled_object_is_that_of_the_overlay(self) -> None:
        found = self.template({**SHARED, "keda": {"enabled": True}})
        self.assertEqual(found["ScaledObject"]["spec"], SCALED["spec"])
        # KEDA's number, not ours.
        self.assertNotIn("replicas", found["Deployment"]["spec"])

    def test_scaled_object_follows_the_values(self) -> None:
        keda = {
            "enabled": True,
            "minReplicas": 2,
            "threshold": 90,
            "selector": 'namespace="a",job=~"b|c"',
        }
        values = {"keda": keda, "settings": {"journal": JOURNAL, "concurrency": 100}}
        (trigger,) = self.template(values)["ScaledObject"]["spec"]["triggers"]
        self.assertEqual(trigger["metadata"]["threshold"], "90")
        query = trigger["metadata"]["query"]
        self.assertIn("> 200)", query)
        self.assertEqual(query.count('namespace="a",job=~"b|c"'), 4)
        promtool = shutil.which("promtool")
        if promtool is not None:
            rules = Path(self.mktemp())
            rule = {"record": "asked", "expr": query}
            rules.write_text(yaml.safe_dump({"groups": [{"name": "keda", "rules": [rule]}]}))
            done = subprocess.run(
                [promtool, "check", "rules", str(rules)], capture_output=True, check=False
            )
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_service_monitor_finds_the_pods_and_callers_do_not_find_the_admin_site(self) -> None:
        found = self.template(EVERYTHING)
        metrics, monitor = found["Metrics"], found["ServiceMonitor"]["spec"]
        wanted = monitor["selector"]["matchLabels"].items()
        self.assertLessEqual(wanted, metrics["metadata"]["labels"].items())
        self.assertFalse(wanted <= found["Service"]["metadata"]["labels"].items())
        self.assertEqual(found["ServiceMonitor"]["metadata"]["labels"]["release"], "prometheus")
        (endpoint,) = monitor["endpoints"]
        (port,) = metrics["spec"]["ports"]
        self.assertEqual(endpoint["port"], port["name"])
        self.assertEqual(port["targetPort"], "admin")
        self.assertEqual(metrics["spec"]["selector"], found["Service"]["spec"]["selector"])
        (http,) = found["Service"]["spec"]["ports"]
        self.assertEqual((http["targetPort"], http["port"]), ("http", 80))
        # Else Prometheus would scrape each pod twice.
        annotations = found["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        self.assertFalse([key for key in annotations if key.startswith("prometheus.io/")])

    def test_pod_monitor_is_ours(self) -> None:
        found = self.template(PODS)
        monitor = found["PodMonitor"]
        ours = (ROOT / "deploy" / "prometheus" / "podmonitor.yaml").read_text(encoding="utf-8")
        self.assertEqual(monitor["spec"], documents(ours)["PodMonitor"]["spec"])
        self.assertEqual(monitor["metadata"]["labels"]["release"], "prometheus")
        template = found["Deployment"]["spec"]["template"]["metadata"]
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        self.assertLessEqual(wanted, template["labels"].items())
        annotations = template["annotations"]
        self.assertFalse([key for key in annotations if key.startswith("prometheus.io/")])

    def test_prometheus_rule_has_our_rules(self) -> None:
        rule = self.template(EVERYTHING)["PrometheusRule"]
        self.assertEqual(rule["spec"], yaml.safe_load(RULES.read_text(encoding="utf-8")))
        self.assertEqual(rule["metadata"]["labels"]["release"], "prometheus")

    def test_network_policy_is_the_example(self) -> None:
        def told(spec: Document) -> list[tuple[list[str], Document]]:
            found = []
            for rule in spec["ingress"]:
                (source,) = rule["from"]
                selector = source["namespaceSelector"]
                names = list(selector.get("matchLabels", {}).values())
                for each in selector.get("matchExpressions", []):
                    names += each["values"]
                found.append((names, rule["ports"]))
            return found

        spec = self.template({"networkPolicy": {"enabled": True}})["NetworkPolicy"]["spec"]
        example = documents(POLICY)["NetworkPolicy"]["spec"]
        self.assertEqual(told(spec), told(example))
        for key in ("podSelector", "policyTypes"):
            self.assertEqual(spec[key], example[key])

    def test_egress_is_the_example(self) -> None:
        example = documents(EGRESS)["NetworkPolicy"]["spec"]["egress"]
        dns, database, *others = example
        policy = {
            "enabled": True,
            "egress": {"enabled": True, "database": database["to"], "rules": others},
        }
        spec = self.template({**SHARED, "networkPolicy": policy})["NetworkPolicy"]["spec"]
        self.assertEqual(spec["policyTypes"], ["Ingress", "Egress"])
        self.assertEqual(spec["egress"], [dns, database, *others])
        alone = self.template({"networkPolicy": policy})["NetworkPolicy"]["spec"]
        self.assertNotIn(database, alone["egress"])

    def test_knative_is_ours(self) -> None:
        values = {
            "settings": {"target": None},
            "knative": {"sinkBinding": {"enabled": True}, "trigger": {"enabled": True}},
        }
        found = self.template(values)
        self.assertNotIn("target", settings_of(found))
        self.assertEqual(
            found["SinkBinding"]["spec"], self.render("knative")["SinkBinding"]["spec"]
        )
        trigger = yaml.safe_load((ROOT / "k8s" / "knative-trigger.yaml").read_text())
        self.assertEqual(found["Trigger"]["spec"], trigger["spec"])
        self.assertEqual(found["Trigger"]["apiVersion"], trigger["apiVersion"])


class ChartTests(SynchronousTestCase):
    """The chart's files, which need no helm."""

    def test_version_of_the_daemon(self) -> None:
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        self.assertEqual(chart["appVersion"], setup_argument("version"))
        self.assertEqual(chart["description"], setup_argument("description"))

    def test_the_schema_knows_every_value(self) -> None:
        def compare(values: Document, schema: Document, where: str) -> None:
            known = schema.get("properties", {})
            if schema.get("additionalProperties") is False:
                self.assertEqual(set(values), set(known) - {"global"}, where)
            for key, value in values.items():
                if isinstance(value, dict) and known.get(key, {}).get("properties"):
                    compare(value, known[key], f"{where}.{key}")

        settings = SCHEMA["properties"].pop("settings")
        self.addCleanup(SCHEMA["properties"].update, settings=settings)
        compare({key: each for key, each in VALUES.items() if key != "settings"}, SCHEMA, "")

    def test_the_table_has_every_value_and_its_default(self) -> None:
        rows = dict(re.findall(r"(?m)^\| `([\w.]+)` \| (.+?) \|", TABLE))
        told = set()
        for key, default in rows.items():
            value: Any = VALUES
            for part in key.split("."):
                self.assertIn(part, value, key)
                value = value[part]
            told.add(key)
            if default == "as in the base":
                continue
            shown = yaml.safe_load(default.strip("`")) if default.startswith("`") else default
            if default == "none":
                self.assertIn(value, ("", None, [], {}), key)
            else:
                self.assertEqual(shown, value, key)

        def leaves(value: Any, path: str) -> set[str]:
            if path in told or not isinstance(value, dict):
                return {path}
            return {leaf for key, each in value.items() for leaf in leaves(each, f"{path}.{key}")}

        self.assertEqual({leaf for key, each in VALUES.items() for leaf in leaves(each, key)}, told)
