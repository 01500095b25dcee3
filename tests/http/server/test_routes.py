"""Who answers, by path and method."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.http.server.routes import READ, WRITE, Routes


class Asked:
    def __init__(self, method: bytes, path: str) -> None:
        self.method = method
        self.path = path

    def route(self) -> str:
        return self.path


async def read(_: BoundedRequest) -> None:
    """Answer nothing."""


async def write(_: BoundedRequest) -> None:
    """Answer nothing."""


class RoutesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes(
            ("/a/[^/]+", READ, read), ("/a/[^/]+", WRITE, write), ("/b", READ, read), unknown="no"
        )

    def handler(self, method: bytes, path: str) -> Any:
        request: Any = Asked(method, path)
        return self.routes.handler(request)

    def refused(self, method: bytes, path: str) -> Problem:
        return self.assertRaises(Problem, self.handler, method, path)

    def test_by_path_and_method(self) -> None:
        self.assertIs(self.handler(b"GET", "/a/x"), read)
        self.assertIs(self.handler(b"HEAD", "/b"), read)
        self.assertIs(self.handler(b"POST", "/a/x"), write)

    def test_another_method(self) -> None:
        problem = self.refused(b"PUT", "/a/x")
        self.assertEqual((problem.status, problem.headers["Allow"]), (405, "GET, HEAD, POST"))
        for method in (b"POST", b"get", b"\xff"):
            problem = self.refused(method, "/b")
            self.assertEqual((problem.status, problem.headers["Allow"]), (405, "GET, HEAD"))
            self.assertTrue(problem.detail.endswith("use GET, HEAD"), problem.detail)

    def test_another_path(self) -> None:
        for path in ("/", "/a", "/a/", "/a/x/y", "/bb", "/b/"):
            problem = self.refused(b"GET", path)
            self.assertEqual((problem.status, problem.detail), (404, "no"))
