"""Chooses the handler of a request by its path and method."""

import re
from collections.abc import Sequence

from chatgpt_source.http.server.problem import Problem
from chatgpt_source.http.server.request import BoundedRequest, Handler

READ: Sequence[str] = ("GET", "HEAD")
WRITE: Sequence[str] = ("POST",)


class Routes:
    """A site's paths.

    Args:
        routes: For each, the path (a regular expression), the methods, and the handler.
        unknown: The detail of a 404: it says where the known paths are.
    """

    def __init__(self, *routes: tuple[str, Sequence[str], Handler], unknown: str) -> None:
        self._routes = [(re.compile(path), methods, handler) for path, methods, handler in routes]
        self._unknown = unknown

    def handler(self, request: BoundedRequest) -> Handler:
        """The method that answers a request.

        Raises:
            Problem: 404 or 405 if there is none.
        """
        route, method = request.route(), request.method.decode("ascii", "replace")
        allowed: list[str] = []
        for path, methods, handler in self._routes:
            if path.fullmatch(route):
                if method in methods:
                    return handler
                allowed += methods
        if not allowed:
            raise Problem(404, self._unknown)
        told = ", ".join(allowed)
        raise Problem(405, f"the method is not allowed here: use {told}", {"Allow": told})
