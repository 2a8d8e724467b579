"""A test that does not come to its end fails, and tells what it waits for.

Without this a single lost answer would keep a whole run from ending, and leave nobody a trace of which test it was.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import suppress
from types import CodeType, FrameType
from typing import Any

import pytest

LONGEST_SECONDS = float(os.environ.get("DRIPSTONE_LONGEST_TEST_SECONDS", "300"))
"""Many times what the slowest test takes on a slow machine; the long proofs allow theirs more."""

_AGAIN_SECONDS = 10
"""The first failure may be caught by what happens to run just then, as by a task that nobody waits for."""

_INNERMOST = 8
"""Frames of a thread that are told."""


class Hangs(BaseException):
    """A test takes so long that it will not end by itself; no exception that the product catches."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let nothing of a test, its fixtures among it, take for ever."""

    def fail(_signal: int, _frame: FrameType | None) -> None:
        raise Hangs(f"{item.nodeid} has not ended after {LONGEST_SECONDS:g} s\n{_where()}")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS, _AGAIN_SECONDS)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _where() -> str:
    """Tell where every other thread is, and what each task of the running loop waits for."""
    parts = [
        f"thread {number}:\n{''.join(traceback.format_stack(frame)[-_INNERMOST:])}"
        for number, frame in sys._current_frames().items()
        if number != threading.get_ident()
    ]
    with suppress(RuntimeError):  # no loop is running
        parts += [f"{task.get_name()}:\n{_awaited(task.get_coro())}" for task in asyncio.all_tasks()]
    return "\n".join(parts)


def _awaited(awaiting: Any) -> str:
    """Tell a line for each coroutine that waits for the next one."""
    lines = []
    while awaiting is not None:
        code: CodeType | None = getattr(awaiting, "cr_code", None) or getattr(awaiting, "gi_code", None)
        if code is None:
            lines.append(f"  {awaiting!r}")
            break
        frame: FrameType | None = getattr(awaiting, "cr_frame", None) or getattr(awaiting, "gi_frame", None)
        lines.append(f"  {code.co_filename}:{frame.f_lineno if frame else '?'} in {code.co_qualname}")
        awaiting = getattr(awaiting, "cr_await", None) or getattr(awaiting, "gi_yieldfrom", None)
    return "\n".join(lines)
