"""The Kubernetes manifests: the real schemas, and what no schema knows."""

import os
import re
import shlex
import shutil
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import attrs
import yaml
from kubernetes_validate import ValidationError, validate
from kubernetes_validate.utils import all_versions
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from chatgpt_source.config import Config, ConfigError, load
from tests.test_dockerfile import ROOT, setup_argument, the_one

SOURCE = (ROOT / "k8s/source-chatgpt.yaml").read_text(encoding="utf-8")
NAMESPACE = (ROOT / "k8s/namespace.yaml").read_text(encoding="utf-8")
JOURNAL = (ROOT / "k8s/journal.yaml").read_text(encoding="utf-8")
POLICY = (ROOT / "k8s/networkpolicy.yaml").read_text(encoding="utf-8")
TRIAL = (ROOT / "k8s/postgres-trial.yaml").read_text(encoding="utf-8")
EGRESS = (ROOT / "k8s/replicas/egress.yaml").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
IMAGE = f"chatgpt-source:{setup_argument('version')}"
VERSIONS = sorted(set(all_versions()))
"""Of Kubernetes: all whose schemas kubernetes-validate brings."""

# What users of the Go connector have in their cluster, with nothing changed but the image: the
# token stands in the ConfigMap, the journal has no volume, nothing probes and no user is set.
ORIGINAL = f"""
apiVersion: v1
kind: Service
metadata:
  name: source-chatgpt
  namespace: vanus
spec:
  selector:
    app: source-chatgpt
  type: ClusterIP
  ports:
    - port: 8080
      name: source-chatgpt
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: source-chatgpt
  namespace: vanus
data:
  config.yml: |-
    target: "http://localhost:18080"
    token: "sk-made-up"

---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: source-chatgpt
  namespace: vanus
  labels:
    app: source-chatgpt
spec:
  selector:
    matchLabels:
      app: source-chatgpt
  replicas: 1
  template:
    metadata:
      labels:
        app: source-chatgpt
    spec:
      containers:
        - name: source-chatgpt
          image: {IMAGE}
          resources:
            requests:
              memory: "128Mi"
              cpu: "100m"
            limits:
              memory: "512Mi"
              cpu: "500m"
          imagePullPolicy: IfNotPresent
          volumeMounts:
            - name: config
              mountPath: /vanus-connect/config
      volumes:
        - name: config
          configMap:
            name: source-chatgpt
"""

Document = dict[str, Any]


def documents(text: str) -> dict[str, Document]:
    """The manifest's documents by kind, of which it has one each."""
    found = list(yaml.safe_load_all(text))
    by_kind = {document["kind"]: document for document in found}
    assert len(by_kind) == len(found), "two documents of one kind"
    return by_kind


def pod_of(text: str) -> Document:
    return documents(text)["Deployment"]["spec"]["template"]["spec"]


def container_of(text: str) -> Document:
    (container,) = pod_of(text)["containers"]
    return container


class SchemaTests(SynchronousTestCase):
    """Each document against the schemas of Kubernetes itself; an unknown field is an error."""

    def assert_valid(self, text: str) -> None:
        for version in VERSIONS:
            for document in documents(text).values():
                validate(document, version, strict=True)

    def test_source(self):
        kinds = ["Service", "ConfigMap", "PersistentVolumeClaim", "Deployment"]
        self.assertEqual(list(documents(SOURCE)), kinds)
        self.assert_valid(SOURCE)

    def test_the_others(self):
        for text, kind in (
            (NAMESPACE, "Namespace"),
            (JOURNAL, "PersistentVolumeClaim"),
            (POLICY, "NetworkPolicy"),
            (EGRESS, "NetworkPolicy"),
        ):
            self.assertEqual(list(documents(text)), [kind])
            self.assert_valid(text)

    def test_the_database_to_try(self):
        self.assertEqual(list(documents(TRIAL)), ["Service", "StatefulSet", "NetworkPolicy"])
        self.assert_valid(TRIAL)

    def test_manifest_of_the_go_connector(self):
        self.assert_valid(ORIGINAL)

    def test_a_slip_is_found(self):
        deployment = documents(SOURCE)["Deployment"]
        for slip in ({"livenesProbe": {}}, {"ports": [{"containerPort": "8080"}]}):
            broken = deepcopy(deployment)
            broken["spec"]["template"]["spec"]["containers"][0].update(slip)
            for version in VERSIONS:
                with self.assertRaises(ValidationError):
                    validate(broken, version, strict=True)


