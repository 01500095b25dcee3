"""deploy/prometheus: the alerts, and what the Prometheus Operator finds the pods by."""

import re
import subprocess
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.telemetry.observer import RefusalReason
from tests.admin.common import AdminTestCase
from tests.rules import (
    CASES,
    PAGE,
    RULES,
    cases,
    exposed,
    headings_of,
    names,
    promtool,
    rules,
    unknown,
)
from tests.test_dockerfile import ROOT
from tests.test_k8s import SOURCE, documents

TEXT = PAGE.read_text(encoding="utf-8")
FOLDER = ROOT / "deploy" / "prometheus"


class MetricsTests(AdminTestCase):
    def exposition(self) -> str:
        return self.get("/metrics").body.decode()

    def test_every_name_label_and_value_exists(self) -> None:
        exposition = self.exposition()
        for rule in rules():
            self.assertEqual(unknown(rule["expr"], exposition), [], rule["alert"])
        for case in cases():
            for series in case.get("input_series", ()):
                about = names(series["series"])
                self.assertLessEqual(about, exposed(exposition), case["name"])

    def test_what_does_not_exist_is_found(self) -> None:
        exposition = self.exposition()
        for query, wrong in (
            ("chatgpt_source_baklog", ["chatgpt_source_baklog"]),
            ("process_opened_fds", ["process_opened_fds"]),
            ("sum by (le, what) (chatgpt_source_wait_seconds_bucket)", ["what"]),
            (
                'chatgpt_source_prompts{state=~"failed|lost"}',
                ["chatgpt_source_prompts{state=lost}"],
            ),
            (
                'chatgpt_source_prompts{status!="failed"}',
                ["chatgpt_source_prompts{status=failed}"],
            ),
            ("max without (instance, peers) (chatgpt_source_throttled)", ["peers"]),
        ):
            self.assertEqual(unknown(query, exposition), wrong)

    def test_every_quantile_can_exceed_its_threshold(self) -> None:
        quantile = r"histogram_quantile\(.*?(\w+_bucket).*> ([\d.]+)$"
        found = [match for rule in rules() if (match := re.match(quantile, rule["expr"]))]
        self.assertEqual(len(found), 5)
        text = self.exposition()
        for match in found:
            bounds = map(float, re.findall(rf'^{match[1]}{{le="([\d.]+)"}}', text, re.MULTILINE))
            self.assertGreater(max(bounds), float(match[2]), match[0])


class AlertTests(SynchronousTestCase):
    def test_every_alert_says_what_is_wrong_and_what_to_do(self) -> None:
        for rule in rules():
            told = rule["annotations"]
            self.assertEqual(set(told), {"summary", "description", "runbook"}, rule["alert"])
            for text in (told["summary"], told["description"]):
                self.assertRegex(text, r"^[A-Z`{].*\.$", rule["alert"])
            self.assertIn(rule["labels"]["severity"], {"page", "ticket"})
            page, _, heading = told["runbook"].partition("#")
            self.assertEqual(ROOT / page, PAGE)
            self.assertIn(heading, headings_of(TEXT), rule["alert"])

    def test_their_names_are_known_for_ours_among_others(self) -> None:
        alerts = {rule["alert"] for rule in rules()}
        self.assertEqual({each for each in alerts if each.startswith("ChatGPTSource")}, alerts)
        told = TEXT + RULES.read_text(encoding="utf-8")
        self.assertEqual(set(re.findall(r"\bChatGPTSource[A-Z]\w+", told)), alerts)

    def test_they_do_not_go_by_what_a_scrape_configuration_calls_us(self) -> None:
        for rule in rules():
            self.assertNotRegex(rule["expr"], r"\b(job|instance|pod|namespace)\s*(=|!)")
            if re.search(r"\b(process_|up\b)", rule["expr"]):  # which every program has
                self.assertRegex(
                    rule["expr"], r"and on \(job, instance\).*chatgpt_source_build_info"
                )

    def test_each_fires_once_for_all_replicas_but_for_what_is_a_process_s_own(self) -> None:
        own = {
            rule["alert"].removeprefix("ChatGPTSource")
            for rule in rules()
            if "without (instance, pod, node" not in rule["expr"]
        }
        self.assertEqual(own, {"Down", "Overloaded", "LogLost", "FilesRunOut", "Restarts"})

    def test_who_is_turned_away_by_no_fault_of_their_own(self) -> None:
        told = {rule["alert"]: rule["expr"] for rule in rules()}
        (own,) = re.findall(r'reason!~"([^"]*)"', told["ChatGPTSourceRefusing"])
        left = {reason.value for reason in RefusalReason} - set(own.split("|"))
        self.assertLessEqual({"quota", "backlog", "journal", "busy"}, left)
        self.assertLessEqual(left, {"quota", "backlog", "journal", "busy", "paused"})

    def test_of_each_there_is_when_it_fires_and_when_it_is_silent(self) -> None:
        expressions = {rule["alert"]: rule["expr"] for rule in rules()}
        seen = set()
        for case in cases():
            alert, ending = re.match(r"(\w+) (fires|is silent)\b", case["name"]).groups()  # type: ignore[union-attr]
            (tried,) = case["promql_expr_test"]
            self.assertEqual(
                tried["expr"],
                f'count by (alertname) (ALERTS{{alertname="{alert}", alertstate="firing"}})',
            )
            self.assertEqual(bool(tried["exp_samples"]), ending == "fires", case["name"])
            if ending == "is silent":  # though there is what it looks at
                given = {name for each in case["input_series"] for name in names(each["series"])}
                self.assertLessEqual(names(expressions[alert]), given, case["name"])
            seen.add((alert, ending))
        self.assertEqual(
            seen, {(alert, ending) for alert in expressions for ending in ("fires", "is silent")}
        )

    def test_prometheus_takes_them(self) -> None:
        promtool("check", "rules", RULES)

    def test_they_fire_and_are_silent(self) -> None:
        promtool("test", "rules", CASES)


