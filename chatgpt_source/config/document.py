"""The config file: found, read, and parsed, every mistake with its place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from chatgpt_source.config.mistakes import ConfigError


def read_document(environ: Mapping[str, str], default_file: Path) -> tuple[dict[Any, Any], str]:
    """The file's mapping and its name; an empty mapping where there is no file.

    Raises:
        ConfigError: If it can't be read, or is no YAML mapping.
    """
    named = environ.get("CONNECTOR_CONFIG")
    path = Path(named) if named else default_file
    where = f"config file {path}" + (" (named by CONNECTOR_CONFIG)" if named else "")
    try:
        raw = path.read_bytes()
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
    except OSError as error:
        raise ConfigError(f"{where} can't be read: {error.strerror}") from error
    document = _parsed(raw, where)
    if document is None:
        return {}, str(path)
    if not isinstance(document, dict):
        raise ConfigError(f"{where} must hold a mapping: lines of `key: value`, with a space")
    return document, str(path)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's signature
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem="twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parsed(raw: bytes, where: str) -> Any:
    try:
        return yaml.load(raw, Loader=_Loader)  # noqa: S506 - derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = "a key is given twice" if error.problem == "twice" else "it is not valid YAML"
        raise ConfigError(f"{where}: {what}{place}") from None
    except Exception:  # noqa: BLE001 - yaml's constructors raise what they please
        raise ConfigError(f"{where} must be YAML in UTF-8") from None
