"""What every step kind is: a frozen dataclass whose fields are its configuration, and two methods that decide.

A step sees the facts it is given and answers with a decision; it never sees a clock, a session or a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, field, fields, replace
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_type_hints

from core.domain import names
from core.domain.articles import with_article
from core.domain.effects import Effect
from core.domain.enrollment import Enrollment, EventFacts, Facts, State, Stimulus, Waiting
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean, nearest
from core.domain.steps.shapes import RecordFields, Scope, Shape
from core.domain.steps.unread import UNREAD, LookedIntoUnread
from core.domain.steps.way_shapes import Alternatives, Cases, Ways
from core.domain.workflow.calendar import Calendar
from core.domain.workflow.expressions import Kind
from core.domain.workflow.variables import Known, event_values
from core.domain.workflow.zones import Zone, zone_of

if TYPE_CHECKING:
    from core.domain.workflow.version import Node, Version


@frozen
class Stay:
    """The enrollment waits here."""

    waiting: Waiting
    reason: str
    until: datetime | None = None
    """When the wait ends by itself; None while only a stimulus ends it."""
    state: State = State.ACTIVE
    effects: tuple[Effect, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outcome: Literal["waiting", "held"] = "waiting"
    """`held` where the step would act, and something such as quiet hours makes it wait."""


@frozen
class Go:
    """The enrollment goes on by an exit."""

    exit: str
    reason: str
    outcome: Literal["ok", "skipped", "failed"] = "ok"
    """`failed` where the author has said what follows; it counts for the circuit breaker all the same."""
    effects: tuple[Effect, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    event: Mapping[str, Any] | None = None
    """The event that woke it, from now on seen as `event`."""
    converted: str = ""
    """The goal it reached by this."""


@frozen
class Leave:
    """The enrollment leaves the workflow here."""

    reason: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)


@frozen
class Fail:
    """The step cannot be carried out."""

    reason: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    failure: str = "STEP_FAILED"
    """Class of the failure, for whoever sorts dead letters: `TEMPLATE_FAILED`, `TOO_LARGE`, `REFUSED` …"""
    retryable: bool = False
    """Another try may succeed without anybody changing the workflow."""
    exit: str = ""
    """The exit for this failure: where the author led it somewhere, that follows once there is no other try."""
    effects: tuple[Effect, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)


Decision = Stay | Go | Leave | Fail

_READ_IN_PART = (RecordFields, Cases, Ways, Alternatives)
"""Shapes that know what there is, by name, also where something else of it is wrong."""

BROKEN = "CONDITION_FAILED"
"""The class of failure of a condition that cannot be evaluated, though what it looks at is known."""


@frozen
class Context:
    """What a step may look at when it decides."""

    enrollment: Enrollment
    facts: Facts
    now: datetime
    index: int
    """Counts the steps of one transition, so that ids differ between them."""
    rev: int
    """The rev that this transition gives the enrollment."""
    version: Version
    node: Node
    spoke_at: datetime | None = None
    """When the first message began that was left in this transition."""

    @property
    def zone(self) -> Zone:
        """Return the zone of local times: the contact's, else the workflow's, else the organization's, else UTC."""
        own = self.facts.contact.fields.get("timezone")
        return zone_of(own if isinstance(own, str) else "", self.version.timezone, self.facts.organization_timezone)

    @property
    def calendars(self) -> Mapping[str, Calendar]:
        """Return the workflow's calendars by name."""
        return self.version.calendars

    def has_exit(self, name: str) -> bool:
        """Tell whether the author wrote an exit that the step has only then."""
        return name in self.node.exits

    @property
    def values(self) -> Known:
        """Return the variables of expressions and templates."""
        return Known(self.facts, self.now, self.enrollment.event, self.enrollment)

    def values_with(self, event: EventFacts) -> Known:
        """Return the variables with another event as `event`."""
        return Known(self.facts, self.now, event_values(event), self.enrollment)

    def name(self, prefix: str) -> str:
        """Return the id of what this step makes here; a repeated decision gives the same one."""
        return names.derive(prefix, self.now, self.enrollment.id, self.rev, self.index)


