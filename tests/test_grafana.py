"""deploy/grafana: the dashboard, by Grafana's own schema, and what no schema knows.

tests/e2e/test_prometheus.py asks a real Prometheus each of its queries.
"""

import enum
import itertools
import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.admin.common import AdminTestCase
from tests.rules import (
    PAGE,
    PREFIX,
    dashboard,
    headings_of,
    names,
    panels,
    promtool,
    queries,
    rules,
    settled,
    unknown,
)
from tests.test_dockerfile import ROOT

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'namespace=~"$namespace", job=~"$job", instance=~"$instance"'
COLUMNS = 24
UNIONS = {typing.Union, types.UnionType}


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


class SchemaTests(SynchronousTestCase):
    """What Grafana's own types for its oldest release that we name make of the dashboard."""

    def setUp(self) -> None:
        try:
            from grafana_foundation_sdk.cog import encoder, plugins  # noqa: PLC0415
            from grafana_foundation_sdk.models import dashboard as models  # noqa: PLC0415
            from grafana_foundation_sdk.models import units  # noqa: PLC0415
        except ImportError:
            raise SkipTest("no grafana-foundation-sdk: it needs Python 3.11") from None
        plugins.register_default_plugins()
        self.encoder, self.type, self.units = encoder.JSONEncoder, models.Dashboard, units

    def read(self, board: Any) -> list[str]:
        """What is wrong with a dashboard: members that Grafana does not know, and values."""
        known = self.type.from_json(board)
        back = json.loads(self.encoder(sort_keys=True).encode(known))
        return [*lost(board, back, ""), *wrong(known, self.type, "")]

    def test_it_has_no_other_members_and_values(self) -> None:
        self.assertEqual(self.read(dashboard()), [])

    def test_a_slip_is_found(self) -> None:
        for slip, found in (
            ({"titel": "ChatGPT Source"}, ".titel"),
            ({"title": 5}, ".title"),
            ({"graphTooltip": 7}, ".graph_tooltip"),
            ({"time": {"since": "now"}}, ".time.since"),
        ):
            (said,) = self.read({**dashboard(), **slip})
            self.assertTrue(said.startswith(found), said)

    def test_units(self) -> None:
        known = {value for value in vars(self.units).values() if isinstance(value, str)}
        for panel in panels():
            self.assertIn(panel["fieldConfig"]["defaults"]["unit"], known, panel["title"])


