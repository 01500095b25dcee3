"""docs/operations.md says what the code does: its metrics, its alerts, and where it points."""

import re
import shutil
import subprocess
from pathlib import Path

import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.admin.common import PREFIX, AdminTestCase

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
_PROMETHEUS_OWN = {"up"}
_PARTS = ("_bucket", "_sum", "_count")


def rows() -> list[list[str]]:
    table = TEXT.partition("| metric | kind and labels |")[2].partition("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]


def rules() -> list[dict[str, str]]:
    blocks = re.findall(r"```yaml\n(groups:.*?)```", TEXT, re.DOTALL)
    (document,) = map(yaml.safe_load, blocks)
    return [rule for group in document["groups"] for rule in group["rules"]]


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
        self.assertLessEqual(names(TEXT.replace("chatgpt_source_seconds", "")), self.exposed())

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
        self.assertEqual(named | {"Down"}, set(expressions))

    def test_every_alert_says_what_to_do(self) -> None:
        for rule in rules():
            self.assertTrue(rule["annotations"]["do"].endswith((".", "?")), rule["alert"])
            self.assertIn(rule["labels"]["severity"], {"page", "ticket"})
            for section in re.findall(r"[Ss]ee `([A-Z][^`]+)`", rule["annotations"]["do"]):
                self.assertIn(f"**{section}", TEXT)

    def test_prometheus_takes_them(self) -> None:
        promtool = shutil.which("promtool")
        if promtool is None:
            raise SkipTest("promtool is not installed")
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules()}]}))
        done = subprocess.run(
            [promtool, "check", "rules", path],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class LinkTests(SynchronousTestCase):
    def test_links(self) -> None:
        headings = {
            re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
            for line in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
        }
        for target in re.findall(r"\]\(([^)]+)\)", TEXT):
            if target.startswith("#"):
                self.assertIn(target[1:], headings)
            else:
                self.assertTrue((ROOT / "docs" / target).exists(), target)

    def test_files_that_are_named(self) -> None:
        for name in re.findall(r"`((?:deploy|benchmarks)/[\w.-]+)", TEXT):
            self.assertTrue((ROOT / name).exists(), name)
