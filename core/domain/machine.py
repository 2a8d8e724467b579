"""The one evaluator: what happens to an enrollment, as a pure function of the facts and the instant.

Live running, tests and simulation call these same functions. They read no clock, do no I/O and raise nothing for
what a tenant did wrong: a step that cannot be carried out fails, with the reason in the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.domain.enrollment import (
    Answered,
    ApprovalDecided,
    Cancelled,
    DeliveryEnded,
    Enrollment,
    EventArrived,
    EventFacts,
    Facts,
    MessageEnded,
    Migrated,
    Redriven,
    State,
    Stimulus,
    TaskAnswered,
    TimerFired,
)
from core.domain.frozen import copied
from core.domain.late_outcomes import late_outcome, tell
from core.domain.redriving import redrive
from core.domain.run import Run
from core.domain.steps.base import Fail
from core.domain.taking_over import take_over
from core.domain.trace import Transition
from core.domain.workflow.storable import storable
from core.domain.workflow.variables import event_values
from core.domain.workflow.version import Version

STEP_LIMIT = 16
"""Steps in one transition; an enrollment that has more to do goes on in the next one, due at once."""

MOST_HELD = 50
"""What happens to an enrollment of a paused workflow and is kept for later; of more, the oldest events go."""

_FROM_OUTSIDE = (ApprovalDecided, DeliveryEnded, EventArrived, MessageEnded, TaskAnswered)


def enter(
    version: Version,
    *,
    id: str,
    org_id: str,
    contact_id: str,
    key: str,
    actor: str,
    variables: Mapping[str, Any],
    event: EventFacts | Mapping[str, Any] | None,
    facts: Facts,
    now: datetime,
    occurrence: int = 1,
    hops: int = 0,
    again: bool = False,
    about: Mapping[str, str] | None = None,
    limit: int = STEP_LIMIT,
) -> Transition:
    """Return the first transition of a new enrollment, which runs to its first wait; its `rev` is 1.

    With `limit=0` it only stands at its first step, due at once: the workflow is paused, or others go first.
    """
    enrollment = Enrollment(
        id=id,
        org_id=org_id,
        workflow_id=version.workflow_id,
        version=version.number,
        contact_id=contact_id,
        key=key,
        actor=actor,
        state=State.ACTIVE,
        step_id=version.entry,
        rev=1,
        entered_at=now,
        moved_at=now,
        occurrence=occurrence,
        variables=storable(variables),
        event=storable(event_values(event) if isinstance(event, EventFacts) else event),
        hops=hops,
        again=again,
        about=about or {},
    )
    run = Run(version, enrollment, facts, now)
    inputs = {"event.id": enrollment.event["id"]} if enrollment.event and "id" in enrollment.event else {}
    inputs |= {f"{record_type}.id": record_id for record_type, record_id in enrollment.about.items()}
    run.note(
        version.entry, "enrollment", "entered", f"Enrolled by {actor} into version {version.number}.", inputs=inputs
    )
    run.emit("created", {"actor": actor})
    run.walk(version.entry, limit)
    return run.transition()


def advance(
    version: Version,
    enrollment: Enrollment,
    stimulus: Stimulus,
    facts: Facts,
    now: datetime,
    *,
    limit: int = STEP_LIMIT,
) -> Transition | None:
    """Return what a stimulus makes of an enrollment; None when it changes nothing.

    Nothing changes once the enrollment is over (but a failed one can be redriven), before its due time, or when the
    stimulus is not what it waits for.
    """
    late = late_outcome(enrollment, stimulus)
    if late is not None:
        return tell(enrollment, late, now)
    if isinstance(stimulus, Redriven):
        return redrive(version, enrollment, stimulus, facts, now, limit)
    if enrollment.state.over:
        return None
    if enrollment.held and isinstance(stimulus, TimerFired):
        return _release(version, enrollment, facts, now, limit)
    if enrollment.held and isinstance(stimulus, _FROM_OUTSIDE):
        return hold(enrollment, stimulus, now)  # what happened during the pause comes first
    run = Run(version, copied(enrollment, rev=enrollment.rev + 1, moved_at=now), facts, now, enrollment)
    if (led := _led(enrollment, stimulus)) != enrollment.led:
        run.put(led=led)
    match stimulus:
        case Cancelled():
            run.cancel(stimulus)
            return run.transition()
        case Migrated():
            take_over(run, enrollment, stimulus, limit)
            return run.transition()
        case TimerFired() if not _is_condition(enrollment) and (enrollment.due_at is None or now < enrollment.due_at):
            return None
    if version.rules and run.ruled_out(stimulus):
        return run.transition()
    return _move(run, enrollment, stimulus, limit)


def _led(enrollment: Enrollment, stimulus: Stimulus) -> int:
    """Return how many workflows in a row led to a stimulus: events pass the number on, time and people begin anew.

    Without it a loop of waiting for an event and recording it, over however many workflows, would turn for ever within
    one instant.
    """
    match stimulus:
        case EventArrived(event):
            return event.hops
        case Answered():
            return enrollment.led
        case TimerFired() if enrollment.waiting is None:
            return enrollment.led  # it only goes on where it stood
        case _:
            return 0


def _is_condition(enrollment: Enrollment) -> bool:
    """Tell whether it waits for a condition, which may hold whenever somebody looks."""
    return enrollment.waiting is not None and enrollment.waiting.kind == "condition"


def hold(enrollment: Enrollment, stimulus: Stimulus, now: datetime) -> Transition | None:
    """Return an enrollment of a paused workflow with what happened to it kept for later; None when it is over."""
    if enrollment.state.over:
        return None
    held = [*enrollment.held, stimulus]
    if len(held) > MOST_HELD:
        _spare_one(held, enrollment.waiting.events if enrollment.waiting is not None else ())
    kept = copied(enrollment, rev=enrollment.rev + 1, moved_at=now, held=tuple(held))
    return Transition(kept, (), (), before=enrollment)


def _spare_one(held: list[Stimulus], awaited: tuple[str, ...]) -> None:
    """Let the oldest event go, first of those that are not waited for; an answer or a decision comes only once."""
    events = [
        (one.event.name in awaited, position) for position, one in enumerate(held) if isinstance(one, EventArrived)
    ]
    if events:
        del held[min(events)[1]]


def _move(run: Run, enrollment: Enrollment, stimulus: Stimulus, limit: int) -> Transition | None:
    waiting = enrollment.waiting
    if waiting is None and not isinstance(stimulus, TimerFired):
        return None
    if waiting is None:
        run.walk(enrollment.step_id, limit)
        return run.transition()
    node = run.version.steps.get(enrollment.step_id)
    if node is None:
        run.fail(enrollment.step_id, "step", Fail(f"Version {run.version.number} has no step {enrollment.step_id}."))
        return run.transition()
    if waiting.kind == "retry":
        if not isinstance(stimulus, TimerFired):
            return None
        run.stand(node.id, enrollment.attempts)
        decision = run.decide(node, None)
    else:
        decision = run.decide(node, stimulus)
    if decision is None:
        if not isinstance(stimulus, TimerFired) or run.enrollment.due_at is None or run.now < run.enrollment.due_at:
            return None
        run.put(due_at=None)  # what it waits for has no end in this version; without this it would be due for ever
        return run.transition()
    following = run.take(node, decision)
    if following is not None:
        run.walk(following, limit - 1)
    return run.transition()


def _release(version: Version, enrollment: Enrollment, facts: Facts, now: datetime, limit: int) -> Transition | None:
    """Let the first of what happened during a pause that matters take effect; the rest stays for the next turn."""
    free = copied(enrollment, held=(), skipping=False)  # what happened before its time was over is not late
    for position, stimulus in enumerate(enrollment.held, 1):
        transition = advance(version, free, stimulus, facts, now, limit=limit)
        if transition is not None:
            rest = () if transition.enrollment.state.over else enrollment.held[position:]
            return copied(transition, enrollment=copied(transition.enrollment, held=rest), before=enrollment)
    late = copied(enrollment, held=())
    transition = advance(version, late, TimerFired(), facts, now, limit=limit)
    if transition is not None:
        return transition
    return Transition(copied(free, rev=enrollment.rev + 1, moved_at=now), (), (), before=enrollment)
