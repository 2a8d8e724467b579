"""Handler of WorkflowService: what would become of contacts in a workflow, on a virtual clock. Nothing is written."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from core.domain.errors import Code, DripstoneError, Invalid, NotFound, ScopeMissing, Violation
from core.domain.workflow.compile import Compiled
from core.domain.workflow.document import parse_source
from core.domain.workflow.version import Version
from core.rpc.admission.narrowing import simulates_stored
from core.rpc.call import Call
from core.rpc.convert import from_struct, from_timestamp, to_timestamp
from core.rpc.workflows.workflows import lookups, problem_messages
from core.simulation import stored
from core.simulation.assumptions import Assumptions, read_assumptions
from core.simulation.difference import Difference, diff
from core.simulation.made_up import made_up
from core.simulation.result import Exclusion, FunnelStep, Simulation, Timeline
from core.simulation.script import ScriptedEvent, read_script
from core.simulation.simulate import Simulator
from core.simulation.spans import read_length
from core.simulation.subjects import Subject, read_subjects
from core.store.organizations import organizations
from core.store.transaction import Transaction
from core.store.workflows import compiling, workflows
from dripstone.v1 import workflow_pb2 as pb

MOST_CONTACTS = 10_000
LONGEST_HORIZON = timedelta(days=3 * 366)
_USUAL_HORIZON = timedelta(days=90)
_AT_ONCE = 20
"""Moves between two looks at what else there is to serve: a few milliseconds."""
_MOST_MOVES = 1_000_000
_USUAL_SAMPLE, _USUAL_TIMELINES, _MOST_TIMELINES = 100, 10, 200


class SimulationTooLong(DripstoneError):
    """The simulation did not end within {most} moves."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SIMULATION_TOO_LONG"
    hint = "Take fewer contacts or a shorter horizon, or run `dripstone simulate` on your own machine."


async def simulate_workflow(request: pb.SimulateWorkflowRequest, call: Call) -> pb.SimulateWorkflowResponse:
    """Run a draft, a version or a document over contacts; with problems in it, answer with these.

    Raises ScopeMissing for stored contacts, or events, that the key may not read: a document can ask them anything.
    """
    _check_scopes(request, call)
    problems: list[Violation] = []
    horizon = _length(request.horizon, "horizon", _USUAL_HORIZON, problems)
    if horizon > LONGEST_HORIZON:
        problems.append(Violation("horizon", "TOO_LONG", "a simulation ends after three years", "Write 90d or 1y."))
    back = _length(request.recorded, "recorded", timedelta(), problems)
    if request.timelines < 0:
        problems.append(Violation("timelines", "OUT_OF_RANGE", "this cannot be less than nothing", "Send 0 to 200."))
    if not request.workflow_id and not request.source:
        problems.append(Violation("workflow_id", "REQUIRED", "nothing is named", "Send workflow_id, or source."))
    if request.against_version and not request.workflow_id:
        hint = "Send workflow_id beside source."
        problems.append(Violation("against_version", "REQUIRED", "a version of which workflow?", hint))
    if problems:
        raise Invalid(*problems)
    start = from_timestamp(request.start_time) if request.HasField("start_time") else call.now
    script = _script(request)
    async with call.parts.database.read(call.caller.org_id) as tx:
        compiled = await _compiled(tx, request, call)
        against = await _against(tx, request, call)
        types = frozenset().union(*(one.records for one in (compiled.version, against) if one is not None))
        subjects = await _subjects(tx, request, types)
        zone = (await organizations.get(tx)).timezone
        if back:
            known = [subject.contact.id for subject in subjects]
            script += await stored.recorded(tx, known, call.now - back, call.now, start)
    if compiled.version is None:
        return pb.SimulateWorkflowResponse(problems=problem_messages(request.source, compiled.problems))
    assumed = {"organization_timezone": zone, **from_struct(request.assumptions)}
    assumptions = read_assumptions(assumed, compiled.version)
    timelines = min(request.timelines or _USUAL_TIMELINES, _MOST_TIMELINES)
    run = (subjects, script, start, start + horizon, assumptions, request.seed, timelines)
    result = await _run(call.parts.simulating, compiled.version, *run)
    answer = _message(result)
    if against is not None:
        other = await _run(call.parts.simulating, against, *run)
        answer.difference.CopyFrom(_difference(diff(result, other)))
    return answer


