"""The awaits of a process, counted as they happen, so that it can kill itself with `kill -9` at any one of them.

Only an await that really gives way counts, and it counts twice. As it begins to wait, what it asked for is on its way:
the statement and the request have been written, nobody has read an answer. As it goes on, the answer has come, and
nothing has been made of it yet. Between two such moments nothing happens that another process could see.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

_PRODUCT = str(Path(__file__).parents[2] / "core") + os.sep
_PHASES = {"_claim": "claim", "_attempt": "attempt", "_record": "record", "stop": "stop"}
"""Functions of the dispatcher, and what it does within them."""


@dataclass(slots=True)
class Awaits:
    """Counts moments from when it is armed, and kills its own process at the fatal one."""

    fatal: int
    """The number of the moment at which it ends; the first is 1, and 0 is none."""
    last_words: Callable[[str, str], None]
    """Told, just before the end, what was being done and where in the product."""
    count: int = 0
    armed: bool = False

    def task_factory(self, loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task whose awaits are counted."""
        return asyncio.Task(_Watched(self, coro), loop=loop, **options)

    def moment(self, coro: Any, which: str) -> None:
        """Count a moment of a coroutine, and end there if it is the fatal one."""
        if not self.armed:
            return
        self.count += 1
        if self.count == self.fatal:
            phase, place = _where(coro)
            self.last_words(phase, f"{place} ({which})")
            os.kill(os.getpid(), signal.SIGKILL)


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine between its task and itself."""

    __slots__ = ("_awaits", "_begun", "_coro")

    def __init__(self, awaits: Awaits, coro: Any):
        self._awaits = awaits
        self._coro = coro
        self._begun = False

    def send(self, value: Any) -> Any:
        return self._go_on(self._coro.send, value)

    def throw(self, *error: Any) -> Any:
        return self._go_on(self._coro.throw, *error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Any:
        return self._coro.__await__()

    def _go_on(self, step: Callable[..., Any], *arguments: Any) -> Any:
        if self._begun:
            self._awaits.moment(self._coro, "goes on")
        self._begun = True
        awaited = step(*arguments)
        self._awaits.moment(self._coro, "waits")
        return awaited


def _where(coro: Any) -> tuple[str, str]:
    """Return what the dispatcher is about, and the innermost line of the product that awaits."""
    frames = [frame for frame in _frames(coro) if frame.f_code.co_filename.startswith(_PRODUCT)]
    names = [frame.f_code.co_name for frame in frames]
    phase = next((_PHASES[name] for name in names if name in _PHASES), "between" if frames else "attempt")
    if not frames:
        return phase, "the HTTP client's own task"
    path = frames[-1].f_code.co_filename.removeprefix(_PRODUCT)
    return phase, f"core/{path}:{frames[-1].f_lineno} {names[-1]}"


def _frames(coro: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it awaits, the outermost first."""
    while coro is not None:
        if (frame := getattr(coro, "cr_frame", None)) is not None:
            yield frame
        coro = getattr(coro, "cr_await", None)
