"""Counts what only Python's collector of cycles can free."""

import gc
from collections.abc import Callable


def left_by(work: Callable[[], object]) -> int:
    """The number of objects that some work leaves in cycles."""
    work()  # the first time fills caches
    gc.collect()
    gc.disable()
    try:
        work()
        return gc.collect()
    finally:
        gc.enable()