def _check_scopes(request: pb.SimulateWorkflowRequest, call: Call) -> None:
    needed = ["records:read", "events:read"][: 1 + bool(request.recorded)] if simulates_stored(request) else []
    for scope in needed:
        if scope not in call.caller.scopes:
            raise ScopeMissing(scope=scope, method="WorkflowService.SimulateWorkflow over what is stored")
    if needed and _looks_at_standing(request) and "enrollments:read" not in call.caller.scopes:
        told = "WorkflowService.SimulateWorkflow, unless it is `fresh`, of contacts that may be in the workflow already"
        raise ScopeMissing(scope="enrollments:read", method=told)


def _looks_at_standing(request: pb.SimulateWorkflowRequest) -> bool:
    """Tell whether it counts that stored contacts are in the workflow already, or have been."""
    return bool(request.workflow_id) and not request.fresh


async def _run(
    one_at_a_time: asyncio.Semaphore,
    version: Version,
    subjects: Sequence[Subject],
    script: Sequence[ScriptedEvent],
    start: datetime,
    end: datetime,
    assumptions: Assumptions,
    seed: int,
    timelines: int,
) -> Simulation:
    simulator = Simulator(version, subjects, script, start, end, assumptions, seed, timelines, "auto")
    async with one_at_a_time:
        for _ in range(_MOST_MOVES // _AT_ONCE):
            if not simulator.turn(_AT_ONCE):
                return simulator.result()
            await asyncio.sleep(0)  # others are served in between
    raise SimulationTooLong(most=f"{_MOST_MOVES:,}")


async def _compiled(tx: Transaction, request: pb.SimulateWorkflowRequest, call: Call) -> Compiled:
    if request.source:
        return await _checked(parse_source(request.source), tx, call, request.workflow_id)
    row = await workflows.get(tx, request.workflow_id)
    if row is None:
        raise NotFound(kind="workflow", id=request.workflow_id)
    if request.version:
        version = await call.parts.versions.load(tx, call.caller.org_id, row.id, request.version)
        return Compiled(version, ())
    return await _checked(row.draft_document, tx, call, row.id)


async def _checked(document: Mapping[str, Any], tx: Transaction, call: Call, workflow_id: str) -> Compiled:
    known = await lookups(tx)
    async with call.parts.checking:
        return await compiling.compiled(document, known, workflow_id=workflow_id)


async def _against(tx: Transaction, request: pb.SimulateWorkflowRequest, call: Call) -> Version | None:
    if not request.against_version:
        return None
    return await call.parts.versions.load(tx, call.caller.org_id, request.workflow_id, request.against_version)


async def _subjects(
    tx: Transaction, request: pb.SimulateWorkflowRequest, types: Collection[str]
) -> tuple[Subject, ...]:
    wanted = request.contacts
    workflow_id = request.workflow_id if _looks_at_standing(request) else ""
    chosen = [bool(wanted.contact_ids), bool(wanted.filter), bool(wanted.records), bool(wanted.made_up)]
    if sum(chosen) > 1:
        hint = "Send contact_ids, filter, records or made_up."
        raise Invalid(Violation("contacts", "CONFLICT", "say with which contacts, in one way", hint))
    for field, count in (("sample_size", wanted.sample_size), ("made_up", wanted.made_up)):
        if not 0 <= count <= MOST_CONTACTS:
            message = f"at most {MOST_CONTACTS:,} contacts are simulated here"
            hint = "Take fewer; the command line simulates more."
            raise Invalid(Violation(f"contacts.{field}", "OUT_OF_RANGE", message, hint))
    if wanted.contact_ids:
        found = await stored.by_id(tx, wanted.contact_ids, workflow_id, types)
        known = {subject.contact.id for subject in found}
        missing = [
            Violation(f"contacts.contact_ids[{index}]", "UNKNOWN_CONTACT", f"there is no contact {one[:63]}")
            for index, one in enumerate(wanted.contact_ids)
            if one not in known
        ]
        if missing:
            raise Invalid(*missing)
        return found
    if wanted.records:
        return read_subjects([from_struct(one) for one in wanted.records], "contacts.records")
    if wanted.made_up:
        return made_up(wanted.made_up, request.seed)
    found = await stored.sample(tx, wanted.filter, wanted.sample_size or _USUAL_SAMPLE, workflow_id, types)
    return found or (() if wanted.filter else made_up(_USUAL_SAMPLE, request.seed))


def _script(request: pb.SimulateWorkflowRequest) -> tuple[ScriptedEvent, ...]:
    raw: list[Mapping[str, Any]] = []
    for event in request.events:
        after: Any = event.after or "0s"
        given: dict[str, Any] = {"name": event.name, "contact": event.contact or "*", "after": after}
        if event.before:
            given["after"] = [after, event.before]
        if event.share:
            given |= {"share": event.share, "since": "entry"}
        if event.fields.fields:
            given["fields"] = from_struct(event.fields)
        raw.append(given)
    return read_script(raw)


def _length(text: str, field: str, usual: timedelta, problems: list[Violation]) -> timedelta:
    return read_length(text, field, problems) if text else usual


def _message(found: Simulation) -> pb.SimulateWorkflowResponse:
    return pb.SimulateWorkflowResponse(
        entered_count=found.admitted,
        states=found.states,
        steps=[_step(step) for step in found.funnel],
        messages=[
            pb.MessagesOnDay(day=one.day.isoformat(), channel=one.channel, count=one.count) for one in found.messages
        ],
        exclusions=[_exclusion(one) for one in found.exclusions],
        timelines=[_timeline(one) for one in found.timelines],
        warnings=[*found.warnings, *map(_refused_reentry, found.refused_reentries)],
        start_time=to_timestamp(found.start),
        end_time=to_timestamp(found.end),
        entering=found.entering,
    )


def _step(step: FunnelStep) -> pb.FunnelStep:
    return pb.FunnelStep(
        step_id=step.step_id,
        kind=step.kind,
        entered_count=step.entered,
        exits=step.exits,
        waiting_count=step.waiting,
        failed_count=step.failed,
        skipped_count=step.skipped,
        held_count=step.held,
        median_seconds=step.median.total_seconds() if step.median is not None else 0.0,
    )


def _exclusion(one: Exclusion) -> pb.Exclusion:
    return pb.Exclusion(reason=one.reason, message=one.message, count=one.count, contacts=one.contacts)


def _refused_reentry(one: Exclusion) -> str:
    who = "1 contact that had entered was" if one.count == 1 else f"{one.count:,} contacts that had entered were"
    return f"{who} refused at a re-entry ({one.reason}), such as {one.contacts[0]}: {one.message}"


def _timeline(one: Timeline) -> pb.Timeline:
    return pb.Timeline(
        contact=one.contact,
        state=one.state,
        step_id=one.step_id,
        reason=one.reason,
        entries=[
            pb.SimulatedEntry(
                step_id=entry.step_id,
                kind=entry.kind,
                outcome=entry.outcome,
                exit=entry.exit,
                reason=entry.reason,
                time=to_timestamp(entry.at),
            )
            for entry in one.entries
        ],
    )


def _difference(found: Difference) -> pb.SimulationDifference:
    return pb.SimulationDifference(
        changed_count=found.changed,
        contacts=[one.contact for one in found.contacts],
        entered_counts=found.entered,
        messages=sum(found.messages.values()),
        states=found.states,
    )
