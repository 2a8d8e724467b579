"""Handlers of WorkflowService: holding a workflow and letting it go on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from core.domain.errors import NotFound, WrongState
from core.domain.steps.wait import Wait
from core.domain.workflow.trigger_kinds import PoolTrigger
from core.rpc.admission import reach
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.workflows.workflows import to_message
from core.store.workflows import audience, missed_firings, pausing, workflows
from core.store.workflows.missed_firings import MissedFiring
from core.store.workflows.pausing import ResumePolicy, Standing
from core.store.workflows.workflows import WorkflowState
from dripstone.v1 import workflow_pb2 as pb

_POLICIES: dict[int, ResumePolicy] = {
    pb.RESUME_POLICY_UNSPECIFIED: "run_overdue",
    pb.RESUME_POLICY_RUN_OVERDUE: "run_overdue",
    pb.RESUME_POLICY_SHIFT: "shift",
    pb.RESUME_POLICY_SKIP_OVERDUE: "skip_overdue",
}


async def pause_workflow(request: pb.PauseWorkflowRequest, call: Call) -> pb.Workflow:
    """Hold a workflow. Raises WrongState for one that is not active."""
    row = await _locked(call, request.workflow_id)
    if row.state != WorkflowState.ACTIVE:
        raise WrongState(kind="workflow", id=row.id, state=row.state, action="pause")
    reason = request.reason or "paused by hand"
    await pausing.pause(call.tx, call.caller.org_id, row.id, reason, call.caller.principal_id)
    return to_message(await _locked(call, request.workflow_id))


async def resume_workflow(request: pb.ResumeWorkflowRequest, call: Call) -> pb.ResumeWorkflowResponse:
    """Let a paused workflow go on, and say who moves. Raises WrongState for one that is not paused."""
    row = await _locked(call, request.workflow_id)
    if row.state != WorkflowState.PAUSED:
        raise WrongState(kind="workflow", id=row.id, state=row.state, action="resume")
    standing = await _standing(call, row)
    policy = _POLICIES[request.policy]
    missed = await _missed(call, row, policy, lock=not request.validate_only)
    shifted = sum(one.timed for one in standing) if policy == "shift" else 0
    slotted = await _slotted(call, row) if policy == "shift" else 0
    if not request.validate_only:
        shifted = (await pausing.resume(call.tx, row, policy))["shifted"]
        await missed_firings.resolve(call.tx, row.id, missed, policy)
    return pb.ResumeWorkflowResponse(
        workflow=to_message(await _locked(call, request.workflow_id)),
        paused_seconds=(call.now - row.paused_at) // timedelta(seconds=1),
        # Whoever fell due is released when the engine has come to it; the preview counts them all.
        released_count=sum(one.kept + (one.ready if policy == "shift" else one.overdue) for one in standing),
        shifted_count=shifted,
        slotted_count=slotted,
        missed_firings=[await _missed_message(call, row.id, one) for one in missed],
        steps=[
            pb.PausedStep(
                step_id=one.step_id, overdue_count=one.overdue, kept_count=one.kept, waiting_count=one.waiting
            )
            for one in standing
        ],
    )


async def _reach(call: Call, request: pb.ResumeWorkflowRequest) -> Reach:
    """Count everybody who stands in the workflow, and whom schedules that it lets fire at once may enroll.

    Whoever is not late goes on waiting, by a timer that may move.
    """
    row = await workflows.get(call.tx, request.workflow_id)
    if row is None or row.state != WorkflowState.PAUSED:
        return Reach(0)
    stand = sum(one.kept + one.overdue + one.waiting for one in await pausing.standing(call.tx, row, call.now))
    firing = [one for one in await _missed(call, row, _POLICIES[request.policy]) if one.next_at <= call.now]
    return Reach(stand + sum([await _audience(call, row.id, one) for one in firing]))


reach.register("WorkflowService.ResumeWorkflow", _reach)


async def _missed(call: Call, row: Row[Any], policy: ResumePolicy, *, lock: bool = False) -> list[MissedFiring]:
    version = await call.parts.versions.load(call.tx, call.caller.org_id, row.id, row.published_version)
    return await missed_firings.of(call.tx, version, policy, row.paused_at, lock=lock)


async def _audience(call: Call, workflow_id: str, one: MissedFiring) -> int:
    """Return how many contacts a firing takes at most, as its audience is now."""
    if isinstance(one.trigger, PoolTrigger):
        return min(await audience.count(call.tx, one.trigger.audience, never_in=workflow_id), one.trigger.per_day)
    return await audience.count(call.tx, one.trigger.audience)


async def _missed_message(call: Call, workflow_id: str, one: MissedFiring) -> pb.MissedFiring:
    return pb.MissedFiring(
        trigger=one.position,
        kind=one.trigger.kind,
        count=one.missed.count,
        first_time=to_timestamp(one.missed.first),
        last_time=to_timestamp(one.missed.last),
        next_time=to_timestamp(one.next_at),
        contact_count=await _audience(call, workflow_id, one),
    )


async def _slotted(call: Call, row: Row[Any]) -> int:
    """Return how many timers end at a time of day, on a weekday or while a calendar is open alone."""
    found = 0
    for (number, step_id), count in (await pausing.timers(call.tx, row)).items():
        version = await call.parts.versions.load(call.tx, call.caller.org_id, row.id, number)
        node = version.steps.get(step_id)
        found += count if node is not None and isinstance(node.step, Wait) and node.step.slot else 0
    return found


async def _standing(call: Call, row: Row[Any]) -> list[Standing]:
    """Return who stands where, in the order of the published document; steps of older versions come last."""
    published = await workflows.get_version(call.tx, call.caller.org_id, row.id, row.published_version)
    steps = published.document["steps"] if published is not None else ()
    places = {step["id"]: place for place, step in enumerate(steps)}
    found = await pausing.standing(call.tx, row, call.now)
    return sorted(found, key=lambda one: places.get(one.step_id, len(places)))


async def _locked(call: Call, workflow_id: str) -> Row[Any]:
    row = await workflows.get(call.tx, workflow_id, lock=True)
    if row is None:
        raise NotFound(kind="workflow", id=workflow_id)
    return row
