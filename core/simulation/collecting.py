"""A garbage collector that looks less often while a simulation runs."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

_COLLECTED_AFTER = 100_000
"""New objects between two looks of the collector; it takes an eighth of the time with the usual number."""


@contextlib.contextmanager
def collecting_less() -> Iterator[None]:
    """Let the garbage collector look less often: nearly all that a simulation makes stays until its end."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECTED_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
