"""The step that holds a contact until an event comes, or for a time at most."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, ClassVar

from core.domain.enrollment import EventArrived, EventFacts, Stimulus, TimerFired, Waiting
from core.domain.steps.base import Context, Decision, Go, Stay, Step, setting
from core.domain.steps.shapes import Condition, Duration, EventName
from core.domain.workflow import durations
from core.domain.workflow.expressions import Expression, Result
from core.domain.workflow.variables import event_values


@dataclass(frozen=True, slots=True)
class WaitForEvent(Step):
    """Holds a contact until an event comes, or for a time at most."""

    kind: ClassVar = "wait_for_event"
    summary: ClassVar = "Holds the contact until an event of theirs comes in that fits, or until the timeout."
    exits: ClassVar = ("matched", "timeout")
    waits: ClassVar = True
    outputs: ClassVar = {"matched": "boolean", "event_id": "string", "matched_at": "instant"}

    event: Annotated[str, setting(EventName(), "Name of the event.")]
    when: Annotated[Expression | None, setting(Condition(), "What must hold of it, seen as `event`.")] = None
    timeout: Annotated[timedelta | None, setting(Duration(), "How long at most; without one it waits for ever.")] = None

    def its_exits(self) -> tuple[str, ...]:
        """Return both exits, or the one there is without a timeout."""
        return self.exits if self.timeout else ("matched",)

    def begin(self, context: Context) -> Decision:
        """Begin to listen; what came before does not count."""
        until = context.now + self.timeout if self.timeout else None
        limit = f" for {durations.speak(self.timeout)} at most" if self.timeout else ""
        return Stay(Waiting("event", self.event, context.now), f"Waits for {self.event}{limit}.", until)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on with an event that fits; at the timeout, one that came in time still wins."""
        match stimulus:
            case EventArrived(event):
                return self._matched(event, context)
            case TimerFired():
                in_time = (self._matched(event, context) for event in context.facts.arrived)
                return next((found for found in in_time if found), None) or self._timed_out()
            case _:
                return None

    def _matched(self, event: EventFacts, context: Context) -> Go | None:
        waiting, due_at = context.enrollment.waiting, context.enrollment.due_at
        if event.name != self.event or waiting is None:
            return None
        if waiting.since is not None and event.received_at < waiting.since:
            return None
        if event.id == (context.enrollment.event or {}).get("id"):
            return None  # the event that brought it here is not the one it waits for
        if due_at is not None and event.received_at >= due_at:
            return None
        result = self.when.evaluate(context.values_with(event)) if self.when else Result(True)
        if not result.holds:
            return None
        because = f" and {self.when.text} holds" if self.when else ""
        return Go(
            "matched",
            f"{self.event} came in at {event.received_at:%Y-%m-%d %H:%M} UTC{because}.",
            outputs={"matched": True, "event_id": event.id, "matched_at": event.received_at.isoformat()},
            inputs={"event.id": event.id, **result.inputs},
            event=event_values(event),
        )

    def _timed_out(self) -> Go | None:
        if self.timeout is None:
            return None
        reason = f"No {self.event} that fits came within {durations.speak(self.timeout)}."
        return Go("timeout", reason, outputs={"matched": False})
