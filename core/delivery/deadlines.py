"""The deadlines of all that is under way, watched by one timer: one for each request costs half as much as sending."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from math import inf
from types import TracebackType


@dataclass(slots=True)
class Deadlines:
    """Ends what takes too long; what is in time costs an entry in a table."""

    _ends: dict[Deadline, float] = field(default_factory=dict)
    """When each ends, by the loop's clock."""
    _timer: asyncio.TimerHandle | None = None
    _rings_at: float = inf

    def within(self, seconds: float) -> Deadline:
        """Return a block that ends with TimeoutError after so many seconds from now, for the task that asks."""
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        end = loop.time() + seconds
        deadline = Deadline(self._ends, task, task.cancelling())
        self._ends[deadline] = end
        if end < self._rings_at:
            self._ring(loop, end)
        return deadline

    def close(self) -> None:
        """Stop the timer; nothing is under way any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = None, inf

    def _ring(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = loop.call_at(at, self._rang, loop), at

    def _rang(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._timer, self._rings_at = None, inf
        for deadline in [deadline for deadline, end in self._ends.items() if end <= now]:
            del self._ends[deadline]
            deadline.ring()
        if self._ends:
            self._ring(loop, min(self._ends.values()))


@dataclass(slots=True, eq=False)
class Deadline:
    """A block of one task that ends in time; what cancels the task from elsewhere is not taken for it."""

    _ends: dict[Deadline, float]
    _task: asyncio.Task[object]
    _cancelling: int
    """How many had asked the task to end before."""
    _has_rung: bool = False

    def ring(self) -> None:
        """End the block."""
        self._has_rung = True
        self._task.cancel()

    def __enter__(self) -> None:
        """Begin it; the time runs already."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Watch it no more, and turn the cancellation that was the deadline's into TimeoutError."""
        self._ends.pop(self, None)
        if not self._has_rung:
            return
        others_asked = self._task.uncancel() > self._cancelling
        if not others_asked and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise TimeoutError from error
