"""Schemas and values: what fits, and that neither makes endless work, or comes from elsewhere."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source import json_schema
from chatgpt_source.json_schema import MOST_SECONDS, TOO_MUCH, faults

ITEM = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


class FaultsTests(SynchronousTestCase):
    def assert_faults(self, *expected: tuple[Any, Any, str]) -> None:
        found = faults([(schema, value) for schema, value, _ in expected])
        self.assertEqual(found, [fault for _, _, fault in expected])

    def test_what_fits(self) -> None:
        schema = {
            "properties": {"items": {"items": {"$ref": "#/$defs/item"}}},
            "additionalProperties": False,
            "$defs": {"item": ITEM},
        }
        draft7 = {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}]}
        self.assert_faults(
            (schema, {}, ""),
            (schema, {"items": [{"name": "x"}]}, ""),
            (draft7, [None, 1], ""),
            ({"pattern": "^(?=a)a+$"}, "aa", ""),
            ({"properties": {"a": {"$ref": "#"}}}, nested(90), ""),
            ({"$ref": "#"}, None, ""),
        )

    def test_the_place_in_the_schema(self) -> None:
        no = "it does not fit its schema"
        self.assert_faults(
            ({"items": ITEM}, [{}], f"{no} at /items/required"),
            ({"properties": {"a b": {"type": "null"}}}, {"a b": 1}, no),
            ({"properties": {"x" * 50: {"type": "null"}}}, {"x" * 50: 1}, no),
            (
                {"additionalProperties": {"type": "null"}},
                {"MARKED": 1},
                f"{no} at /additionalProperties/type",
            ),
        )

    def test_what_is_no_schema(self) -> None:
        no = "its schema is not valid"
        for schema, fault in (
            ({"type": "objekt"}, f"{no} at /type"),
            ({"properties": {"a": {"minLength": -1}}}, f"{no} at /properties/a/minLength"),
            ({"pattern": "("}, f"{no} at /pattern"),
            ({"$ref": "#/nowhere"}, no),
            ({"$schema": "https://elsewhere.example/"}, no),
        ):
            self.assertEqual(faults([(schema,)]), [fault])

    def test_nothing_is_fetched(self) -> None:
        file = Path(self.mktemp()).absolute()
        file.write_text("{}")
        for place in (file.as_uri(), "http://127.0.0.1:1/x", "https://localhost:1/x"):
            self.assertEqual(faults([({"$ref": place},)]), ["its schema is not valid"])

    def test_nothing_of_the_value_is_told(self) -> None:
        marked = {"MARKED": {"MARKED": "MARKED"}}
        schemas = (
            {"additionalProperties": False},
            {"propertyNames": {"const": "x"}},
            {"enum": [1]},
            {"anyOf": [{"type": "null"}, {"type": "string"}]},
            {"not": {}},
        )
        for fault in faults([(schema, marked) for schema in schemas]):
            self.assertIn("does not fit", fault)
            self.assertNotIn("MARKED", fault)

    def test_nothing_of_the_current_folder_runs(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        folder.joinpath("json.py").write_text("raise SystemExit")
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(folder)
        self.assertEqual(faults([({},)]), [""])

    def test_no_process(self) -> None:
        self.patch(sys, "executable", "/nowhere/python")
        (found,) = faults([({},), ({},)])
        self.assertIn("no process can be started", found)

    def test_a_process_that_hangs(self) -> None:
        self.patch(json_schema, "MOST_WAIT", 0.0001)
        self.assertEqual(faults([({},), ({},)]), [TOO_MUCH])


class WorkTests(SynchronousTestCase):
    """Without the bounds, each takes many seconds and gigabytes, or for ever."""

    def assert_too_much(self, schema: Any, value: Any) -> None:
        begun = self.worked()
        found = faults([({}, 1), (schema, value), ({}, 1)])
        self.assertEqual(found, ["", TOO_MUCH])
        self.assertLess(self.worked() - begun, 5 * MOST_SECONDS)

    def worked(self) -> float:
        """Seconds for which our processes have worked, whatever else the machine does."""
        times = os.times()
        return times.children_user + times.children_system

    def test_doubling_references(self) -> None:
        for keyword in ("allOf", "anyOf"):
            doubling: dict[str, Any] = {
                f"a{number}": {keyword: [{"$ref": f"#/$defs/a{number + 1}"}] * 2}
                for number in range(40)
            }
            doubling["a40"] = {"type": "null"}
            value = None if keyword == "allOf" else 1
            self.assert_too_much({"$ref": "#/$defs/a0", "$defs": doubling}, value)

    def test_many_times_many(self) -> None:
        self.assert_too_much({"allOf": [{"items": {"type": "integer"}}] * 8000}, [1] * 60000)

    def test_memory(self) -> None:
        program = (
            "from chatgpt_source import json_schema as program;"
            "program.fault = lambda *_: [str(len(bytes(program.MOST_MEMORY)))];"
            "program.main()"
        )
        found = subprocess.run(
            [sys.executable, "-c", program], input=b"[1]\n", capture_output=True, check=False
        )
        self.assertEqual(found.stdout, b"")
        self.assertIn(b"MemoryError", found.stderr)

    def test_a_place_that_takes_too_much(self) -> None:
        part = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
        operations = [
            {"properties": {"a": part, "b": part, "op": {"const": number}}, "required": ["op"]}
            for number in range(4)
        ]
        value: Any = {"op": 9}
        for _ in range(12):
            value = {"op": 3, "a": value, "b": None}
        found = faults([({"type": "object", "anyOf": operations}, value)])
        self.assertEqual(found, ["it does not fit its schema"])

    def test_patterns(self) -> None:
        for pattern in ("^(a+)+$", "^(?=(a+)+$)(a+)+$"):
            self.assertIn("does not fit", faults([({"pattern": pattern}, "a" * 5000 + "b")])[0])

    def test_an_answer_of_megabytes_is_not_too_much(self) -> None:
        value = [{"name": "x" * 40, "number": number} for number in range(30000)]
        self.assertEqual(faults([({"items": ITEM}, value)]), [""])
