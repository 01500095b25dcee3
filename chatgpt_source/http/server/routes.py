"""Which handler answers a request, by its path and method."""

import re
from collections.abc import Sequence

from chatgpt_source.http.server.problem import Problem
from chatgpt_source.http.server.request import BoundedRequest
from chatgpt_source.http.server.site import Handler

READ: Sequence[str] = ("GET", "HEAD")
WRITE: Sequence[str] = ("POST",)


class Routes:
    """A site's paths.

    Args:
        routes: Of each its path, a regular expression; its methods; who answers.
        unknown: What is said of any other path: where the known ones are.
    """

    def __init__(self, *routes: tuple[str, Sequence[str], Handler], unknown: str) -> None:
        self._routes = [(re.compile(path), methods, handler) for path, methods, handler in routes]
        self._unknown = unknown

    def handler(self, request: BoundedRequest) -> Handler:
        """Who answers a request.

        Raises:
            Problem: 404 or 405 if nobody does.
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
        raise Problem(405, f"this method has no meaning here: use {told}", {"Allow": told})
