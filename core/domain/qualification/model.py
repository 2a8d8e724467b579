"""A scoring model, compiled: who somebody is (fit) and what they did (engagement), each with a cap, and what follows.

Points are positive: what speaks against a lead is a `disqualify` rule. A published version never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from typing import Any, Literal

from core.domain.frozen import frozen
from core.domain.qualification.condition import Condition
from core.domain.workflow import own_kinds
from core.domain.workflow.own_kinds import OwnKinds

GroupName = Literal["fit", "engagement", "disqualify"]
Judgement = Literal["qualified", "nurture", "disqualified"]


@frozen
class Rule:
    """One reason for points, or, in the group `disqualify`, against the lead altogether."""

    id: str
    group: GroupName
    when: Condition | None
    """None for an engagement rule that any event of its name satisfies."""
    points: int = 0
    event: str = ""
    """Name of the event an engagement rule counts."""
    each: bool = False
    """Every matching event gives points, not only the newest."""
    most: int = 0
    """Points it gives at most."""
    window: timedelta = timedelta()
    """How far back events count."""
    at_least: int = 1
    """Matching events without which it gives nothing."""
    half_life: timedelta | None = None
    """The age at which half of the points are left; None for points that stay."""

    @property
    def text(self) -> str:
        """Return its condition as a reader wants to see it."""
        condition = self.when.text if self.when else ""
        often = f"{self.at_least} times " if self.at_least > 1 else ""
        return " and ".join(part for part in (f"{often}event {self.event}" if self.event else "", condition) if part)


@frozen
class Group:
    """Rules that together give no more than a cap; when it cuts, the rules further down get less."""

    cap: int
    rules: tuple[Rule, ...]

    @property
    def reachable(self) -> int:
        """Return the points it gives at most."""
        return min(self.cap, sum(rule.most for rule in self.rules))


@frozen
class Tier:
    """A grade, from so many points upwards."""

    name: str
    start: int


@frozen
class Matrix:
    """Tiers by fit and engagement together; each list of grades has the highest first, the last begins at 0."""

    fit: tuple[Tier, ...]
    engagement: tuple[Tier, ...]
    cells: tuple[tuple[str, ...], ...]
    """The tier of each grade of fit, and in it of each grade of engagement."""

    def tier(self, fit: int, engagement: int) -> str:
        """Return the tier of these points."""
        row = next(index for index, grade in enumerate(self.fit) if fit >= grade.start)
        column = next(index for index, grade in enumerate(self.engagement) if engagement >= grade.start)
        return self.cells[row][column]


@frozen
class Routing:
    """Who owns qualified leads."""

    method: Literal["round_robin"]
    members: tuple[str, ...]
    """E-mails of members, in the order of their turns."""


@frozen
class Demand:
    """When a person must agree before a decision is applied."""

    when: Condition
    reason: str


@frozen
class Freshness:
    """How old a fact may be before it counts as stale."""

    usual: timedelta | None = None
    """None for facts that never go stale."""
    by_path: Mapping[str, timedelta] = field(default_factory=dict)

    def limit(self, path: str) -> timedelta | None:
        """Return how old the fact at a path may be, or None for any age."""
        return self.by_path.get(path, self.usual)


@frozen
class TierEffect:
    """What happens when a lead comes into a tier."""

    enroll: str = ""
    """The workflow its contact is enrolled in."""
    event: str = ""
    """The event that is noted about its contact."""


@frozen
class ScoringModel:
    """A compiled scoring model."""

    title: str
    qualified_at: int
    """The score from which a lead is qualified; 0 where tiers say it."""
    nurture_at: int
    tiers: tuple[Tier, ...]
    """By the score, highest first, the last begins at 0; empty where a matrix gives tiers."""
    fit: Group
    engagement: Group
    window: timedelta
    """How far back events count."""
    disqualify: tuple[Rule, ...] = ()
    routing: Routing | None = None
    approval: Demand | None = None
    on_qualified: Mapping[str, Any] = field(default_factory=dict)
    """Further lead fields that a qualified lead gets, by dotted path."""
    cap: int | None = None
    """What fit and engagement give together at most."""
    matrix: Matrix | None = None
    qualified_tiers: frozenset[str] = frozenset()
    """Tiers that are qualified; where there are any, `qualified_at` says nothing."""
    nurture_tiers: frozenset[str] | None = None
    """Tiers that are nurtured; None for all others."""
    freshness: Freshness = field(default_factory=Freshness)
    min_confidence: float = 0.7
    """From where on an agent's claim counts."""
    on_tier: Mapping[str, TierEffect] = field(default_factory=dict)
    routing_id: str = ""
    """The routing that gives qualified leads their owner, in place of `routing`."""
    own: OwnKinds = own_kinds.NONE
    """The kinds of the own fields that it mentions."""

    @property
    def event_names(self) -> frozenset[str]:
        """Return the names of the events it counts."""
        return frozenset(rule.event for rule in self.engagement.rules)

    @property
    def longest_window(self) -> timedelta:
        """Return how far back any of its rules looks."""
        return max((rule.window for rule in self.engagement.rules), default=self.window)

    @property
    def reachable(self) -> int:
        """Return the points it gives at most."""
        most = self.fit.reachable + self.engagement.reachable
        return most if self.cap is None else min(most, self.cap)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Return every rule, in the order of the document: first those that give points."""
        return (*self.fit.rules, *self.engagement.rules, *self.disqualify)

    @property
    def tier_names(self) -> tuple[str, ...]:
        """Return every tier once, the best first."""
        if self.matrix is None:
            return tuple(tier.name for tier in self.tiers)
        # By distance from the best corner: A2 and B1 come before B2.
        cells = [
            (row + column, row, name)
            for row, names in enumerate(self.matrix.cells)
            for column, name in enumerate(names)
        ]
        return tuple(dict.fromkeys(name for _, _, name in sorted(cells)))

    @property
    def reads_ages(self) -> bool:
        """Tell whether it matters when a fact was observed."""
        ages = self.freshness.usual is not None or bool(self.freshness.by_path)
        return ages or any(rule.half_life is not None for rule in self.fit.rules)

    @property
    def paths(self) -> frozenset[str]:
        """Return the path of every fact of a record that its rules look at, such as `contact.custom.plan`."""
        read = (path for rule in self.rules if rule.when is not None for path in rule.when.paths)
        return frozenset(path for path in read if not path.startswith("event."))

    @property
    def variables(self) -> frozenset[str]:
        """Return every variable that one of its conditions looks at."""
        conditions = [rule.when for rule in self.rules] + [self.approval.when if self.approval else None]
        return frozenset(name for one in conditions if one is not None for name in one.variables)

    def tier(self, fit: int, engagement: int) -> str:
        """Return the tier of a lead with these points."""
        if self.matrix is not None:
            return self.matrix.tier(fit, engagement)
        return next(tier.name for tier in self.tiers if fit + engagement >= tier.start)

    def judge(self, fit: int, engagement: int) -> Judgement:
        """Return what becomes of a lead with these points."""
        if self.qualified_tiers:
            tier = self.tier(fit, engagement)
            if tier in self.qualified_tiers:
                return "qualified"
            return "nurture" if self.nurture_tiers is None or tier in self.nurture_tiers else "disqualified"
        total = fit + engagement
        if total >= self.qualified_at:
            return "qualified"
        return "nurture" if total >= self.nurture_at else "disqualified"
