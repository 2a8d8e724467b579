"""The kinds of triggers, as data: what starts enrollments beside a call."""

from __future__ import annotations

from datetime import datetime, time
from typing import ClassVar, Literal

from core.domain import filters
from core.domain.frozen import frozen
from core.domain.workflow.cron import Cron
from core.domain.workflow.expressions import Expression
from core.domain.workflow.windows import EVERY_DAY
from core.domain.workflow.zones import Zone, next_local

TriggerKind = Literal["event", "source", "record", "segment", "schedule", "pool"]
Moment = Literal["created", "changed", "either"]


@frozen
class Audience:
    """Which contacts a schedule or a pool takes; everybody where nothing is said."""

    filter: str = ""
    """As the author wrote it."""
    where: filters.Expression | None = None
    """What the filter says."""
    list: str = ""
    """Name of the list they must be on."""

    @property
    def said(self) -> str:
        """Return how sentences call it."""
        parts = [self.filter.strip(), f"on the list {self.list}" if self.list else ""]
        return ", ".join(part for part in parts if part) or "every contact"


@frozen
class EventTrigger:
    """An event of the contact, by name."""

    kind: ClassVar[TriggerKind] = "event"

    event: str
    when: Expression | None = None
    """Over the event and the records; None for always."""
    key: Expression | None = None
    """Tells enrollments of one contact apart, instead of the workflow's own key."""


@frozen
class SourceTrigger:
    """Every event that comes in from one source, such as an inbound webhook."""

    kind: ClassVar[TriggerKind] = "source"

    source: str
    """The source's id or its display name."""
    event: str = ""
    """Only events of this name; empty for all."""
    when: Expression | None = None
    key: Expression | None = None


@frozen
class RecordTrigger:
    """A record that is created or changed: the contact, their company, or one that refers to them."""

    kind: ClassVar[TriggerKind] = "record"

    record: str
    """Contact, lead, company, opportunity, or a type of the organization's own."""
    on: Moment = "either"
    fields: tuple[str, ...] = ()
    """Only changes of one of these fields, or of what is below them; none for all."""
    when: Expression | None = None
    """Over the records, `change` and `before`."""
    key: Expression | None = None
    contact: str = "contact_id"
    """The field of the record that refers to the contact who enters."""


@frozen
class SegmentTrigger:
    """The contact begins to match a condition: it does after a change, and did not before."""

    kind: ClassVar[TriggerKind] = "segment"

    segment: Expression


@frozen
class ScheduleTrigger:
    """An audience enters whenever the schedule comes round."""

    kind: ClassVar[TriggerKind] = "schedule"

    cron: str
    audience: Audience
    timezone: str = ""
    """IANA name; empty for the workflow's zone."""

    def next_after(self, instant: datetime, zone: Zone) -> datetime:
        """Return when it comes round next."""
        return Cron(self.cron, zone).next_after(instant)


@frozen
class PoolTrigger:
    """So many contacts of an audience enter every day, oldest first, nobody twice."""

    kind: ClassVar[TriggerKind] = "pool"

    per_day: int
    at: time
    audience: Audience
    timezone: str = ""
    days: frozenset[int] = EVERY_DAY
    """Days of the week by number, 0 for Monday."""

    def next_after(self, instant: datetime, zone: Zone) -> datetime:
        """Return when it takes contacts next."""
        return next_local(instant + datetime.resolution, self.at, self.days, zone)


Timed = ScheduleTrigger | PoolTrigger
KEYED = (EventTrigger, SourceTrigger, RecordTrigger)
"""Those that may have a key of their own."""
Trigger = EventTrigger | SourceTrigger | RecordTrigger | SegmentTrigger | ScheduleTrigger | PoolTrigger
