"""Handlers of WorkflowService: moving running enrollments to another version, as a plan that is applied exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core.domain.control.digest import digest
from core.domain.control.plan import Risk, Weighed
from core.domain.enrollment import Cancelled, Enrollment, Migrated, WaitPolicy
from core.domain.errors import NotFound, NotPublished, PlanStale, invalid
from core.domain.nearest import did_you_mean
from core.domain.workflow import migration
from core.domain.workflow.migration import EXIT, Destination
from core.domain.workflow.version import Version
from core.engine.driver import Move
from core.rpc.approvals import plan_kinds
from core.rpc.approvals.plan_kinds import PlanKind
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.workflows import claims, migrating, workflows
from dripstone.v1 import workflow_pb2 as pb

KIND = "migration"
_AT_ONCE = 500
_MOVED_ON = "enrollments have moved, entered or ended since it was made"
_SHOWN = 10
_WAITS: Mapping[WaitPolicy, pb.WaitPolicy.ValueType] = {
    "keep": pb.WAIT_POLICY_KEEP,
    "recompute": pb.WAIT_POLICY_RECOMPUTE,
    "restart": pb.WAIT_POLICY_RESTART,
}


@dataclass(slots=True)
class _Times:
    """When waits that go on end, as facts are now."""

    at_once: int = 0
    failing: int = 0
    due: list[datetime] = field(default_factory=list)


@dataclass(slots=True)
class _Planned:
    """What a migration would do."""

    workflow_id: str
    target: Version
    groups: dict[tuple[int, str, Destination], list[str]] = field(default_factory=dict)
    """Enrollments by version, step and where they go, in order."""
    revs: dict[str, int] = field(default_factory=dict)
    """The rev of each enrollment as it was looked at."""
    hash: str = ""
    times: dict[tuple[int, str, Destination], _Times] = field(default_factory=dict)
    """What waits come to, of those that go on; what is made again is foreseen for plans alone."""

    def moving(self) -> list[tuple[tuple[int, str, Destination], list[str]]]:
        """Return who goes somewhere."""
        return [(key, some) for key, some in self.groups.items() if key[2].step_id]

    def staying(self) -> list[tuple[tuple[int, str, Destination], list[str]]]:
        """Return who cannot."""
        return [(key, some) for key, some in self.groups.items() if not key[2].step_id]


async def plan_migration(request: pb.PlanMigrationRequest, call: Call) -> pb.MigrationPlan:
    """Plan who moves from which step to which, and who cannot and why. The plan lasts for 24 hours."""
    row = await workflows.get(call.tx, request.workflow_id)
    if row is None:
        raise NotFound(kind="workflow", id=request.workflow_id)
    if not row.published_version:
        raise NotPublished(workflow_id=row.id, state=row.state)
    wanted: dict[str, Any] = {
        "workflow_id": row.id,
        "from_version": request.from_version,
        "to_version": request.to_version or row.published_version,
        "steps": dict(request.steps),
        "waits": _asked(request),
    }
    planned = await _plan(call, wanted)
    for key, enrollment_ids in planned.moving():
        if key[2].wait == "recompute":
            planned.times[key] = await _foreseen(call, planned, key[2], enrollment_ids)
    if request.validate_only:
        return _message(planned, "", None)  # nothing is kept, so there is nothing to apply
    kept = await plan_kinds.keep(call, KIND, _weighed(planned), wanted)
    return _message(planned, kept.id, kept.expires_at)


def _asked(request: pb.PlanMigrationRequest) -> dict[str, WaitPolicy]:
    """Return what is asked for waits, by step."""
    policies = {number: policy for policy, number in _WAITS.items()}
    for step, number in request.waits.items():
        if number not in (pb.WAIT_POLICY_UNSPECIFIED, *policies):
            hint = "Say keep, recompute or restart."
            raise invalid(f"waits.{step}", "UNKNOWN_VALUE", f"there is no policy {number}", hint)
    return {step: policies[number] for step, number in sorted(request.waits.items()) if number}


async def apply_migration(request: pb.ApplyMigrationRequest, call: Call) -> pb.MigrationPlan:
    """Move exactly those that the plan names. Raises PlanStale when anything about them has changed since."""
    row = await plan_kinds.held(call, request.plan_id, KIND)
    done = await plan_kinds.carry_out(call, row, seen_hash=request.hash)
    call.tx.answer_is_final = done.applied  # asked again under its key after the approval, it is carried out
    message = _message(done.weighed.found, row.id, done.row.expires_at, done.row.applied_at)
    message.approval_id = done.approval_id
    return message


def _weighed(planned: _Planned) -> Weighed:
    """Return a migration as plans are kept."""
    counts = {
        "moving": sum(len(some) for _, some in planned.moving()),
        "staying": sum(len(some) for _, some in planned.staying()),
    }
    title = f"Move {counts['moving']:,} enrollments of {planned.workflow_id} to version {planned.target.number}"
    return Weighed(title=title, counts=counts, own_hash=planned.hash, risk=Risk.MEDIUM, found=planned)


async def _weigh_again(call: Call, row: Row[Any]) -> Weighed:
    return _weighed(await _plan(call, row.body))


async def _apply(call: Call, row: Row[Any], weighed: Weighed) -> None:
    planned: _Planned = weighed.found
    for (_, _, where), enrollment_ids in planned.moving():
        for start in range(0, len(enrollment_ids), _AT_ONCE):
            await _move(call, planned, where, enrollment_ids[start : start + _AT_ONCE], row.id)


plan_kinds.register(
    PlanKind(
        KIND,
        "workflows:write",
        _weigh_again,
        _apply,
        difference=lambda row, weighed: _MOVED_ON,
        method="WorkflowService.ApplyMigration",
    )
)


async def _move(call: Call, planned: _Planned, where: Destination, enrollment_ids: list[str], plan_id: str) -> None:
    target = planned.target
    held = await claims.claim_by_id(call.tx, [(call.caller.org_id, one) for one in enrollment_ids])
    if len(held) != len(enrollment_ids) or any(one.rev != planned.revs[one.id] for one in held):
        raise PlanStale(plan_id=plan_id, why=_MOVED_ON)  # while the plan was checked
    if where.step_id == EXIT:
        ended = Cancelled(call.caller.principal_id, f"migration {plan_id} to version {target.number} ends it")
        await call.parts.engine.move(call.tx, [Move(enrollment, ended) for enrollment in held])
        return
    await call.parts.engine.move(call.tx, [_migrated(call, target, where, one, plan_id) for one in held])


def _migrated(call: Call, target: Version, where: Destination, enrollment: Enrollment, plan_id: str = "") -> Move:
    moved = Migrated(where.step_id, where.wait or "restart", call.caller.principal_id, plan_id)
    return Move(enrollment, moved, version=target.number)


async def _plan(call: Call, wanted: Mapping[str, Any]) -> _Planned:
    org, workflow_id, number = call.caller.org_id, wanted["workflow_id"], wanted["to_version"]
    target = await call.parts.versions.load(call.tx, org, workflow_id, number)
    steps: Mapping[str, str] = wanted["steps"]
    for name, to_step in steps.items():
        if to_step != EXIT and to_step not in target.steps:
            hint = did_you_mean(to_step, [*target.steps, EXIT]) or f"Version {number} has {', '.join(target.steps)}."
            raise invalid(f"steps.{name}", "UNKNOWN_TARGET", f"version {number} has no step {to_step[:60]}", hint)
    await _check_mapped(call, workflow_id, wanted)
    found = await migrating.running(call.tx, org, workflow_id, other_than=number, only=wanted["from_version"])
    if len(found) > migrating.MOST:
        message = f"more than {migrating.MOST:,} enrollments would move"
        raise invalid("from_version", "TOO_MANY", message, "Move them version by version, the smallest first.")
    planned = _Planned(workflow_id, target)
    waits: Mapping[str, WaitPolicy] = wanted["waits"]
    for one in found:
        old = await call.parts.versions.load(call.tx, org, workflow_id, one.version)
        where = migration.destination(old, target, one.step_id, one.waiting, steps, waits)
        key = (one.version, one.step_id, where)
        planned.groups.setdefault(key, []).append(one.id)
        planned.revs[one.id] = one.rev
        if where.wait == "keep" and one.due_at is not None:
            _tell(planned.times.setdefault(key, _Times()), one.due_at, call.now)
    planned.hash = digest([dict(wanted), [[one.id, one.rev] for one in found]])
    return planned


async def _foreseen(call: Call, planned: _Planned, where: Destination, enrollment_ids: list[str]) -> _Times:
    """Return what waits would come to that are made again: the machine itself says so, and nothing is written."""
    times = _Times()
    for start in range(0, len(enrollment_ids), _AT_ONCE):
        some = await migrating.whole(call.tx, enrollment_ids[start : start + _AT_ONCE])
        moves = [_migrated(call, planned.target, where, one) for one in some]
        for transition in await call.parts.engine.foresee(call.tx, moves):
            after = transition.enrollment
            if any(entry.outcome == "failed" for entry in transition.trace):
                times.failing += 1
            elif after.state.over or after.step_id != where.step_id:
                times.at_once += 1
            elif after.due_at is not None:
                _tell(times, after.due_at, call.now)
    return times


def _tell(times: _Times, due_at: datetime, now: datetime) -> None:
    if due_at <= now:
        times.at_once += 1
    else:
        times.due.append(due_at)


async def _check_mapped(call: Call, workflow_id: str, wanted: Mapping[str, Any]) -> None:
    """Refuse maps that name steps which none of the versions to leave has."""
    org, named = call.caller.org_id, {field: wanted[field] for field in ("steps", "waits")}
    row = await workflows.get(call.tx, workflow_id)
    newest = row.published_version if row is not None else 0
    numbers = [wanted["from_version"]] if wanted["from_version"] else range(1, newest + 1)
    known: set[str] = set()
    for number in numbers if any(named.values()) else ():
        known |= set((await call.parts.versions.load(call.tx, org, workflow_id, number)).steps)
    for field_name, name in ((field_name, name) for field_name, steps in named.items() for name in steps):
        if name not in known:
            hint = did_you_mean(name, sorted(known)) or f"The steps are {', '.join(sorted(known))}."
            raise invalid(f"{field_name}.{name}", "UNKNOWN_STEP", f"no version to leave has a step {name[:60]}", hint)


def _message(
    planned: _Planned, plan_id: str, expires_at: datetime | None, applied_at: datetime | None = None
) -> pb.MigrationPlan:
    moving, staying = planned.moving(), planned.staying()
    return pb.MigrationPlan(
        plan_id=plan_id,
        expire_time=to_timestamp(expires_at),
        apply_time=to_timestamp(applied_at),
        hash=planned.hash,
        workflow_id=planned.workflow_id,
        to_version=planned.target.number,
        moves=[_group(*one, planned.times.get(one[0], _Times())) for one in moving],
        stays=[_group(*one, _Times()) for one in staying],
        moving_count=sum(len(some) for _, some in moving),
        staying_count=sum(len(some) for _, some in staying),
    )


def _group(key: tuple[int, str, Destination], enrollment_ids: list[str], times: _Times) -> pb.MigrationMove:
    version, step_id, where = key
    return pb.MigrationMove(
        from_version=version,
        from_step_id=step_id,
        to_step_id=where.step_id,
        wait=_WAITS[where.wait] if where.wait else pb.WAIT_POLICY_UNSPECIFIED,
        at_once_count=times.at_once,
        failing_count=times.failing,
        earliest_due_time=to_timestamp(min(times.due, default=None)),
        latest_due_time=to_timestamp(max(times.due, default=None)),
        count=len(enrollment_ids),
        reason=where.reason,
        enrollment_ids=enrollment_ids[:_SHOWN],
    )
