"""What happened to an enrollment, entry by entry, and the transition that a decision amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from core.domain.effects import Effect
from core.domain.enrollment import Enrollment

Outcome = Literal["entered", "ok", "waiting", "skipped", "held", "failed", "ended"]


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """One thing that happened."""

    seq: int
    """Position in the enrollment's trace, from 1."""
    step_id: str
    kind: str
    outcome: Outcome
    at: datetime
    exit: str = ""
    reason: str = ""
    """Why, in one sentence a person understands."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Each value the decision looked at, by path; null where it was not known."""
    effects: tuple[str, ...] = ()
    """Ids of the messages and approvals it caused, and of records it changed."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A decision: the enrollment after it, what to remember and what to do."""

    enrollment: Enrollment
    """After; its `rev` is one more than the one seen, and 1 for a new one."""
    trace: tuple[TraceEntry, ...]
    effects: tuple[Effect, ...]
