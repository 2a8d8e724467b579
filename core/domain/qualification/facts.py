"""What is known about a lead at an instant, and where each fact came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core.domain.enrollment import EventFacts, RecordFacts


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a fact came from."""

    source: str
    """A principal, an enrollment, an event; empty when nobody wrote it down."""
    observed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Fact:
    """A value that a rule looked at."""

    path: str
    value: Any
    """None when it is not known."""
    source: str = ""
    observed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LeadFacts:
    """Everything a qualification may look at."""

    contact: RecordFacts
    lead: RecordFacts
    as_of: datetime
    """Nothing observed later is in here."""
    events: tuple[EventFacts, ...] = ()
    """The contact's events, oldest first."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Where fields came from, by path, such as `contact.country` or `contact.custom.plan`."""

    def values(self) -> dict[str, Any]:
        """Return the records' fields by the names that conditions use."""
        known: dict[str, Any] = {}
        for name, record in (("contact", self.contact), ("lead", self.lead)):
            known |= {f"{name}.{key}": value for key, value in record.fields.items()}
            known[f"{name}.id"] = record.id or None
        return known

    def fact(self, path: str, value: Any, event: EventFacts | None = None) -> Fact:
        """Return a value with its origin; a path in `event` comes from the event."""
        if path.startswith("event.") and event is not None:
            return Fact(path, value, f"event:{event.id}", event.received_at)
        origin = self.origins.get(path)
        if value is None or origin is None:
            return Fact(path, value)
        return Fact(path, value, origin.source, origin.observed_at)
