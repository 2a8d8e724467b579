"""A published workflow, compiled: what the machine runs. It never changes; enrollments pin it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from core.domain.workflow.expressions import Expression

if TYPE_CHECKING:
    from core.domain.steps.base import Step

Reentry = Literal["once", "after_exit"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """What starts an enrollment beside a call."""

    event: str
    """The event's name."""
    when: Expression | None = None
    """A condition over `event`, `contact` and `lead`; None for always."""


@dataclass(frozen=True, slots=True)
class Node:
    """A step in its place in the graph."""

    id: str
    title: str
    step: Step
    exits: Mapping[str, str]
    """Exit to the next step's id, or `end`; every exit the step can take is here."""

    @property
    def name(self) -> str:
        """Return how sentences call it."""
        return f"{self.id} ({self.title})" if self.title else self.id


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a workflow."""

    workflow_id: str
    number: int
    title: str
    document: Mapping[str, Any]
    steps: Mapping[str, Node]
    entry: str
    """The first step's id."""
    triggers: tuple[Trigger, ...]
    reentry: Reentry
    timezone: str
    """IANA zone of contacts that have none; empty for the organization's."""
