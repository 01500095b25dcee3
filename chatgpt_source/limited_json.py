"""Reads JSON of peers and callers in bounded time, as Python's parsers can't be interrupted."""

import json
from typing import Any

MOST_MARKS = 2**17
"""How many commas, colons and opening brackets there may be outside strings: about 20 ms."""
MOST_DIGITS = 19
"""Digits of a whole number of 64 bits. A longer number is read as a float."""
MOST_DEPTH = 100
"""How deep what goes into an event may be nested."""


class TooIntricate(ValueError):
    """JSON with too many members and elements."""


def read(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: If it is not JSON.
        TooIntricate: If it has more than `MOST_MARKS`.
        RecursionError: If it is nested too deeply.
    """
    check(text)
    return _DECODER.decode(text)


def check(text: str, most: int = MOST_MARKS) -> None:
    """Check that a JSON text can be parsed in bounded time.

    Raises:
        TooIntricate: If it has more than `most` marks.
    """
    if _marks(text) <= most:
        return  # there are not more outside strings either
    without_escapes = text.replace("\\\\", "").replace('\\"', "")
    many = without_escapes.count('"') > 2 * most
    if many or _marks("".join(without_escapes.split('"')[::2])) > most:
        raise TooIntricate


def is_deeper(value: Any, most: int) -> bool:
    """Whether lists and objects are nested more than `most` deep in a value."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, (dict, list)) for inner in level)


def _marks(text: str) -> int:
    return sum(map(text.count, ",:[{"))


def _whole(digits: str) -> int | float:
    return (int if len(digits) <= MOST_DIGITS + digits.startswith("-") else float)(digits)


_DECODER = json.JSONDecoder(parse_int=_whole)
