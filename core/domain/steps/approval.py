"""The step that asks people and waits for their decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from core.domain.control import approval_rule
from core.domain.control.approval_rule import Mode, OnTimeout, Rule
from core.domain.effects import CancelApproval, EscalateApproval, RequestApproval
from core.domain.enrollment import ApprovalDecided, State, Stimulus, TimerFired, Waiting
from core.domain.frozen import frozen
from core.domain.steps.approval_shapes import Count, Members, Roles
from core.domain.steps.base import Context, Decision, Fail, Go, Leave, Stay, Step, setting
from core.domain.steps.shapes import Duration, LiquidText, Scope, Text, Values
from core.domain.workflow import durations
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Value

LONGEST_TITLE = 300
STEP = "go_to_step"
ENDINGS = ("fail", "cancel")
_TIMEOUTS = tuple(one.value for one in OnTimeout)
_ESCALATED = "escalated"
"""What a wait says of itself once others were asked as well."""


@frozen
class Approval(Step):
    """Asks people and waits for their decision."""

    kind: ClassVar = "approval"
    summary: ClassVar = "Asks a person, or several, to decide and holds the contact until they have."
    exits: ClassVar = ("approved", "rejected", "timeout")
    undone: ClassVar = "rejected"
    required_exits: ClassVar = ("rejected",)
    required_unless: ClassVar = {"on_reject": ENDINGS}
    fallbacks: ClassVar = {"timeout": "rejected"}
    waits: ClassVar = True
    outward: ClassVar = True
    timing: ClassVar = ("timeout",)
    outputs: ClassVar = {"approved": "boolean", "decision": "string", "decider": "string", "comment": "string"}

    subject: Annotated[Template, setting(LiquidText(LONGEST_TITLE), "What is asked, in one line.", key="title")]
    details: Annotated[Value | None, setting(Values(), "What the decider needs to know.")] = None
    timeout: Annotated[timedelta | None, setting(Duration(), "How long to wait; without one, for ever.")] = None
    mode: Annotated[
        str,
        setting(
            Text(choices=tuple(one.value for one in Mode)),
            "any (default): one decides; all: everybody named must agree; quorum: required_count of them.",
        ),
    ] = "any"
    required_count: Annotated[int, setting(Count(), "How many must agree, for a quorum.")] = 0
    roles: Annotated[tuple[str, ...], setting(Roles(), "Members with these roles decide.")] = ()
    members: Annotated[
        tuple[str, ...],
        setting(Members(), "These members decide; with neither roles nor members, whoever may decide approvals."),
    ] = ()
    on_timeout: Annotated[
        str,
        setting(
            Text(choices=_TIMEOUTS),
            "When nobody decides in time: go_to_step (default) takes the exit timeout; fail, cancel, or approve; "
            "escalate asks others as well, with the same time again, and then takes the exit timeout.",
        ),
    ] = STEP
    escalate_to: Annotated[tuple[str, ...], setting(Members(), "Who is asked by escalate; the admins by default.")] = ()
    on_reject: Annotated[
        str,
        setting(
            Text(choices=(STEP, *ENDINGS)),
            "When it is rejected: go_to_step (default) takes the exit rejected; fail and cancel end the enrollment.",
        ),
    ] = STEP

    def its_exits(self) -> tuple[str, ...]:
        """Return the answers that lead somewhere, and timeout when there is one."""
        rejected = ("rejected",) if self.on_reject == STEP else ()
        late = ("timeout",) if self.timeout and self.on_timeout in (STEP, OnTimeout.ESCALATE) else ()
        return ("approved", *rejected, *late)

    def its_required_exits(self) -> tuple[str, ...]:
        """Return what must be led somewhere on purpose: without a way of rejection, time running out must have one."""
        return self.required_exits if self.on_reject == STEP else ("timeout",)

    def longest(self) -> timedelta | None:
        """Return its timeout."""
        return self.timeout

    def exit_undone(self) -> str:
        """Return the exit for when it is passed over; without one the enrollment is at its end, never approved."""
        return next((name for name in ("rejected", "timeout") if name in self.its_exits()), "")

    @property
    def rule(self) -> Rule:
        """Return who decides. What follows in the end is this step's own affair."""
        return Rule(
            Mode(self.mode),
            self.required_count or 1,
            self.roles,
            self.members,
            min(self.timeout or approval_rule.LONGEST_SLA, approval_rule.LONGEST_SLA),
            OnTimeout(self.on_timeout),
            self.escalate_to,
        )

    def check(self, scope: Scope, path: str) -> None:
        """Report a number of deciders that cannot be reached, and what matters only with a timeout."""
        names = {"member_ids": "members", "escalate_to_member_ids": "escalate_to"}
        for one in approval_rule.problems(self.rule, self.required_count, path):
            key = one.field.removeprefix(f"{path}.")
            scope.add(f"{path}.{names.get(key, key)}", one.reason, one.message, one.hint)
        if self.timeout is None and self.on_timeout != STEP:
            hint = "Write timeout: 3d, or leave on_timeout out."
            scope.add(f"{path}.on_timeout", "CONFLICT", "without timeout it waits for ever", hint)

    def begin(self, context: Context) -> Decision:
        """Ask."""
        title = self.subject.render(context.values)
        if title.text is None:
            return Fail(f"The title could not be made: {title.error}.", title.inputs, "TEMPLATE_FAILED")
        inputs: dict[str, Any] = dict(title.inputs)
        details: dict[str, Any] = {}
        if self.details is not None:
            computed = self.details.compute(context.values)
            inputs |= computed.inputs
            if computed.errors:
                return Fail(f"The details could not be made: {computed.errors[0]}.", inputs, "TEMPLATE_FAILED")
            details = computed.value
        approval = context.name("apr")
        until = context.now + self.timeout if self.timeout else None
        limit = f", {durations.speak(self.timeout)} at most" if self.timeout else ""
        return Stay(
            Waiting("approval", approval, context.now),
            f"Waits for a decision on: {title.text[:LONGEST_TITLE]}{limit}.",
            until,
            State.AWAITING_APPROVAL,
            (RequestApproval(approval, title.text[:LONGEST_TITLE], details, until, self.rule),),
            inputs,
        )

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on with the decision on this very approval, or do what is to be done when nobody decided in time."""
        waiting = context.enrollment.waiting
        asked = waiting.subject if waiting is not None else ""
        match stimulus:
            case ApprovalDecided() if stimulus.approval_id == asked:
                return self._decided(stimulus)
            case TimerFired() if self.timeout is not None and waiting is not None:
                return self._late(self.timeout, waiting, context)
            case _:
                return None

    def _decided(self, stimulus: ApprovalDecided) -> Decision:
        exit_name = "approved" if stimulus.approved else "rejected"
        remark = f": {stimulus.comment[:500]}" if stimulus.comment else ""
        outputs = {
            "approved": stimulus.approved,
            "decision": exit_name,
            "decider": stimulus.decider,
            "comment": stimulus.comment,
        }
        reason = f"{stimulus.decider} {exit_name} it{remark}."
        inputs = {"approval.id": stimulus.approval_id}
        if not stimulus.approved and self.on_reject in ENDINGS:
            return _over(self.on_reject, reason, inputs, outputs, "REJECTED")
        return Go(exit_name, reason, outputs=outputs, inputs=inputs)

    def _late(self, timeout: timedelta, waiting: Waiting, context: Context) -> Decision:
        inputs = {"approval.id": waiting.subject}
        reason = f"Nobody decided within {durations.speak(timeout)}."
        if self.on_timeout == OnTimeout.ESCALATE and waiting.key != _ESCALATED:
            until = context.now + timeout
            whom = f"{len(self.escalate_to)} others" if self.escalate_to else "the admins"
            return Stay(
                Waiting("approval", waiting.subject, waiting.since, _ESCALATED),
                f"{reason} Now {whom} are asked as well, for {durations.speak(timeout)} more.",
                until,
                State.AWAITING_APPROVAL,
                (EscalateApproval(waiting.subject, until),),
                inputs,
            )
        outputs = {"approved": False, "decision": "timeout", "decider": "", "comment": ""}
        if self.on_timeout in ENDINGS:
            return _over(self.on_timeout, reason, inputs, outputs, "APPROVAL_TIMEOUT")
        withdrawn = (CancelApproval(waiting.subject),)
        if self.on_timeout == OnTimeout.APPROVE:
            outputs["approved"] = True
            return Go("approved", f"{reason} The step says that it goes on then.", effects=withdrawn, outputs=outputs)
        return Go("timeout", reason, effects=withdrawn, outputs=outputs)


def _over(
    ending: str, reason: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], failure: str
) -> Fail | Leave:
    return Leave(reason, outputs, inputs) if ending == "cancel" else Fail(reason, inputs, failure)
