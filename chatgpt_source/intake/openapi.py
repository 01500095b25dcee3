"""The OpenAPI document of the prompt port."""

import json
from pathlib import Path

from chatgpt_source import __version__
from chatgpt_source.http.server import to_json

MEDIA_TYPE = "application/openapi+json"


def _read() -> bytes:
    document = json.loads(Path(__file__).with_name("openapi.json").read_text(encoding="utf-8"))
    document["info"]["version"] = __version__
    return to_json(document)


DOCUMENT = _read()
"""The document, with the version of this release."""
