"""docs/operations.md says what the code does: its metrics, its alerts, and where it points."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.admin.common import PREFIX, AdminTestCase

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operations.md"
TEXT = PAGE.read_text(encoding="utf-8")
RULES = ROOT / "deploy" / "alerts.yml"
CASES = ROOT / "deploy" / "alerts_test.yml"
_PARTS = ("_bucket", "_sum", "_count")


def rows() -> list[list[str]]:
    table = TEXT.partition("| metric | kind and labels |")[2].partition("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def cases() -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    return tests


def names(expression: str) -> set[str]:
    """The metrics an expression is about, histograms without the ends of their series."""
    found = re.findall(rf"\b(?:{PREFIX}|process_)\w+", expression)
    ends = "|".join(_PARTS)
    return {re.sub(rf"(_seconds)(?:{ends})$", r"\1", name) for name in found}


class MetricsTests(AdminTestCase):
    def exposed(self) -> set[str]:
        text = self.get("/metrics").body.decode()
        return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))

    def test_every_metric_is_in_the_docs_and_the_other_way_round(self) -> None:
        told = {name for row in rows() for name in names(row[0])}
        exposed = self.exposed()
        self.assertLessEqual(told, exposed)
        self.assertEqual(
            {name for name in told if name.startswith(PREFIX)},
            {name for name in exposed if name.startswith(PREFIX)},
        )

    def test_every_mention_is_of_one_that_exists(self) -> None:
        told = TEXT + RULES.read_text(encoding="utf-8") + CASES.read_text(encoding="utf-8")
        self.assertLessEqual(names(told), self.exposed())

    def test_labels_and_their_values_exist(self) -> None:
        text = self.get("/metrics").body.decode()
        for rule in rules():
            for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", rule["expr"]):
                if not name.startswith(PREFIX):
                    continue
                for label, operator, values in re.findall(r'(\w+)(!=|=~|=)"([^"]*)"', matchers):
                    for value in values.split("|"):
                        series = rf'^{name}\{{[^}}]*\b{label}="{value}"'
                        self.assertTrue(re.search(series, text, re.MULTILINE), (rule, operator))

    def test_every_quantile_can_exceed_its_threshold(self) -> None:
        text = self.get("/metrics").body.decode()
        quantile = r"histogram_quantile\(.*?(\w+_bucket).*> ([\d.]+)$"
        found = [match for rule in rules() if (match := re.match(quantile, rule["expr"]))]
        self.assertTrue(found)
        for match in found:
            bounds = map(float, re.findall(rf'^{match[1]}{{le="([\d.]+)"}}', text, re.MULTILINE))
            self.assertGreater(max(bounds), float(match[2]), match[0])


class AlertTests(SynchronousTestCase):
    def test_every_metric_has_the_alerts_that_its_row_names(self) -> None:
        expressions = {rule["alert"]: names(rule["expr"]) for rule in rules()}
        named = set()
        for metrics, _, _, alerts in rows():
            if alerts.startswith("none"):
                continue
            for alert in re.findall(r"`(\w+)`", alerts):
                named.add(alert)
                self.assertTrue(names(metrics) & expressions[alert], alert)
        self.assertEqual(named, set(expressions))

    def test_every_alert_says_what_to_do(self) -> None:
        for rule in rules():
            self.assertTrue(rule["annotations"]["do"].endswith((".", "?")), rule["alert"])
            self.assertIn(rule["labels"]["severity"], {"page", "ticket"})
            for section in re.findall(r"[Ss]ee `([A-Z][^`]+)`", rule["annotations"]["do"]):
                self.assertIn(f"**{section}", TEXT)

    def test_they_do_not_go_by_what_a_scrape_configuration_calls_us(self) -> None:
        for rule in rules():
            self.assertNotRegex(rule["expr"], r"\b(job|instance|pod|namespace)\s*(=|!)")
            if re.search(r"\b(process_|up\b)", rule["expr"]):  # which every program has
                self.assertRegex(
                    rule["expr"], r"and on \(job, instance\).*chatgpt_source_build_info"
                )

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

    def promtool(self, *arguments: str) -> None:
        promtool = shutil.which("promtool")
        if promtool is None:
            raise SkipTest("promtool is not installed (Debian's package prometheus has it)")
        done = subprocess.run(
            [promtool, *arguments], capture_output=True, text=True, check=False, timeout=100
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_prometheus_takes_them(self) -> None:
        self.promtool("check", "rules", str(RULES))

    def test_they_fire_and_are_silent(self) -> None:
        self.promtool("test", "rules", str(CASES))


def headings_of(text: str) -> set[str]:
    """What a link to a heading of a page may be."""
    return {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


class FenceTests(SynchronousTestCase):
    def test_every_block_of_code_is_closed(self) -> None:
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            fences = re.findall(r"^ *(```.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            self.assertEqual(len(fences) % 2, 0, path)
            for closing in fences[1::2]:  # one that is missing makes the next an opening one
                self.assertEqual(closing, "```", path)


class LinkTests(SynchronousTestCase):
    def test_links(self) -> None:
        for source in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
            for target in re.findall(r"\]\(([^)\s]+)\)", source.read_text(encoding="utf-8")):
                if re.match("https?:", target):
                    continue
                page, _, heading = target.partition("#")
                path = source.parent / page if page else source
                self.assertTrue(path.exists(), (source, target))
                if heading:
                    self.assertIn(heading, headings_of(path.read_text()), source)

    def test_files_that_are_named(self) -> None:
        for name in re.findall(r"`((?:deploy|benchmarks)/[\w.@-]+)", TEXT):
            self.assertTrue((ROOT / name).exists(), name)
