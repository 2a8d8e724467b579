"""The step that holds a contact for a length of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, ClassVar

from core.domain.enrollment import Stimulus, TimerFired, Waiting
from core.domain.steps.base import Context, Decision, Go, Stay, Step, setting
from core.domain.steps.shapes import Duration
from core.domain.workflow import durations


@dataclass(frozen=True, slots=True)
class Wait(Step):
    """Holds a contact for a length of time."""

    kind: ClassVar = "wait"
    summary: ClassVar = "Holds the contact for a length of time."
    waits: ClassVar = True

    length: Annotated[timedelta, setting(Duration(), "How long.", key="for")]

    def begin(self, context: Context) -> Decision:
        """Set the timer."""
        until = context.now + self.length
        reason = f"Waits {durations.speak(self.length)}, until {until:%Y-%m-%d %H:%M} UTC."
        return Stay(Waiting("timer", since=context.now), reason, until)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on when the timer fires."""
        if not isinstance(stimulus, TimerFired):
            return None
        return Go("next", f"The wait of {durations.speak(self.length)} is over.")
