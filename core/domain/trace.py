"""What happened to an enrollment, entry by entry, and the transition that a decision amounts to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from core.domain.effects import Effect
from core.domain.enrollment import Enrollment, Facts, State
from core.domain.frozen import frozen

Outcome = Literal["entered", "ok", "waiting", "skipped", "held", "failed", "ended"]
"""How an entry ended; statistics count `ok`, `skipped`, `held` and `failed` step by step."""

OUTCOME = "outcome"
"""Kind of an entry that tells what became of a message which its step had sent and not waited for."""

AGAIN = "again"
"""Kind of an entry that tells of a step which was carried out once more, alone."""

BESIDE = frozenset({OUTCOME, AGAIN})
"""Kinds of entries that tell nothing of the way: the enrollment stood elsewhere, or was over."""


@frozen
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
    stood: timedelta = timedelta()
    """How long the enrollment had stood in the step; kept in statistics, not in the trace."""


@frozen
class Conversion:
    """A goal was reached by an enrollment that a split had sent one way; the base of A/B results."""

    step_id: str
    """The split's id; empty for the workflow as a whole."""
    exit: str
    """The way it took; the goal's name for the workflow as a whole."""


@frozen
class Transition:
    """A decision: the enrollment after it, what to remember and what to do."""

    enrollment: Enrollment
    """After; its `rev` is one more than the one seen, and 1 for a new one."""
    trace: tuple[TraceEntry, ...]
    effects: tuple[Effect, ...]
    conversions: tuple[Conversion, ...] = ()
    before: Enrollment | None = None
    """Before; None for a new one."""
    draws: tuple[Conversion, ...] = ()
    """Ways of splits that count from now on: what conversions are a share of."""
    listens: bool = False
    """The version has rules that an event may meet at any time: the engine looks once more after the entry."""
    facts: Facts | None = None
    """What is known once it is carried out; None where that is what was known before."""
    carried: tuple[Conversion, ...] = ()
    """Ways of splits that it takes along to another version, where they count from now on."""

    @property
    def ends(self) -> bool:
        """Tell whether the enrollment ends by it; what became of a message may come later still."""
        return self.enrollment.state.over and (self.before is None or not self.before.state.over)

    @property
    def kind(self) -> str:
        """Return what it is to those who measure: `entered`, `moved`, or the state in which the enrollment ended."""
        if self.ends:
            return self.enrollment.state.value
        return "entered" if self.before is None else "moved"


def closed(before: Enrollment, state: State, now: datetime, kind: str, outcome: Outcome, reason: str) -> Transition:
    """Return the end of an enrollment that none of its steps brought about."""
    number = before.trace_count + 1
    over = replace(
        before,
        state=state,
        rev=before.rev + 1,
        trace_count=number,
        moved_at=now,
        due_at=None,
        waiting=None,
        end_reason=reason,
        ended_at=now,
        held=(),
        skipping=False,
    )
    return Transition(over, (TraceEntry(number, before.step_id, kind, outcome, now, reason=reason),), (), before=before)
