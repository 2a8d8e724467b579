"""What a scoring model lets happen when a lead comes into a tier: an enrollment, an event about the contact."""

from __future__ import annotations

from core import ids
from core.engine.driver import Entry
from core.rpc.call import Call
from core.rpc.enrollments import enrolling
from core.rpc.qualification.qualifying import Qualification
from core.store.events import events
from core.store.events.events import NewEvent


async def carry_out(call: Call, qualification: Qualification, contact_id: str, lead_id: str) -> None:
    """Do what the lead's tier asks for, in the transaction in which the lead is written.

    A contact that the workflow's own rules keep out stays out: that is no reason not to qualify the lead.
    """
    effect = qualification.effect
    if effect is None:
        return
    if effect.event:
        result = qualification.result
        fields = {
            "lead_id": lead_id,
            "decision": result.decision.value,
            "score": result.score,
            "tier": result.tier,
        }
        source = f"model:{qualification.model.id}"
        event = NewEvent(
            *(ids.mint("evt", call.now), source, "action", effect.event, fields, contact_id, call.now),
            message_id="",
            actor=call.caller.principal_id,
        )
        await events.store(call.tx, [event])
    if effect.enroll and not qualification.obstacle:
        version = await enrolling.active_version(call, effect.enroll)
        # It stands at the first step until the engine comes to it: a workflow may be what qualifies the lead.
        entry = Entry(contact_id, call.caller.principal_id, stands=True)
        (entered,) = await call.parts.engine.enter(call.tx, call.caller.org_id, version, [entry])
        call.tx.spend("enrollments", entered.outcome == "enrolled")
