"""Reads a peer's JSON in bounded time, as Python's parsers can't be interrupted."""

import json
from typing import Any

MOST_MARKS = 2**17
"""How many commas, colons and opening brackets there may be outside strings: about 20 ms."""
MOST_DIGITS = 19
"""Digits of a whole number of 64 bits. A longer number is read as a float."""


class TooIntricate(ValueError):
    """JSON with too many members and elements."""


def read(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: If it is not JSON.
        TooIntricate: If it has more than `MOST_MARKS`.
        RecursionError: If it is nested too deeply.
    """
    if _is_intricate(text):
        raise TooIntricate
    return json.loads(text, parse_int=_whole)


def _is_intricate(text: str) -> bool:
    if _marks(text) <= MOST_MARKS:
        return False  # it is not outside strings either
    without_escapes = text.replace("\\\\", "").replace('\\"', "")
    if without_escapes.count('"') > 2 * MOST_MARKS:
        return True
    return _marks("".join(without_escapes.split('"')[::2])) > MOST_MARKS


def _marks(text: str) -> int:
    return sum(map(text.count, ",:[{"))


def _whole(digits: str) -> int | float:
    return (int if len(digits) <= MOST_DIGITS + digits.startswith("-") else float)(digits)