def lost(given: Any, back: Any, where: str) -> Iterator[str]:
    """Members that did not survive being read and written."""
    if isinstance(given, dict):
        for key, value in given.items():
            if isinstance(back, dict) and key in back:
                yield from lost(value, back[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}"
    elif isinstance(given, list):
        for index, (one, other) in enumerate(zip(given, back, strict=True)):
            yield from lost(one, other, f"{where}[{index}]")
    elif given != back:
        yield f"{where}: {given!r} became {back!r}"


def wrong(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Values that are not of their member's type."""
    if isinstance(value, dict) and hasattr(kind, "from_json"):  # which the reader leaves so
        value = kind.from_json(value)
    if fits(value, kind):
        for part, each, place in parts(value, kind, where):
            yield from wrong(part, each, place)
    else:
        yield f"{where}: {value!r} is no {kind}"


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, whatever is in it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in UNIONS:
        return any(fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return value in {each.value for each in kind}
    known = float | int if kind is float else origin or kind
    return kind is Any or isinstance(value, known)


def parts(value: Any, kind: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """What is in a value of a type, with the types and places of it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in UNIONS:
        yield from parts(value, next(each for each in arguments if fits(value, each)), where)
    elif origin is list:
        for index, each in enumerate(value):
            yield each, arguments[0], f"{where}[{index}]"
    elif origin is dict:
        for key, each in value.items():
            yield each, arguments[1], f"{where}.{key}"
    elif hasattr(value, "from_json"):  # whatever its place takes
        for name, each in typing.get_type_hints(type(value)).items():
            yield getattr(value, name), each, f"{where}.{name}"


class LayoutTests(SynchronousTestCase):
    def test_panels_do_not_overlap_and_leave_no_holes(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in dashboard()["panels"]:
            place = panel["gridPos"]
            cells = {
                (place["x"] + column, place["y"] + line)
                for column in range(place["w"])
                for line in range(place["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            taken |= cells
        lines = {line for _, line in taken}
        self.assertEqual(lines, set(range(max(lines) + 1)))
        self.assertEqual(taken, {(column, line) for column in range(COLUMNS) for line in lines})

    def test_each_has_an_id_of_its_own(self) -> None:
        ids = [panel["id"] for panel in dashboard()["panels"]]
        self.assertEqual(len(set(ids)), len(ids))

    def test_each_says_what_it_shows(self) -> None:
        for panel in panels():
            self.assertRegex(panel["description"], r"^[A-Z].*\.$", panel["title"])
            self.assertTrue(panel["fieldConfig"]["defaults"]["thresholds"]["steps"])

    def test_what_it_points_to_is_in_the_docs(self) -> None:
        told = json.dumps(dashboard())
        anchors = re.findall(r"docs/operations\.md#([\w-]+)", told)
        self.assertGreater(len(anchors), 10)
        self.assertLessEqual(set(anchors), headings_of(PAGE.read_text(encoding="utf-8")))
        alerts = {rule["alert"] for rule in rules()}
        self.assertLessEqual(set(re.findall(r"ChatGPTSource[A-Z]\w+", told)), alerts)

    def test_what_is_worst_stands_first(self) -> None:
        self.assertEqual(panels()[0]["title"], "Health")
        self.assertEqual(panels()[0]["gridPos"]["y"], 1)

    def test_durations_of_prompts_have_a_logarithmic_axis(self) -> None:
        found = [panel for panel in panels() if "histogram_quantile" in str(panel["targets"])]
        self.assertEqual(len(found), 5)
        for panel in found:
            defaults = panel["fieldConfig"]["defaults"]
            self.assertEqual(defaults["unit"], "s")
            self.assertEqual(defaults["custom"]["scaleDistribution"]["type"], "log")


class SourceTests(SynchronousTestCase):
    def test_no_data_source_is_named(self) -> None:
        board = dashboard()
        self.assertEqual(
            {text for text in strings(board) if "datasource" in text},
            {"${datasource}", "datasource"},
        )
        for panel in panels():
            self.assertEqual(panel["datasource"], SOURCE, panel["title"])
            self.assertTrue(panel["targets"], panel["title"])
            for target in panel["targets"]:
                self.assertEqual(target["datasource"], SOURCE, panel["title"])

    def test_variables(self) -> None:
        first, *others = dashboard()["templating"]["list"]
        self.assertEqual((first["type"], first["query"]), ("datasource", "prometheus"))
        self.assertEqual([each["name"] for each in others], ["namespace", "job", "instance"])
        before: list[str] = []
        for each in others:
            selector = ", ".join(f'{name}=~"${name}"' for name in before)
            narrowed = f"{{{selector}}}" if selector else ""
            self.assertEqual(
                each["query"]["query"],
                f"label_values({PREFIX}build_info{narrowed}, {each['name']})",
            )
            self.assertEqual((each["datasource"], each["multi"]), (SOURCE, True))
            # Outside of a cluster there is no namespace: all must take that, too.
            self.assertEqual((each["includeAll"], each["allValue"]), (True, ".*"))
            before.append(each["name"])

    def test_each_query_is_about_what_is_chosen(self) -> None:
        for query in queries():
            for metric, selector in re.findall(
                rf"\b((?:{PREFIX}|process_)\w+)(?:\{{(.*?)\}})?", query
            ):
                self.assertTrue(selector.startswith(CHOSEN), (metric, query))

    def test_what_every_program_has_is_asked_of_ours_alone(self) -> None:
        found = [query for query in queries() if "process_" in query]
        self.assertGreater(len(found), 3)
        for query in found:
            self.assertIn(f"and on (job, instance) {PREFIX}build_info", query)

    def test_what_replicas_have_together_is_counted_once(self) -> None:
        replicas = (ROOT / "docs" / "replicas.md").read_text(encoding="utf-8")
        (told,) = re.findall(r"(?m)^\| metrics \| (.*?) \|", replicas)
        shared = {
            PREFIX + re.sub(rf"^({PREFIX}|_)", "", name) for name in re.findall(r"`(\w+)`", told)
        }
        self.assertIn(f"{PREFIX}backlog", shared)
        for query in [*queries(), *(rule["expr"] for rule in rules())]:
            for name in names(query) & shared:
                for found in re.finditer(rf"\b{name}\b", query):
                    # The nearest thing around it that brings several series together.
                    around = re.findall(r"\b(sum|max|min|count)\b", query[: found.start()])
                    self.assertEqual(around[-1:], ["max"], query)

    def test_each_label_in_a_legend_is_there(self) -> None:
        for panel in panels():
            for target in panel["targets"]:
                for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                    kept = re.search(rf"by \([^)]*\b{label}\b[^)]*\)", target["expr"])
                    alone = " by (" not in target["expr"] and label == "instance"
                    self.assertTrue(kept or alone, target)


class QueryTests(AdminTestCase):
    def test_every_name_label_and_value_exists(self) -> None:
        exposition = self.get("/metrics").body.decode()
        for query in queries():
            self.assertEqual(unknown(query, exposition), [], query)

    def test_prometheus_takes_them(self) -> None:
        listed = [
            {"record": f"asked:{index}", "expr": settled(query)}
            for index, query in enumerate(queries())
        ]
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": listed}]}))
        promtool("check", "rules", path)

    def evaluate(self, *given: tuple[str, list[str], float]) -> None:
        """See what Prometheus makes of queries over series: of each, the value."""
        tests = [
            {
                "interval": "1m",
                "input_series": [{"series": each, "values": "1x5"} for each in series],
                "promql_expr_test": [
                    {
                        "expr": settled(query),
                        "eval_time": "2m",
                        "exp_samples": [{"labels": "{}", "value": value}],
                    }
                ],
            }
            for query, series, value in given
        ]
        path = Path(self.mktemp())
        path.write_text(yaml.safe_dump({"rule_files": [], "tests": tests}))
        promtool("test", "rules", path)

    def test_of_replicas_the_worst_level_is_shown(self) -> None:
        panel = panels()[0]
        (target,) = panel["targets"]
        (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
        values = {
            each["text"]: float(key) for key, each in mapping["options"].items() if key != "0"
        }
        given = []
        for better, worse in itertools.combinations_with_replacement(
            ("green", "unknown", "amber", "red"), 2
        ):
            series = [
                f'{PREFIX}health{{instance="{instance}", level="{level}"}}'
                for instance, level in (("a", better), ("b", worse))
            ]
            given.append((target["expr"], series, values[worse]))
        self.evaluate(*given)

    def test_of_replicas_the_backlog_is_shown_once_and_of_journals_the_sum(self) -> None:
        (query,) = [
            panel["targets"][0]["expr"]
            for panel in panels()
            if (panel["title"], panel["type"]) == ("Prompts that wait", "stat")
        ]
        self.evaluate(
            (
                query,
                [
                    f'{PREFIX}backlog{{job="{job}", instance="{instance}"}}'
                    for job, instance in (("one", "a"), ("one", "b"), ("two", "c"))
                ],
                2,
            )
        )

    def test_every_metric_of_ours_is_shown(self) -> None:
        exposition = self.get("/metrics").body.decode()
        ours = set(re.findall(rf"^# TYPE ({PREFIX}\S+)", exposition, re.MULTILINE))
        shown = {name for query in queries() for name in names(query)}
        # The histogram has it, too.
        self.assertEqual(ours - shown, {f"{PREFIX}reactor_lag_last_seconds"})
