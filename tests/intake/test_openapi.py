"""The OpenAPI document, held to the code."""

import ast
import json
from pathlib import Path
from typing import Any

from openapi_spec_validator import validate
from twisted.trial.unittest import SynchronousTestCase

import chatgpt_source
from chatgpt_source.http.server.problem import PROBLEM, WORDS
from chatgpt_source.intake.fields import FIELDS
from chatgpt_source.intake.json_prompt import _READERS
from chatgpt_source.intake.openapi import DOCUMENT
from tests.door import DoorTestCase

DESCRIBED = json.loads(DOCUMENT)
OPERATIONS: list[tuple[str, str, Any]] = [
    (path, method.upper(), operation)
    for path, item in DESCRIBED["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]
PACKAGE = Path(chatgpt_source.__file__).parent


def resolved(value: Any) -> Any:
    """What a reference of the document refers to; other values as they are."""
    if "$ref" not in value:
        return value
    found = DESCRIBED
    for name in value["$ref"].split("/")[1:]:
        found = found[name]
    return found


def refused() -> set[int]:
    """The statuses of the refusals in the code of the prompt port."""
    found = set(WORDS)
    for folder in ("intake", "http/server"):
        for module in (PACKAGE / folder).glob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and getattr(node.func, "id", "") == "Problem"
                    and isinstance(node.args[0], ast.Constant)
                ):
                    found.add(node.args[0].value)
    return found


class DocumentTests(SynchronousTestCase):
    def test_valid(self) -> None:
        validate(DESCRIBED)

    def test_version(self) -> None:
        self.assertEqual(DESCRIBED["info"]["version"], chatgpt_source.__version__)

    def test_every_refusal(self) -> None:
        described = {
            int(status)
            for _, _, operation in OPERATIONS
            for status in operation["responses"]
            if int(status) >= 400
        }
        self.assertEqual(described, refused())

    def test_every_refusal_is_a_problem(self) -> None:
        for path, method, operation in OPERATIONS:
            for status, response in operation["responses"].items():
                if status >= "400" and path != "/readyz":
                    with self.subTest(path=path, method=method, status=status):
                        self.assertEqual(list(resolved(response)["content"]), [PROBLEM])

    def test_every_member(self) -> None:
        members = DESCRIBED["components"]["schemas"]["Prompt"]["properties"]
        self.assertEqual(set(members), set(_READERS))

    def test_every_field_is_a_header_too(self) -> None:
        for path in ("/", "/prompts"):
            parameters = map(resolved, DESCRIBED["paths"][path]["post"]["parameters"])
            names = {each["name"] for each in parameters}
            self.assertEqual(
                {name for name in names if name.startswith("vanus-")},
                {f"vanus-{name}" for name in FIELDS},
            )


class RoutesTests(DoorTestCase):
    def test_every_route(self) -> None:
        routes = {
            (path.pattern.replace("[^/]+", "{id}"), method)
            for path, methods, _ in self.intake._routes._routes
            for method in methods
        }
        described = {(path, method) for path, method, _ in OPERATIONS}
        heads = {(path, "HEAD") for path, method in described if method == "GET"}
        handshake = {("/", "OPTIONS")}
        self.assertEqual(routes, (described | heads) - handshake)

    def test_it_is_served(self) -> None:
        answer = self.request("GET", "/openapi.json")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"], "application/openapi+json")
        self.assertEqual(answer.json, DESCRIBED)
