"""Checks values against JSON Schemas in a process of its own.

Callers write schemas, and a few lines of one can mean endless work, which no library can stop. The
kernel ends the process whose work takes too long.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

MOST_SECONDS = 1.0
"""Seconds of CPU time that a check may take."""
MOST_MEMORY = 2**28
"""Bytes that the process may have."""
MOST_WAIT = 30.0
"""Seconds that all checks of a process may take together, however little CPU time it gets."""
TOO_MUCH = "its check against its schema takes too much time or memory"
_PLACE = re.compile(r"(/[\w$-]{1,40}){1,20}", re.ASCII)

Question = tuple[Any, ...]
"""A schema, and the value to check; without one, only the schema is checked."""


def faults(questions: Sequence[Question]) -> list[str]:
    """What is wrong with each value or its schema, as the end of a sentence; empty: nothing is.

    The last fault may be that a check takes too much; then the questions after it are open. This
    waits for the process, so the reactor calls it in a thread.
    """
    asked = "".join(json.dumps(question) + "\n" for question in questions).encode("ascii")
    try:
        told = subprocess.run(
            [sys.executable, "-m", "chatgpt_source.json_schema"],
            input=asked,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",  # else Python would import what lies in the current folder
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=MOST_WAIT,
            check=False,
        ).stdout
    except subprocess.TimeoutExpired as late:
        told = late.stdout or b""
    except OSError as error:
        return [f"no process can be started to check it ({error.strerror})"]
    *found, begun = told.decode("ascii").split("\n")
    return found if len(found) == len(questions) else [*found, begun or TOO_MUCH]


def fault(schema: Any, *values: Any) -> Iterator[str]:
    """What is wrong with a value or its schema, in parts; it repeats nothing of the value."""
    import jsonschema_rs  # noqa: PLC0415 - only the process pays for it

    try:
        validator = jsonschema_rs.validator_for(schema, offline=True)
    except Exception as error:  # noqa: BLE001 - some are none of the library's own
        yield f"its schema is not valid{_at(getattr(error, 'instance_path', ()))}"
        return
    for value in values:
        if not validator.is_valid(value):
            yield "it does not fit its schema"
            try:
                validator.validate(value)  # which may take too much where `is_valid` does not
            except jsonschema_rs.ValidationError as error:
                yield _at(error.schema_path)


def _at(path: Iterable[str | int]) -> str:
    """A place in a schema, if all its names are plain words."""
    place = "".join(f"/{each}" for each in path)
    return f" at {place}" if _PLACE.fullmatch(place) else ""


def main() -> None:
    """Write a line about each question on standard input."""
    # A core would leave an answer in a file.
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MOST_MEMORY)):
        with suppress(ValueError, OSError):  # macOS does not limit memory
            resource.setrlimit(limit, (most, most))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        for part in fault(*json.loads(line)):
            print(part, end="", flush=True)  # noqa: T201 - the answer
        print(flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