class MonitorTests(SynchronousTestCase):
    """What the Prometheus Operator takes, beside the manifests of k8s/."""

    def setUp(self) -> None:
        found = documents(SOURCE)
        self.pod = found["Deployment"]["spec"]["template"]
        self.service = found["Service"]
        (container,) = self.pod["spec"]["containers"]
        self.ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        self.pods = documents((FOLDER / "podmonitor.yaml").read_text(encoding="utf-8"))
        self.services = documents((FOLDER / "servicemonitor.yaml").read_text(encoding="utf-8"))

    def assert_ours(self, document: dict[str, Any]) -> None:
        about, ours = document["metadata"], self.service["metadata"]
        self.assertEqual(about["namespace"], ours["namespace"])
        self.assertLessEqual(ours["labels"].items(), about["labels"].items())

    def test_the_pod_monitor_finds_the_pods(self) -> None:
        self.assertEqual(list(self.pods), ["PodMonitor"])
        monitor = self.pods["PodMonitor"]
        self.assert_ours(monitor)
        self.assertEqual(monitor["apiVersion"], "monitoring.coreos.com/v1")
        wanted = monitor["spec"]["selector"]["matchLabels"]
        self.assertEqual(wanted, self.pod["metadata"]["labels"])
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        self.assertEqual((endpoint["port"], endpoint["path"]), ("admin", "/metrics"))
        self.assertIn(endpoint["port"], self.ports)

    def test_the_service_monitor_finds_the_service_of_its_own(self) -> None:
        self.assertEqual(list(self.services), ["Service", "ServiceMonitor"])
        service, monitor = self.services["Service"], self.services["ServiceMonitor"]
        self.assert_ours(service)
        self.assert_ours(monitor)
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        self.assertLessEqual(wanted, service["metadata"]["labels"].items())
        self.assertFalse(wanted <= self.service["metadata"]["labels"].items())
        self.assertEqual(service["spec"]["selector"], self.service["spec"]["selector"])
        (port,) = service["spec"]["ports"]
        self.assertEqual(port["port"], self.ports[port["targetPort"]])
        (endpoint,) = monitor["spec"]["endpoints"]
        self.assertEqual((endpoint["port"], endpoint["path"]), (port["name"], "/metrics"))

    def test_they_scrape_alike(self) -> None:
        (pods,) = self.pods["PodMonitor"]["spec"]["podMetricsEndpoints"]
        (services,) = self.services["ServiceMonitor"]["spec"]["endpoints"]
        self.assertEqual(pods, services)

    def test_the_docs_make_a_prometheus_rule_of_the_rules(self) -> None:
        command = re.search(r"(?ms)^\{\n(.*?)^\} \| kubectl apply", TEXT)
        assert command
        done = subprocess.run(
            ["bash", "-euc", command[1]], cwd=ROOT, capture_output=True, text=True, check=True
        )
        rule = yaml.safe_load(done.stdout)
        self.assertEqual(rule["kind"], "PrometheusRule")
        self.assert_ours(rule)
        self.assertEqual(rule["spec"], yaml.safe_load(RULES.read_text(encoding="utf-8")))