class DocsTests(SynchronousTestCase):
    """The pods that the docs make to copy or restore a journal."""

    def test_they_are_valid_and_hardened_and_have_the_journal(self) -> None:
        text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
        pods = [yaml.safe_load(each) for each in re.findall(r"<< EOF\n(.*?)\nEOF", text, re.DOTALL)]
        labels = {each["metadata"]["name"]: each["metadata"].get("labels") for each in pods}
        self.assertEqual(labels.keys(), {"source-chatgpt-copy", "source-chatgpt-restore"})
        # Network policies let pods with this label alone reach the database.
        self.assertEqual(labels["source-chatgpt-copy"], {"app": "source-chatgpt"})
        for pod in pods:
            for version in VERSIONS:
                validate(pod, version, strict=True)
            (container,) = pod["spec"]["containers"]
            self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
            claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
            self.assertEqual(claim, "source-chatgpt")


class NamesTests(SynchronousTestCase):
    """What refers to what. The Go connector's manifest is held to the same."""

    def test_names_and_namespace_are_those_of_the_go_connector(self):
        for text in (SOURCE, ORIGINAL):
            for kind, document in documents(text).items():
                self.assertEqual(document["metadata"]["name"], "source-chatgpt", kind)
                self.assertEqual(document["metadata"]["namespace"], "vanus", kind)
        self.assertEqual(documents(NAMESPACE)["Namespace"]["metadata"], {"name": "vanus"})

    def test_deployment_and_service_select_the_pod(self):
        for text in (SOURCE, ORIGINAL):
            found = documents(text)
            deployment = found["Deployment"]["spec"]
            labels = deployment["template"]["metadata"]["labels"]
            self.assertEqual(labels, {"app": "source-chatgpt"})
            self.assertEqual(deployment["selector"]["matchLabels"], labels)
            self.assertEqual(found["Service"]["spec"]["selector"], labels)

    def test_everything_of_ours_is_labelled(self):
        for kind, document in documents(SOURCE).items():
            self.assertEqual(document["metadata"]["labels"], {"app": "source-chatgpt"}, kind)

    def test_service_reaches_the_port_the_daemon_listens_on(self):
        for text in (SOURCE, ORIGINAL):
            service = documents(text)["Service"]["spec"]
            self.assertEqual(service["type"], "ClusterIP")
            (port,) = service["ports"]
            self.assertEqual((port["name"], port["port"]), ("source-chatgpt", 8080))
            named = {p["name"]: p["containerPort"] for p in container_of(text).get("ports", [])}
            target = port.get("targetPort", port["port"])
            self.assertEqual(named.get(target, target), attrs.fields(Config).port.default)

    def test_prometheus_finds_the_admin_site_and_the_service_does_not_offer_it(self):
        admin = yaml.safe_load(documents(SOURCE)["ConfigMap"]["data"]["config.yml"])["admin"]
        ports = {port["name"]: port["containerPort"] for port in container_of(SOURCE)["ports"]}
        self.assertEqual(admin, f"tcp:{ports['admin']}")
        annotations = documents(SOURCE)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        self.assertEqual(
            annotations,
            {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(ports["admin"]),
                "prometheus.io/path": "/metrics",
            },
        )
        targets = {port["targetPort"] for port in documents(SOURCE)["Service"]["spec"]["ports"]}
        self.assertFalse(targets & {"admin", ports["admin"]})

    def test_mounts_refer_to_volumes_and_volumes_to_what_is_there(self):
        for text in (SOURCE, ORIGINAL):
            found = documents(text)
            mounted = [mount["name"] for mount in container_of(text)["volumeMounts"]]
            self.assertEqual(mounted, [volume["name"] for volume in pod_of(text)["volumes"]])
            for volume in pod_of(text)["volumes"]:
                if "secret" in volume:
                    continue  # it is made apart
                kind, name = (
                    ("ConfigMap", volume["configMap"]["name"])
                    if "configMap" in volume
                    else ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
                )
                self.assertEqual(name, found[kind]["metadata"]["name"])

    def test_image_is_ours_and_of_this_version(self):
        for text in (SOURCE, ORIGINAL):
            self.assertEqual(container_of(text)["image"], IMAGE)
            self.assertEqual(container_of(text)["imagePullPolicy"], "IfNotPresent")

    def test_resources_are_those_of_the_go_connector(self):
        resources = {
            "requests": {"memory": "128Mi", "cpu": "100m"},
            "limits": {"memory": "512Mi", "cpu": "500m"},
        }
        for text in (SOURCE, ORIGINAL):
            self.assertEqual(container_of(text)["resources"], resources)


