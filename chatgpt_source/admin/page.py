"""The status page: its template, style, script and HTTP headers."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from twisted.web.template import Comment, Flattenable, Tag, XMLString, flattenString

from chatgpt_source.admin import fragments, past
from chatgpt_source.admin.detail import back, title
from chatgpt_source.admin.health import health
from chatgpt_source.admin.prompts import search
from chatgpt_source.admin.view import Picked, Shown
from chatgpt_source.config import Config
from chatgpt_source.http.server import origin_of
from chatgpt_source.quota import clock_time

_FOLDER = Path(__file__).parent


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


STYLE = _text("page.css")
SCRIPT = _text("page.js") + _text("charts.js") + _text("actions.js")
_FRAME, _OVERVIEW, _PROMPT = (
    XMLString(_text(f"{name}.xml")).load() for name in ("page", "overview", "prompt")
)


def _hash(text: str) -> str:
    """A source expression that allows only this text (Content Security Policy 3, 2.3.1)."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode('ascii')}'"


HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)};"
        " connect-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none';"
        " base-uri 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""Headers of the page, beside those of every response of the site."""
MEDIA_TYPE = "text/html; charset=utf-8"


async def document(config: Config, shown: Shown, picked: Picked, drawn: Mapping[str, str]) -> bytes:
    """The whole page: of all prompts, or of one.

    Args:
        config: The settings.
        shown: What all viewers see.
        picked: What this one sees.
        drawn: The history's section, rendered; a prompt's page has none.
    """
    headline = health(shown)
    name = str(headline.attributes["data-title"])
    parts: dict[str, Flattenable] = {
        **fragments.everywhere(shown),
        "health": headline,
        "title": name if picked.query.prompt is None else f"{title(picked)} – {name}",
        "zone": shown.zone.key,
        "at": clock_time(shown.now, shown.now, shown.zone, "%H:%M:%S"),
        "model": config.model,
        "base": origin_of(config.base_url),
        "target": origin_of(config.target),
        "host": shown.daemon.name,
    }
    own: dict[str, Flattenable]
    if picked.query.prompt is None:
        own = {**fragments.shared(shown), "search": search(picked.query)}
        own |= {name: Comment(name) for name in past.PARTS}
        content = _OVERVIEW
    else:
        own, content = {"back": back(picked)}, _PROMPT
    inner = Tag("")(*content).fillSlots(**own, **fragments.own(shown, picked))
    html = await flattenString(None, Tag("")(*_FRAME).fillSlots(**parts, content=inner))
    # Inserted by hand: the template would escape what is rendered, or what HTML reads verbatim.
    for part, rendered in drawn.items():
        html = html.replace(f"<!--{part}-->".encode(), rendered.encode(), 1)
    head, _, rest = html.partition(b"<style></style>")
    body, _, end = rest.rpartition(b"<script></script>")
    style, script = (f"<{n}>{t}</{n}>" for n, t in (("style", STYLE), ("script", SCRIPT)))
    return b"".join([b"<!DOCTYPE html>\n", head, style.encode(), body, script.encode(), end])


async def render(tag: Tag) -> str:
    """One fragment."""
    return (await flattenString(None, tag)).decode("utf-8")
