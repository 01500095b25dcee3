"""Reads the lines of a batch's output and error files strictly and within bounds. Pure."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import field, frozen
from twisted.web.http_headers import Headers

from chatgpt_source import limited_json
from chatgpt_source.errors import CallError, Lost
from chatgpt_source.http.client import Reply
from chatgpt_source.prompt import Answer, Submitted
from chatgpt_source.providers.failures import plain_word
from chatgpt_source.providers.reading import read_id, unreadable

MOST_LINE = 2 * 2**20
"""The most bytes of a line; a longer one is left out."""


@frozen
class Line:
    """What became of a prompt in a batch.

    Attributes:
        prompt: The prompt's id.
        result: The answer, or why there is none.
    """

    prompt: str
    result: Answer | CallError = field(repr=False)


class Lines:
    """Splits bytes that come in pieces into lines, and leaves out those over `MOST_LINE`."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._is_long = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The lines that end in a piece."""
        first, *more = piece.split(b"\n")
        self._add(first)
        for part in more:
            yield self.end()
            self._add(part)

    def end(self) -> bytes:
        """The line that has begun, as if it ended here; empty if it is too long."""
        line = bytes(self._begun)
        self._begun.clear()
        self._is_long = False
        return line

    def _add(self, part: bytes) -> None:
        self._is_long |= len(self._begun) + len(part) > MOST_LINE
        if self._is_long:
            self._begun.clear()
        else:
            self._begun += part


def read_line(
    line: bytes, read: Callable[[Reply], Answer | Submitted], error_of: Callable[[Reply], CallError]
) -> Line | None:
    """Read a line; None if it does not say what became of which prompt.

    Args:
        line: The line.
        read: Reads the body of a 2xx; raises CallError.
        error_of: Classifies another response.
    """
    try:
        document = limited_json.read(line.decode("utf-8"))
        prompt, response, error = (document[name] for name in ("custom_id", "response", "error"))
        prompt = read_id(prompt)
        answered = None if response is None else _reply(response)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, CallError):
        return None
    if answered is None and not isinstance(error, Mapping):
        return None
    if answered is None:
        code = error.get("code")
        shown = plain_word([code] if isinstance(code, str) else []) or "no code"
        return Line(prompt, Lost(f"the batch ended without an answer ({shown})", status=200))
    return Line(prompt, _result(answered, read, error_of))


def _reply(response: Any) -> Reply:
    """A line's response as that of a call."""
    status, body, call = response["status_code"], response["body"], response.get("request_id")
    if type(status) is not int:
        raise TypeError
    headers = Headers({"x-request-id": [call]} if isinstance(call, str) and call.isascii() else {})
    return Reply(status, headers, json.dumps(body).encode("ascii"))


def _result(
    reply: Reply,
    read: Callable[[Reply], Answer | Submitted],
    error_of: Callable[[Reply], CallError],
) -> Answer | CallError:
    if not 200 <= reply.status < 300:
        return error_of(reply)
    try:
        answer = read(reply)
    except CallError as error:
        return error
    return unreadable("it has not ended") if isinstance(answer, Submitted) else answer
