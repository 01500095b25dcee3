"""Renders CloudEvents as they were sent. Pure."""

import json
from io import StringIO
from typing import Any

from chatgpt_source.http.server import Problem

MAX_TEXT = 64 * 2**20
"""The most characters printed for one body; indented, deep nesting could exceed any bound."""
_TERMINAL_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


def render_events(events: list[dict[str, Any]], encoding: str | None) -> str:
    """Indented JSON for terminals and streams, with a newline after each event.

    Args:
        events: in the CloudEvents JSON format.
        encoding: the stream's; None is UTF-8. Characters that it lacks are escaped in JSON.

    Raises:
        Problem: With 400 for what is nested too deeply to be printed, 413 for what indentation
            makes longer than `MAX_TEXT`.
    """
    text = _indented(events, ascii_only=False)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        text = _indented(events, ascii_only=True)
    return text.translate(_TERMINAL_CONTROLS)


def _indented(events: list[dict[str, Any]], *, ascii_only: bool) -> str:
    encoder = json.JSONEncoder(indent=2, ensure_ascii=ascii_only)
    text = StringIO()
    try:
        for event in events:
            for piece in encoder.iterencode(event):
                text.write(piece)
                if text.tell() > MAX_TEXT:
                    raise Problem(413, f"printed, it would be over {MAX_TEXT} characters")
            text.write("\n")
    except RecursionError:
        raise Problem(400, "the JSON is nested too deeply") from None
    return text.getvalue()
