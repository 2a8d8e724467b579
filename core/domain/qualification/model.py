"""A scoring model, compiled: who somebody is (fit) and what they did (engagement), each with a cap, and what follows.

Points are positive: what speaks against a lead is a `disqualify` rule. A published version never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from core.domain.qualification.condition import Condition

GroupName = Literal["fit", "engagement", "disqualify"]


@dataclass(frozen=True, slots=True)
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
    """Every matching event gives points, not only the first."""
    most: int = 0
    """Points it gives at most."""

    @property
    def text(self) -> str:
        """Return its condition as a reader wants to see it."""
        condition = self.when.text if self.when else ""
        return " and ".join(part for part in (f"event {self.event}" if self.event else "", condition) if part)


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that together give no more than a cap; when it cuts, the rules further down get less."""

    cap: int
    rules: tuple[Rule, ...]

    @property
    def reachable(self) -> int:
        """Return the points it gives at most."""
        return min(self.cap, sum(rule.most for rule in self.rules))


@dataclass(frozen=True, slots=True)
class Tier:
    """A grade, from a score upwards."""

    name: str
    start: int


@dataclass(frozen=True, slots=True)
class Routing:
    """Who owns qualified leads."""

    method: Literal["round_robin"]
    members: tuple[str, ...]
    """E-mails of members, in the order of their turns."""


@dataclass(frozen=True, slots=True)
class Demand:
    """When a person must agree before a decision is applied."""

    when: Condition
    reason: str


@dataclass(frozen=True, slots=True)
class ScoringModel:
    """A compiled scoring model."""

    title: str
    qualified_at: int
    nurture_at: int
    tiers: tuple[Tier, ...]
    """Highest first; the last begins at 0."""
    fit: Group
    engagement: Group
    window: timedelta
    """How far back events count."""
    disqualify: tuple[Rule, ...] = ()
    routing: Routing | None = None
    approval: Demand | None = None
    on_qualified: Mapping[str, Any] = field(default_factory=dict)
    """Further lead fields that a qualified lead gets, by dotted path."""

    @property
    def event_names(self) -> frozenset[str]:
        """Return the names of the events it counts."""
        return frozenset(rule.event for rule in self.engagement.rules)
