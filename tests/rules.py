"""The files for Prometheus and Grafana, and what their queries are about."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SkipTest

from tests.test_dockerfile import ROOT

PAGE = ROOT / "docs" / "operations.md"
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
CASES = ROOT / "deploy" / "prometheus" / "rules_test.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboard.json"
PREFIX = "chatgpt_source_"
SCRAPED = {"namespace", "job", "instance", "pod", "node", "alertname", "alertstate"}
"""Labels that Prometheus adds."""
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "1m",
    "$namespace": ".*",
    "$job": ".*",
    "$instance": ".*",
}
_PARTS = ("_bucket", "_sum", "_count")


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def cases() -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    return tests


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return board


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels but for the rows' titles."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """The dashboard's queries, of panels and variables' values."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def settled(query: str) -> str:
    """A query as Grafana sends it, with all values of each variable chosen."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def names(expression: str) -> set[str]:
    """The metrics an expression is about, histograms without the ends of their series."""
    found = re.findall(rf"\b(?:{PREFIX}|process_)\w+", expression)
    ends = "|".join(_PARTS)
    return {re.sub(rf"(_seconds)(?:{ends})$", r"\1", name) for name in found}


def words(expression: str) -> set[str]:
    return set(re.findall(r"\w+", expression))


def exposed(exposition: str) -> set[str]:
    """The metrics that a daemon has."""
    return set(re.findall(r"^# TYPE (\S+) ", exposition, re.MULTILINE))


def unknown(expression: str, exposition: str) -> list[str]:
    """The metrics, labels and values in a query that a daemon does not have."""
    there = exposed(exposition)
    found = [name for name in names(expression) if name not in there]

    def has(name: str, label: str, value: str = "") -> bool:
        if label in SCRAPED:
            return True
        series = rf'^{name}(_bucket)?\{{([^}}]*,)?{label}="{value}'
        return bool(re.search(series, exposition, re.MULTILINE))

    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
        for label, values in re.findall(r'(\w+)(?:=~|!=|!~|=)"([^"]*)"', matchers):
            found += [
                f"{name}{{{label}={value}}}"
                for value in values.split("|")
                if not has(name, label, f'{value}"')
            ]
    for labels in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression):
        found += [
            label
            for label in re.findall(r"\w+", labels)
            if not any(has(name, label) for name in names(expression))
        ]
    return found


def promtool(*arguments: str | Path) -> None:
    """Run promtool, which must find nothing wrong."""
    program = shutil.which("promtool")
    if program is None:
        raise SkipTest("promtool is not installed (Debian's package prometheus has it)")
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr


def headings_of(text: str) -> set[str]:
    """What a link to a heading of a page may be."""
    return {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