class ConfigTests(SynchronousTestCase):
    """What stands in the ConfigMaps is a configuration."""

    def config_file(self, text: str) -> Path:
        (mount,) = [m for m in container_of(text)["volumeMounts"] if m["name"] == "config"]
        self.assertEqual(mount["mountPath"], "/vanus-connect/config")
        (name,) = documents(text)["ConfigMap"]["data"]
        self.assertEqual(name, "config.yml")
        path = Path(self.mktemp())
        path.write_text(documents(text)["ConfigMap"]["data"][name], encoding="utf-8")
        return path

    def test_ours_holds_the_target_and_the_secret_the_token(self):
        path = self.config_file(SOURCE)
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        self.assertEqual(list(document), ["target", "token_file", "admin"])
        folder = self.mount("token")["mountPath"]
        self.assertEqual(document["token_file"], f"{folder}/token")
        with self.assertRaises(ConfigError) as caught:
            load({}, path)
        (mistake,) = caught.exception.mistakes
        self.assertRegex(mistake, rf"^`token_file` .*{folder}/token.*No such file")
        there = Path(self.mktemp()).absolute()
        there.write_text("made-up\n", encoding="utf-8")
        path.write_text(text.replace(document["token_file"], str(there)), encoding="utf-8")
        config = load({"OPENAI_API_KEY": "of a manifest before"}, path)
        self.assertEqual(config.target, "http://vanus-gateway.vanus:8080/gateway/quick-start")
        self.assertEqual((config.token.read(), config.warnings), ("made-up", ()))

    def test_that_of_the_go_connector(self):
        config = load({}, self.config_file(ORIGINAL))
        self.assertEqual(config.target, "http://localhost:18080")
        self.assertEqual((config.token.read(), config.warnings), ("sk-made-up", ()))

    def mount(self, name: str) -> Document:
        (mount,) = [m for m in container_of(SOURCE)["volumeMounts"] if m["name"] == name]
        return mount

    def test_the_secret_is_made_apart_and_the_file_says_how(self):
        (volume,) = [v for v in pod_of(SOURCE)["volumes"] if v["name"] == "token"]
        self.assertEqual(volume["secret"]["secretName"], "source-chatgpt")
        command = (
            "kubectl create secret generic source-chatgpt --namespace vanus --from-literal=token="
        )
        self.assertIn(f"#   {command}", SOURCE)
        self.assertIn(f"\n{command}", README)
        self.assertNotRegex(SOURCE + NAMESPACE + JOURNAL, r"(?m)^kind: Secret|sk-|^ *token:")

    def test_the_token_follows_the_secret(self):
        self.assertNotIn("env", container_of(SOURCE))
        mount = self.mount("token")
        self.assertTrue(mount["readOnly"])
        self.assertNotIn("subPath", mount)  # which is never brought up to date

    def test_the_user_and_nobody_else_reads_the_token(self):
        (volume,) = [v for v in pod_of(SOURCE)["volumes"] if v["name"] == "token"]
        self.assertEqual(volume["secret"]["defaultMode"], 0o440)
        self.assertIn("fsGroup", pod_of(SOURCE)["securityContext"])  # whose files are the group's


class LifeTests(SynchronousTestCase):
    """One daemon on one journal, known to be well, with the time it needs to stop."""

    def test_one_at_a_time(self):
        spec = documents(SOURCE)["Deployment"]["spec"]
        self.assertEqual((spec["replicas"], spec["strategy"]), (1, {"type": "Recreate"}))

    def test_a_stop_may_take_longer_than_the_drain(self):
        drain = attrs.fields(Config).drain_timeout.default
        self.assertGreaterEqual(pod_of(SOURCE)["terminationGracePeriodSeconds"], drain + 10)

    def test_probes(self):
        container = container_of(SOURCE)
        ports = [port["name"] for port in container["ports"]]
        for name, path in (
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ):
            probe = container[name]["httpGet"]
            self.assertEqual(probe["path"], path, name)
            self.assertIn(probe["port"], ports, name)

    def test_a_failed_start_is_told_in_the_pods_status(self):
        policy = container_of(SOURCE)["terminationMessagePolicy"]
        self.assertEqual(policy, "FallbackToLogsOnError")

    def test_journal_lies_on_the_claim(self):
        (mount,) = [m for m in container_of(SOURCE)["volumeMounts"] if m["name"] == "journal"]
        self.assertEqual(mount["mountPath"], the_one("VOLUME"))
        self.assertNotIn("readOnly", mount)
        claim = documents(SOURCE)["PersistentVolumeClaim"]["spec"]
        self.assertEqual(claim["accessModes"], ["ReadWriteOnce"])


