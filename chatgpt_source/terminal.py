"""How text looks in a terminal: as wide as the terminal, and in colours. Elsewhere it is plain."""

import textwrap
from collections.abc import Mapping
from shutil import get_terminal_size
from typing import TextIO

from attrs import frozen

BOLD, DIM, UNDERLINED = 1, 2, 4
RED, GREEN, YELLOW, CYAN = 31, 32, 33, 36


@frozen
class Look:
    """How the output looks.

    Attributes:
        width: The columns of the terminal; None: it is none.
        colour: Whether there are colours.
    """

    width: int | None = None
    colour: bool = False

    def paint(self, text: str, *codes: int) -> str:
        """Text in colours; plain if there are none."""
        if not self.colour or not text:
            return text
        return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m"

    def fold(self, text: str, indent: str = "") -> str:
        """Text in lines that fit, those after the first with an indent; elsewhere as it is.

        Colours count as columns, so paint the text later.
        """
        if self.width is None:
            return text
        wrapper = textwrap.TextWrapper(
            max(self.width, len(indent) + 20),
            subsequent_indent=indent,
            break_on_hyphens=False,
            replace_whitespace=False,
            expand_tabs=False,
        )
        lines = (wrapper.wrap(line) or [""] for line in text.split("\n"))
        return "\n".join(each for some in lines for each in some)


def look_of(out: TextIO | None, environ: Mapping[str, str]) -> Look:
    """How an output looks: a terminal has its width, and colours unless `NO_COLOR` is set.

    An output that is closed, None, looks as if it were no terminal.
    """
    if out is None or not out.isatty():
        return Look()
    plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
    return Look(get_terminal_size().columns, not plain)
