"""Counting while a simulation runs: the funnel, messages, exclusions, ends, and what deserves a warning."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import accumulate, islice

from core.domain.control import breaker
from core.domain.effects import Emit
from core.domain.trace import BESIDE, TraceEntry, Transition
from core.domain.webhooks.event_types import CATALOGUE
from core.domain.workflow.entry import Judgement
from core.domain.workflow.version import Node, Version
from core.simulation.people import Person, Running
from core.simulation.result import NO_TRIGGER, Exclusion, FunnelStep, MessagesOnDay, Variant

_MOST_NAMED = 20
_BESIDE_STEPS = BESIDE | {"enrollment", "engine"}
_COUNTED = frozenset({"ok", "skipped", "held", "failed"})
_NO_TRIGGER = (
    "No trigger fired for anybody within the horizon. Give contacts that fit, the events that start the workflow, or a "
    "longer horizon."
)

_Refused = dict[tuple[str, str], tuple[str, dict[int, Person]]]
"""Outcome and reason to what was said to the first one, and everybody it was said to, by position."""


@dataclass(slots=True, eq=False)
class _Step:
    """The counts of one step."""

    node: Node
    entered: int = 0
    exits: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    failed: int = 0
    skipped: int = 0
    held: int = 0
    errors: int = 0
    times: Counter[timedelta] = field(default_factory=Counter)


class Tally:
    """Everything that is counted."""

    def __init__(self, version: Version):
        self.steps = {node.id: _Step(node) for node in version.steps.values()}
        self.transitions = 0
        self.messages: Counter[tuple[date, str]] = Counter()
        self.webhooks: Counter[str] = Counter()
        self.emitted: Counter[str] = Counter()
        self.conversions: Counter[tuple[str, str]] = Counter()
        self.draws: Counter[tuple[str, str]] = Counter()
        """Whom splits sent which way, each draw once."""
        self.notes: list[str] = []
        """What the simulation decided by itself and whoever reads it should know."""
        self.gaps: dict[str, Counter[tuple[str, ...]]] = {}
        """Messages that would go out with something left empty, by step and by what it is."""
        self.tripped = ""
        """When and why the circuit breaker would have paused the workflow."""
        self._breaker = version.breaker
        self._recent: deque[bool] = deque(maxlen=version.breaker.of_last if version.breaker else 1)
        self.out_of_leads: datetime | None = None
        """When a pool had nobody left first."""
        self.by_triggers = False
        """Contacts enter as triggers fire, not all at the start."""
        self.fired = False
        """A trigger fired for somebody."""
        self._kept_out: _Refused = {}
        self._not_again: _Refused = {}

    def note(self, run: Running, transition: Transition, now: datetime) -> None:
        """Count one decision."""
        self.transitions += 1
        if run.entries is not None:
            run.entries += transition.trace
        for entry in transition.trace:
            if entry.kind not in _BESIDE_STEPS:
                self._note(run, entry, now)
        for draw in transition.draws:
            self.draws[draw.step_id, draw.exit] += 1
        for conversion in transition.conversions:
            self.conversions[conversion.step_id, conversion.exit] += 1

    def _note(self, run: Running, entry: TraceEntry, now: datetime) -> None:
        step = self.steps.get(entry.step_id)
        if step is None:
            return
        outcome = entry.outcome
        if run.visiting != entry.step_id:
            step.entered += 1
            run.visiting, run.since = entry.step_id, now
        if outcome in _COUNTED:
            self._recent.append(outcome == "failed")
        if outcome == "waiting":
            return
        if outcome == "held":
            step.held += 1
            return
        if outcome == "failed":
            step.errors += 1
            self._check_breaker(now)
            waiting = run.enrollment.waiting
            if waiting is not None and waiting.kind == "retry" and run.enrollment.step_id == entry.step_id:
                return  # the visit goes on with the next try
            if not entry.exit:
                step.failed += 1
        elif outcome == "ended":
            step.ended += 1
        elif outcome == "skipped":
            step.skipped += 1
        if entry.exit:
            step.exits[entry.exit] += 1
        assert run.since is not None
        step.times[now - run.since] += 1
        run.turns.append((entry.step_id, entry.exit or outcome))
        run.visiting = ""

    def _check_breaker(self, now: datetime) -> None:
        if self.tripped or self._breaker is None:
            return
        found = breaker.judge(self._breaker, [(failed, 1) for failed in reversed(self._recent)])
        if found is not None:
            self.tripped = f"{now:%Y-%m-%d %H:%M} UTC: {found.failed} of the last {found.of} step outcomes failed"

    def announce(self, emitted: Emit) -> None:
        """Count an event that a step sends to webhook endpoints; what the core itself tells them is not counted."""
        if emitted.event_type not in CATALOGUE:
            self.webhooks[emitted.event_type] += 1

    def keep_out(self, person: Person, judged: Judgement) -> None:
        """Count a contact that may not enter, or not again."""
        book = self._not_again if person.enrolled else self._kept_out
        person.kept_out = judged.message
        _, refused = book.setdefault((judged.outcome, judged.reason), (judged.message, {}))
        refused[person.index] = person

    def funnel(self, standing: Counter[str]) -> tuple[FunnelStep, ...]:
        """Return what became of those who came to each step; `standing` is how many are still there."""
        return tuple(
            FunnelStep(
                node.id,
                node.step.kind,
                node.title,
                step.entered,
                dict(sorted(step.exits.items())),
                standing[node.id],
                step.ended,
                step.failed,
                step.skipped,
                step.held,
                step.errors,
                _median(step.times),
            )
            for step in self.steps.values()
            for node in (step.node,)
        )

    def by_day(self) -> tuple[MessagesOnDay, ...]:
        """Return the messages by day and channel."""
        return tuple(MessagesOnDay(day, channel, count) for (day, channel), count in sorted(self.messages.items()))

    def exclusions(self, people: Sequence[Person]) -> tuple[Exclusion, ...]:
        """Return who never entered, by reason, the commonest first; refusals before an entry are none."""
        if self.by_triggers and not self.fired:
            return _exclusions({("not_eligible", NO_TRIGGER): (_NO_TRIGGER, {one.index: one for one in people})})
        never = {
            reason: (message, {index: person for index, person in refused.items() if not person.enrolled})
            for reason, (message, refused) in self._kept_out.items()
        }
        return _exclusions(never)

    def refused_reentries(self) -> tuple[Exclusion, ...]:
        """Return who had entered and was refused when they would have entered again, by reason."""
        return _exclusions(self._not_again)

    def goals(self) -> dict[str, int]:
        """Return how many enrollments reached each goal first."""
        return {goal: count for (step, goal), count in sorted(self.conversions.items()) if not step}

    def variants(self) -> tuple[Variant, ...]:
        """Return how many took each way of each split, and how many of these reached a goal."""
        splits = [step.node for step in self.steps.values() if step.node.step.kind == "split"]
        return tuple(
            Variant(node.id, way, self.draws[node.id, way], self.conversions[node.id, way])
            for node in splits
            for way in node.step.its_exits()
        )


def _exclusions(refused: _Refused) -> tuple[Exclusion, ...]:
    found = [
        Exclusion(
            outcome, reason, message, len(who), tuple(one.subject.label for one in islice(who.values(), _MOST_NAMED))
        )
        for (outcome, reason), (message, who) in refused.items()
        if who
    ]
    return tuple(sorted(found, key=lambda one: -one.count))


def _median(times: Counter[timedelta]) -> timedelta | None:
    """Return the median of counted lengths; of an even number, the lower of the middle two."""
    if not times:
        return None
    ordered = sorted(times.items())
    middle = (sum(times.values()) + 1) // 2
    reach = accumulate(count for _, count in ordered)
    return next(length for (length, _), so_far in zip(ordered, reach, strict=True) if so_far >= middle)
