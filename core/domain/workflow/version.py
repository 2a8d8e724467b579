"""A published workflow, compiled: what the machine runs. It never changes; enrollments pin it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from core.domain.frozen import frozen
from core.domain.workflow import own_kinds
from core.domain.workflow.calendar import Calendar
from core.domain.workflow.expressions import Expression, Kind
from core.domain.workflow.frequency import FrequencyCap
from core.domain.workflow.own_kinds import OwnKinds
from core.domain.workflow.quiet_hours import QuietHours
from core.domain.workflow.triggers import Trigger

if TYPE_CHECKING:
    from core.domain.steps.base import Step

Reentry = Literal["once", "after_exit", "after_interval", "concurrent_by_key"]
OnError = Literal["fail", "continue", "goto"]

LONGEST_DELAY = timedelta(days=7)


@frozen
class Retry:
    """How often, and after how long, a step that failed is tried again."""

    attempts: int
    """Tries in all, the first one included."""
    delay: timedelta
    """Before the second try."""
    factor: float = 2.0
    """Each further delay is this many times the one before, up to a week."""

    def delay_after(self, failed: int) -> timedelta:
        """Return how long to wait after so many failed tries."""
        seconds = self.delay.total_seconds() * self.factor ** min(failed - 1, 60)
        return timedelta(seconds=min(seconds, LONGEST_DELAY.total_seconds()))


@frozen
class Rule:
    """What ends an enrollment wherever it stands: a goal reached, or a reason to leave."""

    kind: Literal["goal", "exit"]
    name: str
    events: tuple[str, ...] = ()
    """Names of the events at which it is looked at; none for every move and every change of the records."""
    when: Expression | None = None

    def says(self) -> str:
        """Return how sentences call it."""
        return f"{'goal' if self.kind == 'goal' else 'exit rule'} {self.name}"


@frozen
class Entry:
    """Who may come in."""

    when: Expression | None = None
    """Must hold; None lets everybody in."""
    suppress: Expression | None = None
    """Must not hold."""
    suppress_lists: tuple[str, ...] = ()
    """Whoever is on one of these lists stays out."""


@frozen
class Breaker:
    """When a workflow pauses itself: too many of its last step outcomes failed."""

    percent: float = 10.0
    of_last: int = 50


@frozen
class Node:
    """A step in its place in the graph."""

    id: str
    title: str
    step: Step
    exits: Mapping[str, str]
    """Exit to the next step's id, or `end`; every exit the step can take is here, and `error` for `on_error: goto`."""
    retry: Retry | None = None
    on_error: OnError = "fail"
    led: frozenset[str] = frozenset()
    """The exits that the author led somewhere on purpose, themselves or by the exit whose way they take."""

    @property
    def name(self) -> str:
        """Return how sentences call it."""
        return f"{self.id} ({self.title})" if self.title else self.id


@frozen
class Version:
    """One version of a workflow."""

    workflow_id: str
    number: int
    title: str
    document: Mapping[str, Any]
    steps: Mapping[str, Node]
    entry: str
    """The first step's id."""
    triggers: tuple[Trigger, ...] = ()
    reentry: Reentry = "once"
    timezone: str = ""
    """IANA zone of contacts that have none; empty for the organization's."""
    reentry_interval: timedelta | None = None
    """How long after its entry a contact may enter again, with `after_interval`."""
    key: Expression | None = None
    """What tells parallel enrollments of a contact apart, over `event` and `vars`."""
    admission: Entry = field(default_factory=Entry)
    rules: tuple[Rule, ...] = ()
    """Goals and exit rules, in the order in which they are tried."""
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    quiet_hours: QuietHours | None = None
    frequency_caps: tuple[FrequencyCap, ...] = ()
    variables: Mapping[str, Kind] = field(default_factory=dict)
    """Declared variables of an enrollment; none where any may be given."""
    breaker: Breaker | None = field(default_factory=Breaker)
    """None when it never pauses itself."""
    needs: frozenset[str] = frozenset()
    """What its decisions read beyond contact and lead: `company`, `lists`, `sent`."""
    records: frozenset[str] = frozenset()
    """The types of records that its decisions read beyond contact, lead and company."""
    own: OwnKinds = own_kinds.NONE
    """The kinds of the own fields that it mentions, as they were when it was published."""
    begins: Mapping[str, bool] = field(default_factory=dict)
    """Steps of which an enrollment remembers when it came into them; true where it does so also once it has left."""
