"""What a simulation found: where everybody went, what would have been sent, who stayed out, what to look at again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from core.domain.frozen import frozen
from core.domain.trace import TraceEntry

ACTIVE = "active"
"""State of those who are still on their way when the horizon is reached."""
EXCLUDED = "excluded"
"""State of contacts that never entered."""
NO_TRIGGER = "NO_TRIGGER"
"""Why nobody entered where contacts enter by triggers, and none fired."""

Turn = tuple[str, str]
"""A step and the exit by which it was left, or how the enrollment ended there."""


@frozen
class FunnelStep:
    """What became of those who came to a step; entered = exits + ended + failed + waiting."""

    step_id: str
    kind: str
    title: str
    entered: int
    exits: Mapping[str, int]
    """How many left, by exit."""
    waiting: int
    """How many stand there at the end of the horizon."""
    ended: int
    """How many ended there: by an exit step, a goal or an exit rule."""
    failed: int
    """How many ended there because the step failed."""
    skipped: int
    """How many of the visits it was passed over in, with a reason."""
    held: int
    """How many visits were held for a while, such as through quiet hours."""
    errors: int
    """Failed tries, those included that were tried again or led on by `on_error`."""
    median: timedelta | None
    """Median time in the step, of those who left it; None where nobody has."""


@frozen
class MessagesOnDay:
    """Messages to contacts on one day, in UTC."""

    day: date
    channel: str
    count: int


@frozen
class Exclusion:
    """Contacts that were not let in for one reason."""

    outcome: str
    """`already_enrolled`, `suppressed`, `not_eligible` or `invalid`."""
    reason: str
    """Machine reason, such as `ENTRY_CONDITION`; `NO_TRIGGER` where no trigger fired for anybody."""
    message: str
    """What kept the first of them out, in a sentence."""
    count: int
    contacts: tuple[str, ...]
    """Some of them."""


@frozen
class Variant:
    """One way of a split, and how many of those who took it reached a goal."""

    step_id: str
    way: str
    entered: int
    converted: int


@frozen
class Journey:
    """One contact's way, in short."""

    contact: str
    """Its e-mail, else its id."""
    contact_id: str
    state: str
    """Of its latest enrollment: how it ended, or `active`; `excluded` for one that never entered."""
    step_id: str
    """Where it stands, or last stood."""
    reason: str
    """Why it ended, or stayed out."""
    enrollments: int
    turns: tuple[Turn, ...]
    """Each step it left or ended in, in order, over all its enrollments."""


@frozen
class Timeline:
    """One enrollment, entry by entry; one that never came to be has none."""

    contact: str
    state: str
    step_id: str
    reason: str
    entries: tuple[TraceEntry, ...]


@frozen
class Simulation:
    """What a simulation found."""

    start: datetime
    end: datetime
    title: str
    entering: Literal["start", "triggers"]
    """How contacts came in: all at the start, or as triggers fired."""
    contacts: int
    """How many there were."""
    admitted: int
    """How many of them entered at least once."""
    enrollments: int
    transitions: int
    states: Mapping[str, int]
    """Enrollments by how they ended, or `active`."""
    ends: Mapping[str, int]
    """Enrollments that ended, by the reason."""
    funnel: tuple[FunnelStep, ...]
    """Step by step, in document order."""
    messages: tuple[MessagesOnDay, ...]
    webhooks: Mapping[str, int]
    """Events that steps sent to webhook endpoints, by type."""
    emitted: Mapping[str, int]
    """Events that steps recorded, by name."""
    handed_over: Mapping[str, int]
    """Enrollments in other workflows, by workflow."""
    exclusions: tuple[Exclusion, ...]
    """Contacts that never entered."""
    refused_reentries: tuple[Exclusion, ...]
    """Contacts that did enter, and were refused when they would have entered again."""
    goals: Mapping[str, int]
    """Enrollments that reached a goal first, by its name."""
    variants: tuple[Variant, ...]
    journeys: tuple[Journey, ...]
    """Of every contact."""
    timelines: tuple[Timeline, ...]
    """Of the first contacts."""
    warnings: tuple[str, ...]

    @property
    def messages_sent(self) -> int:
        """Return how many messages would have gone out."""
        return sum(one.count for one in self.messages)


def as_data(value: Any) -> Any:
    """Return what a simulation found as plain JSON data; times are ISO 8601, lengths of time are seconds."""
    match value:
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(key): as_data(item) for key, item in value.items()}
        case list() | tuple() | frozenset():
            return [as_data(item) for item in value]
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {one.name: as_data(getattr(value, one.name)) for one in fields(value)}
        case _:
            return value
