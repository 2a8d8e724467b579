"""Trying a step again that failed: the enrollment goes on from it; where it has gone on already, that step alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.domain import names
from core.domain.effects import Effect, Emit, KeepDeadLetter, SendMessage, UpdateRecord
from core.domain.enrollment import Enrollment, Facts, Redriven, State
from core.domain.frozen import copied
from core.domain.run import Run
from core.domain.steps.base import Decision, Fail, Go, Stay
from core.domain.trace import AGAIN, Transition
from core.domain.workflow.storable import storable_text
from core.domain.workflow.version import Node, Version


def redrive(
    version: Version, enrollment: Enrollment, redriven: Redriven, facts: Facts, now: datetime, limit: int
) -> Transition | None:
    """Return what comes of another try; None where there is none to be made."""
    if redriven.step_id:
        return _alone(version, enrollment, redriven, facts, now)
    return _go_on(version, enrollment, redriven, facts, now, limit) if enrollment.state is State.FAILED else None


def _go_on(
    version: Version, enrollment: Enrollment, redriven: Redriven, facts: Facts, now: datetime, limit: int
) -> Transition:
    alive = copied(
        enrollment,
        state=State.ACTIVE,
        rev=enrollment.rev + 1,
        moved_at=now,
        end_reason="",
        ended_at=None,
        waiting=None,
        attempts=0,
    )
    run = Run(version, alive, facts, now, enrollment)
    run.note(alive.step_id, "enrollment", "entered", f"{redriven.actor} lets {alive.step_id} be tried again.")
    if limit <= 0 or not run.ruled_out(redriven):  # much may have happened since it failed
        run.walk(alive.step_id, limit)
    return run.transition()


def _alone(
    version: Version, enrollment: Enrollment, redriven: Redriven, facts: Facts, now: datetime
) -> Transition | None:
    """Carry one step out, and leave the enrollment where it is; None for a step that would have to wait."""
    node = version.steps.get(redriven.step_id)
    if node is None:
        return None
    own = copied(enrollment, rev=enrollment.rev + 1, skipping=False)
    run = Run(version, own, facts, now, enrollment)
    decision = run.decide(node, None)
    done = None if decision is None else _done(run, node, decision)
    if done is None:
        return None
    outcome, reason, effects, outputs, inputs = done
    run.add(effects)
    told = f"{redriven.actor} lets {node.id} be carried out again, and nothing else. {reason}"
    caused = tuple(
        effect.record_id if isinstance(effect, UpdateRecord) else effect.id
        for effect in effects
        if not isinstance(effect, KeepDeadLetter)
    )
    run.note(node.id, AGAIN, outcome, told, inputs=inputs, effects=caused)
    if outputs:
        run.remember(node.id, outputs)
    run.put(skipping=enrollment.skipping)
    return run.transition()


_Done = tuple[Any, str, tuple[Effect, ...], Mapping[str, Any], Mapping[str, Any]]
"""Outcome, reason, effects, outputs and inputs."""


def _done(run: Run, node: Node, decision: Decision) -> _Done | None:
    match decision:
        case Go():
            return decision.outcome, decision.reason, decision.effects, decision.outputs, decision.inputs
        case Stay() if decision.waiting.kind in ("message", "delivery"):
            # Nobody waits for the outcome: the enrollment stands elsewhere.
            sent = tuple(
                copied(one, awaited=False) if isinstance(one, SendMessage | Emit) else one for one in decision.effects
            )
            return "ok", decision.reason, sent, {}, decision.inputs
        case Fail():
            name = names.derive("dl", run.now, run.enrollment.id, run.enrollment.rev)
            about = (node.id, node.step.kind, decision.failure, storable_text(decision.reason))
            letter = KeepDeadLetter(name, *about, attempts=1, ended=False)
            return "failed", decision.reason, (letter,), {}, decision.inputs
        case _:
            return None
