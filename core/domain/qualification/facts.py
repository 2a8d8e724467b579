"""What is known about a lead at an instant, and where each fact came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from core.domain.enrollment import EventFacts, RecordFacts
from core.domain.frozen import copied, frozen
from core.domain.qualification.model import Freshness
from core.domain.workflow import own_kinds
from core.domain.workflow.own_kinds import OwnKinds


@frozen
class Origin:
    """Where a fact came from."""

    source: str
    """A principal, an enrollment, an event; empty when nobody wrote it down."""
    observed_at: datetime | None
    claimed: bool = False
    """It is an agent's claim."""


@frozen
class Fact:
    """A value that a rule looked at."""

    path: str
    value: Any
    """None when it is not known."""
    source: str = ""
    observed_at: datetime | None = None
    claimed: bool = False
    """It is an agent's claim."""
    stale: bool = False
    """It is older than the model takes for fresh."""


_ALWAYS_FRESH = Freshness()


@frozen
class LeadFacts:
    """Everything a qualification may look at."""

    contact: RecordFacts
    lead: RecordFacts
    as_of: datetime
    """Nothing observed later is in here."""
    events: tuple[EventFacts, ...] = ()
    """The contact's events, in any order."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Where fields came from, by path, such as `contact.country` or `contact.custom.plan`."""

    def values(self, own: OwnKinds = own_kinds.NONE) -> dict[str, Any]:
        """Return the records' fields by the names that conditions use; `own` fields have names of their own."""
        known: dict[str, Any] = {}
        for name, record in (("contact", self.contact), ("lead", self.lead)):
            known |= {f"{name}.{key}": value for key, value in record.fields.items()}
            known[f"{name}.id"] = record.id or None
        return known | own_kinds.values(own, known) if own else known

    def as_old_as_at(self, instant: datetime) -> LeadFacts:
        """Return the same facts as old as they were at an earlier instant; what came since has just happened then.

        So nothing but news tells a plan from the lead that it was made for.
        """
        events = tuple(
            one
            if one.received_at <= instant and one.occurred_at <= instant
            else copied(
                one,
                received_at=min(one.received_at, instant),
                occurred_at=one.occurred_at if one.occurred_at > self.as_of else min(one.occurred_at, instant),
            )
            for one in self.events
        )
        return LeadFacts(self.contact, self.lead, instant, events, self.origins)

    def fact(
        self, path: str, value: Any, event: EventFacts | None = None, freshness: Freshness = _ALWAYS_FRESH
    ) -> Fact:
        """Return a value with its origin; a path in `event` comes from the event."""
        if path.startswith("event.") and event is not None:
            return Fact(path, value, f"event:{event.id}", event.received_at)
        origin = self.origins.get(path)
        if value is None or origin is None:
            return Fact(path, value)
        stale = is_stale(path, origin.observed_at, self.as_of, freshness)
        return Fact(path, value, origin.source, origin.observed_at, origin.claimed, stale)


def is_stale(path: str, observed_at: datetime | None, as_of: datetime, freshness: Freshness) -> bool:
    """Tell whether a fact of this age is too old; one of which nobody knows the age is not."""
    limit = freshness.limit(path)
    return limit is not None and observed_at is not None and as_of - observed_at > limit
