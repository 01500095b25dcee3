"""Writes what the docs and the Helm chart repeat: the tables of metrics and alerts, and the rules.

    python docs/generate.py

The metrics are those of a daemon that it starts; the alerts are those of deploy/prometheus.
"""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "operations.md"
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
CHARTS_RULES = ROOT / "deploy" / "helm" / "chatgpt-source" / "files" / "rules.yaml"
PREFIX = "chatgpt_source_"
CONFIGURED = {"peer", "target", "what", "version", "python", "twisted"}
"""Labels whose values are not the same for all daemons: no table lists them."""
PATIENCE = 30.0
"""Seconds that the daemon may take to start."""

Rule = Mapping[str, Any]


def rules_of(text: str) -> list[Rule]:
    """The rules of a rules file."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def mentions(expression: str, metric: str) -> bool:
    """Whether a query is about a metric, by the name of its family."""
    return re.search(rf"\b{metric}(_total|_bucket|_sum|_count)?\b", expression) is not None


def metrics_table(exposition: str, rules: Iterable[Rule]) -> str:
    """A row for each of our metrics, and for each of the process's that an alert is about."""
    rules = list(rules)
    rows = []
    for family in text_string_to_metric_families(exposition):
        alerts = [rule["alert"] for rule in rules if mentions(rule["expr"], family.name)]
        if not (alerts or family.name.startswith(PREFIX)):
            continue
        total = "_total" if family.type == "counter" else ""
        told = ", ".join(f"`{alert}`" for alert in alerts) or "none"
        rows.append((f"`{family.name}{total}`", _kind(family), family.documentation, told))
    return _table(("metric", "kind and labels", "what it tells", "alert"), rows)


def _kind(family: Metric) -> str:
    """The kind and the labels, with their values where all daemons have the same."""
    values: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for name, value in sample.labels.items():
            values.setdefault(name, {})[f"`{value}`"] = None
    labels = [
        f"`{name}`" if name in CONFIGURED else f"`{name}`: {', '.join(found)}"
        for name, found in values.items()
        if name != "le"
    ]
    return "; ".join([family.type, *labels])


def alerts_table(rules: Iterable[Rule]) -> str:
    """A row for each alert."""
    rows = []
    for rule in rules:
        told = rule["annotations"]
        more = told["runbook"].removeprefix(PAGE.relative_to(ROOT).as_posix())
        what = f"{_plain(told['description'])} [More]({more})"
        rows.append(
            (f"`{rule['alert']}`", rule["labels"]["severity"], _plain(told["summary"]), what)
        )
    return _table(("alert", "severity", "what is wrong", "what to do"), rows)


def _plain(template: str) -> str:
    """A template's text, with what it fills in as three dots."""
    return re.sub(r"`?\{\{.*?\}\}`?", "…", template)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """A page with the text between each block's two comments replaced.

    Raises:
        ValueError: The page lacks the comments of a block.
    """
    for name, text in blocks.items():
        begin, end = f"<!-- {name}: python docs/generate.py -->\n", f"<!-- end of {name} -->\n"
        before, found, rest = page.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"the page lacks {begin.strip()} and {end.strip()}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def charts_rules(rules: str) -> str:
    """The chart's copy of the rules, from their text."""
    return f"# Made from {RULES.relative_to(ROOT).as_posix()} by docs/generate.py\n{rules}"


def generated(page: str, exposition: str, rules: str) -> dict[Path, str]:
    """The text of each file that repeats something.

    Args:
        page: The text of docs/operations.md.
        exposition: What a daemon tells at /metrics.
        rules: The text of the rules file.
    """
    listed = rules_of(rules)
    blocks = {"alerts": alerts_table(listed), "metrics": metrics_table(exposition, listed)}
    return {PAGE: filled(page, blocks), CHARTS_RULES: charts_rules(rules)}


def scrape() -> str:
    """What a daemon with nothing to do tells at /metrics.

    Raises:
        RuntimeError: It does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "target": "http://localhost:9",
            "token": "none",
            "listen": f"unix:{folder}/door",
            "admin": f"tcp:{port}:interface=127.0.0.1",
        }
        Path(folder, "config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        twistd = Path(sys.executable).with_name("twistd")
        arguments = ["--nodaemon", "--pidfile=", f"--rundir={folder}", "chatgpt-source"]
        environ = {**os.environ, "CONNECTOR_CONFIG": f"{folder}/config.yml"}
        with subprocess.Popen(  # noqa: S603 - our own program
            [twistd, *arguments], env=environ, stdout=subprocess.DEVNULL
        ) as daemon:
            try:
                return _read(f"http://127.0.0.1:{port}/metrics", daemon)
            finally:
                daemon.terminate()


def _read(url: str, daemon: subprocess.Popen[bytes]) -> str:
    caller = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and daemon.poll() is None:
        with suppress(OSError), caller.open(url, timeout=PATIENCE) as response:
            return str(response.read(), "utf-8")
        time.sleep(0.1)
    raise RuntimeError("the daemon does not start; its errors are above")


def main() -> None:
    """Write the files."""
    page, rules = (path.read_text(encoding="utf-8") for path in (PAGE, RULES))
    for path, text in generated(page, scrape(), rules).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
