"""Finds, reads and parses the config file, within bounds; mistakes have line and column."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from chatgpt_source.config.mistakes import ConfigError
from chatgpt_source.files import MOST_BYTES, read_file

MOST_NODES = 10_000
"""Values that a file may hold; each alias counts as the values that it stands for."""
MOST_DEPTH = 50
"""How deep they may be nested."""
MOST_DIGITS = 1000
"""Characters of a value that is not text."""
_INTEGER, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_OCTAL = "YAML reads a number that begins with 0 as octal: write it without the 0, or in quotes"
_IN_SIXTIES = (
    "YAML reads numbers with colons in units of 60, so that 24:00 is 1440: write a duration as"
    " seconds, and text in quotes"
)
_TOO_DEEP = f"values are nested more than {MOST_DEPTH} deep"
_TOO_MUCH = (
    f"there are more than {MOST_NODES} values or {MOST_BYTES} characters in it, each alias counted"
    " as what it stands for"
)


def read_document(environ: Mapping[str, str], default_file: Path) -> tuple[dict[Any, Any], str]:
    """The file's mapping and its name; an empty mapping where there is no file.

    Raises:
        ConfigError: If it can't be read, or is no YAML mapping.
    """
    named = environ.get("CONNECTOR_CONFIG")
    path = Path(named) if named else default_file
    where = f"config file {path}" + (" (named by CONNECTOR_CONFIG)" if named else "")
    try:
        raw = read_file(path)
    except FileNotFoundError as error:
        if named:
            raise ConfigError(
                f"{where} does not exist: create it, or unset the variable"
            ) from error
        return {}, "the environment"
    except PermissionError as error:
        raise ConfigError(
            f"{where} can't be read by this user: run as its owner"
            ' (docker run --user "$(id -u):0")'
            " or make it readable (chmod a+r)"
        ) from error
    except (OSError, ValueError) as error:  # a ValueError: NUL in its name
        reason = getattr(error, "strerror", "name a file")
        raise ConfigError(f"{where} can't be read: {reason}") from error
    document = _parsed(raw, where)
    if document is None:
        return {}, str(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{where} must hold a mapping: lines of `key: value`, with a space")
    return document, str(path)


class _Unfit(yaml.MarkedYAMLError):
    """The YAML breaks a rule of ours; `problem` says which."""


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, with bounds; a key given twice is a mistake."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._values = self._characters = self._depth = self._deepest = 0
        self._weights: dict[yaml.Node | None, tuple[int, int, int]] = {}
        """For each complete node: its number of values, its characters, and its depth."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if node not in self._weights:
                raise self._unfit("an alias stands within itself", event)
            self._add(event, *self._weights[node])
            return node
        values, characters, deepest = self._values, self._characters, self._deepest
        self._deepest = self._depth
        self._add(event, 1, len(getattr(event, "value", "")), 1)  # before what it holds is read
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._weights[node] = (
            self._values - values,
            self._characters - characters,
            self._deepest - self._depth,
        )
        self._deepest = max(deepest, self._deepest)
        return node

    def _add(self, event: yaml.Event, values: int, characters: int, depth: int) -> None:
        """Count what a node, or what an alias stands for, adds to the document."""
        self._values += values
        self._characters += characters
        self._deepest = max(self._deepest, self._depth + depth)
        if self._deepest > MOST_DEPTH:
            raise self._unfit(_TOO_DEEP, event)
        if self._values > MOST_NODES or self._characters > MOST_BYTES:
            raise self._unfit(_TOO_MUCH, event)

    def compose_scalar_node(self, anchor: dict[Any, yaml.Node]) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if len(node.value) > MOST_DIGITS and node.tag != "tag:yaml.org,2002:str":
            raise self._unfit("a value is too long", node)
        if node.tag == _INTEGER and re.match("[-+]?0[0-9_]", node.value):
            raise self._unfit(_OCTAL, node)
        if node.tag in {_INTEGER, _FLOAT} and ":" in node.value:
            raise self._unfit(_IN_SIXTIES, node)
        return node

    def _unfit(self, problem: str, where: Any) -> _Unfit:
        return _Unfit(problem=problem, problem_mark=where.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem_mark=key.start_mark)
            if key.value in seen:
                raise self._unfit("a key is given twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parsed(raw: bytes, where: str) -> Any:
    try:
        return yaml.load(raw, Loader=_Loader)  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = error.problem if isinstance(error, _Unfit) else "it is not valid YAML"
        raise ConfigError(f"{where}: {what}{place}") from None
    except Exception:  # noqa: BLE001 - yaml's constructors raise what they please
        raise ConfigError(f"{where} must be YAML in UTF-8") from None
