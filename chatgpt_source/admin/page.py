"""The status page: its template, style, script and HTTP headers."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from twisted.web.template import Comment, Flattenable, Tag, XMLString, flattenString

from chatgpt_source.admin import fragments, past
from chatgpt_source.admin.view import Picked, Shown
from chatgpt_source.config import Config
from chatgpt_source.http.server import origin_of

_FOLDER = Path(__file__).parent
STYLE = (_FOLDER / "page.css").read_text(encoding="utf-8")
SCRIPT = (_FOLDER / "page.js").read_text(encoding="utf-8")
_TEMPLATE = XMLString((_FOLDER / "page.xml").read_text(encoding="utf-8")).load()


def _hash(text: str) -> str:
    """A source expression that allows only this text (Content Security Policy 3, 2.3.1)."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"


HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)};"
        " connect-src 'self'; img-src data:; form-action 'none'; frame-ancestors 'none';"
        " base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Headers of the page, beside those of every response of the site."""
MEDIA_TYPE = "text/html; charset=utf-8"


async def document(config: Config, shown: Shown, picked: Picked, drawn: Mapping[str, str]) -> bytes:
    """The whole page.

    Args:
        config: The settings.
        shown: What all viewers see.
        picked: What this one sees.
        drawn: The history's section, rendered.
    """
    parts: dict[str, Flattenable] = {
        **fragments.shared(shown),
        **fragments.own(shown, picked),
        **{name: Comment(name) for name in past.PARTS},
        "model": config.model,
        "base": origin_of(config.base_url),
        "target": origin_of(config.target),
    }
    html = await flattenString(None, Tag("")(*_TEMPLATE).fillSlots(**parts))
    # Inserted by hand: the template would escape what is rendered, or what HTML reads verbatim.
    for name in past.PARTS:
        html = html.replace(f"<!--{name}-->".encode(), drawn[name].encode(), 1)
    head, _, rest = html.partition(b"<style></style>")
    body, _, end = rest.rpartition(b"<script></script>")
    style, script = (f"<{n}>{t}</{n}>" for n, t in (("style", STYLE), ("script", SCRIPT)))
    return b"".join([b"<!DOCTYPE html>\n", head, style.encode(), body, script.encode(), end])


async def render(tag: Tag) -> str:
    """One fragment."""
    return (await flattenString(None, tag)).decode("utf-8")
