"""What became of a message that its enrollment did not wait for: told in the trace, wherever the enrollment stands.

It moves nothing. The step that sent the message is long over, and often the enrollment is.
"""

from __future__ import annotations

from datetime import datetime

from core.domain import names
from core.domain.effects import Effect, KeepDeadLetter
from core.domain.enrollment import Enrollment, MessageEnded, Stimulus
from core.domain.frozen import copied
from core.domain.trace import OUTCOME, Outcome, TraceEntry, Transition
from core.domain.workflow.storable import storable_text


def late_outcome(enrollment: Enrollment, stimulus: Stimulus) -> MessageEnded | None:
    """Return what happened where it is the outcome of a message that the enrollment does not wait for."""
    if not isinstance(stimulus, MessageEnded):
        return None
    waiting = enrollment.waiting
    awaited = waiting is not None and waiting.kind == "message" and waiting.subject == stimulus.message_id
    return None if awaited else stimulus


def tell(enrollment: Enrollment, ended: MessageEnded, now: datetime) -> Transition:
    """Return the enrollment where it is, with one more line in its trace; a failure leaves a dead letter."""
    told = ended.told or f"message {ended.message_id}"
    told = f"{told[:1].upper()}{told[1:]}"
    outcome: Outcome = "ok" if ended.sent else "skipped" if ended.skipped else "failed"
    why = f" was sent: {ended.outcome}." if ended.sent else f" was not sent: {ended.outcome}."
    if ended.skipped:
        because = ended.outcome.removeprefix("skipped").lstrip(": ").removesuffix(".")
        why = f" was not sent, on purpose: {because or 'no longer wanted'}."
    reason = storable_text(f"{told}{why}")
    number = enrollment.trace_count + 1
    step_id = ended.step_id or enrollment.step_id
    entry = TraceEntry(number, step_id, OUTCOME, outcome, now, reason=reason, effects=(ended.message_id,))
    after = copied(enrollment, rev=enrollment.rev + 1, trace_count=number)
    effects: tuple[Effect, ...] = ()
    if outcome == "failed":
        letter = names.derive("dl", now, enrollment.id, after.rev, ended.message_id)
        effects = (
            KeepDeadLetter(
                letter, step_id, "message", "NOT_SENT", reason, ended.attempts, ended=False, message_id=ended.message_id
            ),
        )
    # Where the engine has yet to look once after the entry, it still has.
    return Transition(after, (entry,), effects, before=enrollment, listens=enrollment.rev == 1)
