"""Qualifying for a workflow: the same rules and the same writing as for a call, in the engine's transaction."""

from __future__ import annotations

from core.domain.control.scopes import SERVICE_SCOPES
from core.domain.effects import Ask
from core.domain.enrollment import Answered, Enrollment
from core.domain.errors import DripstoneError
from core.engine.driver import Answer
from core.rpc.call import Call, Caller, Parts
from core.rpc.qualification.committing import commit_now
from core.rpc.qualification.qualifying import Target, load_model
from core.store.transaction import Transaction


def qualify_with(parts: Parts) -> Answer:
    """Return what qualifies the lead of an enrollment."""

    async def qualify(tx: Transaction, enrollment: Enrollment, ask: Ask) -> Answered:
        workflow = f"workflow:{enrollment.workflow_id}"
        caller = Caller(enrollment.org_id, workflow, "workflow", workflow, SERVICE_SCOPES)
        call = Call(caller, tx.now, parts, f"enrollment:{enrollment.id}/{enrollment.rev}", {}, tx)
        target = Target(ask.payload["lead_id"] or ask.payload["contact_id"])
        try:
            outcome = await commit_now(call, target, await load_model(tx, ask.payload["model_id"]))
        except DripstoneError as error:
            return Answered(ask.id, ok=False, reason=str(error))
        result = outcome.qualification.result
        choice = outcome.qualification.choice
        outputs = {
            "decision": result.decision.value if outcome.applied else "needs_approval",
            "score": result.score,
            "fit": result.fit,
            "engagement": result.engagement,
            "tier": result.tier,
            "owner": choice.member_id if choice is not None else "",
        }
        waits = "" if outcome.applied else f"Approval {outcome.approval_id} decides whether it is written."
        return Answered(ask.id, ok=True, outputs=outputs, reason=waits)

    return qualify
