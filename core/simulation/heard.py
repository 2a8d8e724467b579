"""What has come in, for waits that count it from an earlier instant on."""

from __future__ import annotations

from core.domain.enrollment import Enrollment, EventFacts
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.workflow import firing
from core.domain.workflow.correlation import correlation_key
from core.domain.workflow.version import Version


class Heard:
    """The events that some step waits for, by whose they are."""

    def __init__(self, version: Version):
        self._correlated = firing.correlated_waits(version)
        steps = (node.step for node in version.steps.values())
        self._awaited = frozenset(name for step in steps if isinstance(step, WaitForEvent) for name in step.events)
        self._events: dict[tuple[str, str], list[EventFacts]] = {}

    def take(self, contact_id: str, event: EventFacts) -> set[str]:
        """Take an event in, and return what its fields say under which somebody may wait for it."""
        fields = [field for name, field in self._correlated if name == event.name]
        keys = {correlation_key(field, event.fields.get(field)) for field in fields}
        if event.name in self._awaited:
            for key in (contact_id, *keys):
                self._events.setdefault((key, event.name), []).append(event)
        return keys

    def since(self, enrollment: Enrollment) -> list[EventFacts]:
        """Return what came in for a wait that has just begun, the oldest first."""
        waiting = enrollment.waiting
        if waiting is None or waiting.since is None or not enrollment.catches_up:
            return []
        found = [event for name in waiting.events for event in self._events.get((waiting.key, name), ())]
        found = [event for event in found if event.received_at >= waiting.since]
        return sorted(found, key=lambda event: event.received_at)