class SecurityTests(SynchronousTestCase):
    def test_pod_security_standard_restricted(self):
        pod, container = pod_of(SOURCE), container_of(SOURCE)
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertFalse(container["securityContext"]["allowPrivilegeEscalation"])
        self.assertEqual(container["securityContext"]["capabilities"], {"drop": ["ALL"]})
        self.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & set(pod))
        self.assertFalse([port for port in container["ports"] if "hostPort" in port])
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        self.assertEqual(kinds, {"configMap", "persistentVolumeClaim", "secret"})

    def test_user_is_that_of_the_image(self):
        context = pod_of(SOURCE)["securityContext"]
        self.assertEqual(f"{context['runAsUser']}:{context['runAsGroup']}", the_one("USER"))

    def test_only_the_claim_can_be_written(self):
        self.assertTrue(container_of(SOURCE)["securityContext"]["readOnlyRootFilesystem"])
        context = pod_of(SOURCE)["securityContext"]
        self.assertEqual(context["fsGroup"], context["runAsUser"])
        # At every start it would make the journal's files, which are 0600, readable to the group.
        self.assertEqual(context["fsGroupChangePolicy"], "OnRootMismatch")

    def test_no_key_to_the_cluster(self):
        self.assertFalse(pod_of(SOURCE)["automountServiceAccountToken"])


class PolicyTests(SynchronousTestCase):
    """The example of a NetworkPolicy."""

    def test_the_pods_ports_each_from_its_namespaces(self):
        spec = documents(POLICY)["NetworkPolicy"]["spec"]
        labels = documents(SOURCE)["Deployment"]["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(spec["podSelector"]["matchLabels"], labels)
        self.assertEqual(spec["policyTypes"], ["Ingress"])
        ports = [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
        self.assertEqual(ports, [port["name"] for port in container_of(SOURCE)["ports"]])
        for rule in spec["ingress"]:
            (source,) = rule["from"]
            self.assertEqual(list(source), ["namespaceSelector"])
            self.assertIn("kubernetes.io/metadata.name", str(source))


class MigrationTests(SynchronousTestCase):
    """The docs' way from a Deployment that was applied server-side, defaults and all."""

    def test_patch(self):
        kubectl = shutil.which("kubectl")
        if kubectl is None:
            raise SkipTest("no kubectl")
        page = (ROOT / "docs" / "go-connector.md").read_text(encoding="utf-8")
        found = re.search(
            r"(?ms)^kubectl (patch deployment source-chatgpt .*?\n {2}--patch '.*?')$", page
        )
        deployment = documents(ORIGINAL)["Deployment"]
        surge = {"maxSurge": "25%", "maxUnavailable": "25%"}
        deployment["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": surge}
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump(deployment))
        local = found[1].replace("\\\n", "")
        local = local.replace("deployment source-chatgpt", f"--local --filename {path}")
        ran = subprocess.run(
            [kubectl, *shlex.split(local), "--output=yaml"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        patched = yaml.safe_load(ran.stdout)["spec"].pop("strategy")
        self.assertEqual(patched, documents(SOURCE)["Deployment"]["spec"]["strategy"])


class ClusterTests(SynchronousTestCase):
    """A real API server's own opinion, where there is one. It changes nothing there."""

    def assert_accepted(self, text: str) -> None:
        if not os.environ.get("KUBECONFIG"):
            raise SkipTest("KUBECONFIG names no cluster: no server-side dry run")
        if not shutil.which("kubectl"):
            raise SkipTest("no kubectl: no server-side dry run")
        # A namespace that is not there yet would be refused, dry run or not; `default` always is.
        there = re.sub(r"(?m)^  namespace: vanus$", "  namespace: default", text)
        ran = subprocess.run(
            ["kubectl", "apply", "--dry-run=server", "--filename=-"],
            input=there,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stdout.count("(server dry run)"), len(documents(text)), ran.stdout)

    def test_source(self):
        self.assert_accepted(SOURCE)

    def test_the_others(self):
        for text in (NAMESPACE, JOURNAL, POLICY, TRIAL, EGRESS):
            self.assert_accepted(text)

    def test_manifest_of_the_go_connector(self):
        self.assert_accepted(ORIGINAL)
