"""The garbage collector of a process that serves: it looks less often, and never at what was there at the start."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_LOOKS_AFTER = 50_000
"""New containers between two looks; Python's own figure makes a batch of the engine pay for dozens of them."""

_done = False


@contextmanager
def resting() -> Iterator[None]:
    """Do not look while modules are loaded, nor at what was loaded: the looks would take a third of a start."""
    was_looking = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_looking:
            gc.freeze()
            gc.enable()


def look_less() -> None:
    """Leave out of every later look what exists now, and look less often; once a process.

    Modules, contracts and compiled workflows stay to the end. To walk over them again and again cost a quarter of the
    engine's time, and stopped every call for as long as each walk took. What a start leaves behind is little, and to
    look for it takes longer than anything else that a start does: it stays, too.
    """
    global _done
    if _done:
        return
    _done = True
    gc.freeze()
    gc.set_threshold(_LOOKS_AFTER, 20, 50)
