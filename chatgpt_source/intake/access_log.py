"""The access log: one line for each request to the prompt port, but none for probes.

A path, a query and a method come from the caller and may hold a secret, so unknown ones are not
logged. An accepted prompt has a line of its own, which says more.
"""

import re

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.http.server import BoundedRequest
from chatgpt_source.intake.health import PROBES
from chatgpt_source.log import get_logger

log = get_logger(__name__)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
_LINE = "request: method={method} route={route} status={status} seconds={seconds:.3f} bytes={bytes}"


@frozen(eq=False, repr=False)
class AccessLog:
    """Writes a line about each request that was answered.

    Args:
        clock: Measures how long it took.
    """

    clock: IReactorTime

    def __call__(self, request: BoundedRequest, status: int, size: int) -> None:
        """Write the line.

        Args:
            request: The request.
            status: The response's status.
            size: Bytes of the response's body; 0 if the caller had hung up.
        """
        route = request.route() if request.path else ""  # none: the request can't be parsed
        if route in PROBES:  # the program that sends them records their results
            return
        method = request.method.decode("ascii", "replace")
        line = _LINE
        if request.about:
            line += " id={id}"
        if request.why:
            line += " why={why}"
        log.info(
            line,
            method=method if method in _METHODS else "another",
            route=_pattern(route),
            status=status,
            seconds=self.clock.seconds() - request.began,
            bytes=size,
            id=request.about,
            why=request.why,
        )


def _pattern(route: str) -> str:
    known = re.fullmatch(r"(/prompts/)[^/]+(/event)?", route)
    if known is not None:
        return f"{known[1]}<id>{known[2] or ''}"
    return route if route in {"/", "/prompts"} else "another"