class Step:
    """A step kind; each field is one key of its configuration, annotated by `setting`."""

    __slots__ = ()

    kind: ClassVar[str]
    summary: ClassVar[str]
    exits: ClassVar[tuple[str, ...]] = ("next",)
    """Its exits; `*` where the configuration names them."""
    optional_exits: ClassVar[tuple[str, ...]] = ()
    """Exits that it has only where the author writes them."""
    required_exits: ClassVar[tuple[str, ...]] = ()
    """Exits that must be led somewhere on purpose, because the following step would be a surprise."""
    required_unless: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Settings, and the values with which it has none of these exits."""
    fallbacks: ClassVar[Mapping[str, str]] = {}
    """Exit that takes the way of another exit when it has none of its own."""
    undone: ClassVar[str] = ""
    """The exit that says it was not done; its first one where it has none such."""
    waits: ClassVar[bool] = False
    """True when it can hold an enrollment."""
    outward: ClassVar[bool] = False
    """True when it acts on people or systems; passed over where what became overdue in a pause is skipped."""
    timing: ClassVar[tuple[str, ...]] = ()
    """Settings that its wait is made of, and keys of the document: where they change, a wait that is taken over from
    another version is made again."""
    constraints: ClassVar[Mapping[str, Any]] = {}
    """JSON Schema of what holds between its settings; `check` says the same in sentences."""
    outputs: ClassVar[Mapping[str, Kind]] = {}
    """What it leaves behind, seen by expressions as `steps.<id>.<name>`."""

    def its_exits(self) -> tuple[str, ...]:
        """Return the exits it has as configured."""
        return self.exits

    def its_required_exits(self) -> tuple[str, ...]:
        """Return the exits that must be led somewhere on purpose as it is configured."""
        return self.required_exits

    def needs(self) -> frozenset[str]:
        """Return what it reads beside its expressions: `company`, `consent`, `lists`, `pipelines`, `sent`."""
        return frozenset()

    def records(self) -> frozenset[str]:
        """Return the types of records that it is about, whether its expressions name them or not."""
        return frozenset()

    def exit_undone(self) -> str:
        """Return the exit for when it is passed over, or failed and `on_error` lets the contact go on."""
        own = self.its_exits()
        return self.undone if self.undone in own else next(iter(own), "")

    def holds(self) -> bool:
        """Tell whether it holds an enrollment as configured; a loop needs one such step."""
        return self.waits

    def longest(self) -> timedelta | None:
        """Return how long it waits at most for what it has asked for; None for ever."""
        return None

    @classmethod
    def its_outputs(cls, config: Mapping[str, Any]) -> Mapping[str, Kind]:
        """Return what it leaves behind; `config` is as the author wrote it, not yet checked."""
        return cls.outputs

    def check(self, scope: Scope, path: str) -> None:
        """Report what is wrong between its settings.

        A setting that could not be read is there, and is not None; whoever looks into it ends the check.
        """

    def begin(self, context: Context) -> Decision:
        """Decide when an enrollment comes in."""
        raise NotImplementedError

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Decide when something happens to an enrollment that stays here; None when that does not concern it."""
        return None


@frozen
class Setting:
    """One key of a step's configuration."""

    shape: Shape
    summary: str
    key: str = ""
    """How authors write it."""
    name: str = ""
    """What the field is called, where Python has taken the word that authors write."""
    required: bool = True


def setting(shape: Shape, summary: str, *, key: str = "") -> Setting:
    """Annotate a field as one key of the configuration; a field without a default must be given."""
    return Setting(shape, summary, key)


def settings(kind: type[Step]) -> tuple[Setting, ...]:
    """Return the configuration of a kind."""
    cached: Any = kind  # a type is hashable, whatever the checker thinks of its instances
    return _settings(cached)


@cache  # to read annotations took half the time of compiling a workflow
def _settings(kind: type[Any]) -> tuple[Setting, ...]:
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for declared in fields(kind):
        (annotated,) = hints[declared.name].__metadata__
        required = declared.default is MISSING
        found.append(replace(annotated, key=annotated.key or declared.name, name=declared.name, required=required))
    return tuple(found)


def read(kind: type[Step], config: Mapping[str, Any], scope: Scope, path: str) -> Step:
    """Return the step that a configuration describes, as far as it can be read; what is wrong goes into the scope."""
    declared = settings(kind)
    meant = _unknown_keys(kind, declared, config, scope, path)
    values: dict[str, Any] = {}
    for wanted in declared:
        raw, named, found = config.get(wanted.key), f"{path}.{wanted.key}", len(scope.problems)
        if raw is not None:
            values[wanted.name] = wanted.shape.read(raw, scope, named)
        elif wanted.required:
            hint = f"{wanted.summary} {wanted.shape.hint}".strip()
            scope.add(named, "MISSING_KEY", f"{with_article(kind.kind)} step needs {wanted.key}", hint)
        wrong = len(scope.problems) > found or (raw is None and wanted.key in meant)
        if wrong and not (isinstance(wanted.shape, _READ_IN_PART) and raw is not None):
            values[wanted.name] = UNREAD
    step = kind(**values)
    with suppress(LookedIntoUnread):
        step.check(scope, path)
    return step


def _unknown_keys(
    kind: type[Step], declared: tuple[Setting, ...], config: Mapping[str, Any], scope: Scope, path: str
) -> frozenset[str]:
    """Report keys that the kind does not have, and return those that were probably meant."""
    keys = [one.key for one in declared]
    known = (*keys, "exits", "next", "title", "retry", "on_error")
    a_step = f"{with_article(kind.kind)} step"
    unknown = [key for key in config if key not in keys]
    for key in unknown:
        takes = f"{a_step[:1].upper()}{a_step[1:]} takes {', '.join(keys) or 'no configuration'}."
        hint = did_you_mean(key, known) or takes
        scope.add(f"{path}.{key}", "UNKNOWN_KEY", f"{a_step} has no {key}", hint)
    return frozenset(nearest(key, known) for key in unknown)


def config_schema(kind: type[Step]) -> dict[str, Any]:
    """Return the JSON Schema of a kind's configuration."""
    declared = settings(kind)
    properties = {one.key: {"description": one.summary, **one.shape.schema()} for one in declared}
    common = {"title": {"type": "string", "description": "How people call this step."}}
    return {
        "type": "object",
        "properties": {**common, **properties},
        "required": [one.key for one in declared if one.required],
        "additionalProperties": False,
        **kind.constraints,
    }
