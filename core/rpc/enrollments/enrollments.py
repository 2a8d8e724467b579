"""Handlers of EnrollmentService: enrolling contacts, following and ending enrollments."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from sqlalchemy import select

from core.domain import explain as explanation
from core.domain.enrollment import Cancelled, Enrollment, State
from core.domain.errors import GoingAway, NotFound, WrongState, invalid
from core.domain.trace import TraceEntry
from core.engine.driver import Move
from core.rpc.call import Call
from core.rpc.changes import expect
from core.rpc.convert import to_struct, to_timestamp
from core.rpc.enrollments.enrolling import enroll
from core.rpc.listing import listed
from core.store import paging
from core.store.agents import executions, tasks
from core.store.control import approvals
from core.store.messages import outgoing
from core.store.transaction import Transaction
from core.store.workflows import enrollments, statistics, workflows
from dripstone.v1 import enrollment_pb2 as pb

_STATES = {state: pb.EnrollmentState.Value(f"ENROLLMENT_STATE_{state.name}") for state in State}
_FILTERED = {name: "string" for name in ("state", "contact_id", "key", "step_id", "workflow_id")}
_CHECKPOINT_SECONDS = 15.0
_ENTRIES_AT_ONCE = 500
_MOST_UNSENT = 3


async def enroll_contacts(request: pb.EnrollContactsRequest, call: Call) -> pb.EnrollContactsResponse:
    """Enroll up to 1,000 contacts, contact by contact."""
    return await enroll(request, call)


async def get_enrollment(request: pb.GetEnrollmentRequest, call: Call) -> pb.Enrollment:
    """Return one enrollment."""
    enrollment = await _get(call.tx, request.enrollment_id, request.workflow_id)
    return to_message(enrollment, paused=await workflows.is_paused(call.tx, enrollment.workflow_id))


async def list_enrollments(request: pb.ListEnrollmentsRequest, call: Call) -> pb.ListEnrollmentsResponse:
    """Return a page of enrollments, newest first."""
    table = enrollments.enrollments
    statement = select(table)
    if request.workflow_id:
        statement = statement.where(table.c.workflow_id == request.workflow_id)
    rows, token = await listed(call.tx, request, statement, table, _FILTERED, within=request.workflow_id)
    return pb.ListEnrollmentsResponse(
        enrollments=[to_message(enrollments.to_domain(row)) for row in rows], next_page_token=token
    )


async def list_trace_entries(request: pb.ListTraceEntriesRequest, call: Call) -> pb.ListTraceEntriesResponse:
    """Return a page of a trace, oldest first."""
    await _get(call.tx, request.enrollment_id)
    size = paging.page_size(request.page_size)
    after = _position(request.page_token, "page_token", request.enrollment_id)
    entries = await enrollments.trace(call.tx, request.enrollment_id, after=after, limit=size + 1)
    more = len(entries) > size
    entries = entries[:size]
    token = paging.encode_token(str(entries[-1].seq), request.enrollment_id) if more else ""
    return pb.ListTraceEntriesResponse(entries=[_entry(entry) for entry in entries], next_page_token=token)


async def explain_enrollment(request: pb.ExplainEnrollmentRequest, call: Call) -> pb.ExplainEnrollmentResponse:
    """Tell why and what next, from stored facts."""
    enrollment = await _get(call.tx, request.enrollment_id)
    trace = await enrollments.trace(call.tx, enrollment.id, after=max(0, enrollment.trace_count - 20), limit=20)
    version = await call.parts.versions.load(call.tx, call.caller.org_id, enrollment.workflow_id, enrollment.version)
    paused = await workflows.is_paused(call.tx, enrollment.workflow_id)
    unsent = [
        explanation.OnItsWay(row.ordinal, row.channel, row.outcome, row.attempts, row.due_at)
        for row in await outgoing.under_way(call.tx, enrollment.id, _MOST_UNSENT)
    ]
    why, following = explanation.explain(version, enrollment, trace, paused=paused, on_their_way=unsent)
    return pb.ExplainEnrollmentResponse(
        enrollment=to_message(enrollment, paused=paused),
        why=why,
        next=following,
        entries=[_entry(entry) for entry in trace],
        next_time=None if paused or enrollment.state.over else to_timestamp(enrollment.due_at),
    )


async def watch_enrollment(request: pb.WatchEnrollmentRequest, call: Call) -> AsyncIterator[pb.WatchEnrollmentResponse]:
    """Stream a trace as it grows; a checkpoint every 15 seconds proves the stream alive."""
    database = call.parts.database
    seen = _position(request.resume_token, "resume_token", request.enrollment_id)
    wake = database.wakeups.event("watch")

    async def look() -> tuple[Enrollment, list[TraceEntry]]:
        async with database.read(call.caller.org_id) as tx:
            enrollment = await _get(tx, request.enrollment_id)
            return enrollment, await enrollments.trace(tx, enrollment.id, after=seen, limit=_ENTRIES_AT_ONCE)

    try:
        while True:
            wake.clear()
            if call.parts.draining.is_set():
                raise GoingAway()
            enrollment, entries = await call.parts.under_way.to_its_end(look())
            message = to_message(enrollment)
            for entry in entries:
                seen = entry.seq
                token = paging.encode_token(str(seen), request.enrollment_id)
                yield pb.WatchEnrollmentResponse(entry=_entry(entry), enrollment=message, resume_token=token)
            if len(entries) == _ENTRIES_AT_ONCE:
                continue
            if enrollment.state.over:
                return
            if not entries:
                token = paging.encode_token(str(seen), request.enrollment_id)
                yield pb.WatchEnrollmentResponse(enrollment=message, resume_token=token)
            await call.parts.clock.wait(wake, _CHECKPOINT_SECONDS)
    finally:
        database.wakeups.forget("watch", wake)


async def cancel_enrollment(request: pb.CancelEnrollmentRequest, call: Call) -> pb.Enrollment:
    """End an enrollment where it stands. Raises EtagMismatch, and WrongState when it is over already."""
    enrollment = await _get(call.tx, request.enrollment_id, lock=True)
    if enrollment.state.over:
        raise WrongState(kind="enrollment", id=enrollment.id, state=enrollment.state.value, action="cancel")
    expect("enrollment", enrollment.id, given=request.etag, current=_etag(enrollment))
    stimulus = Cancelled(call.caller.principal_id, request.reason)
    await call.parts.engine.move(call.tx, [Move(enrollment, stimulus)])
    return to_message(await _get(call.tx, enrollment.id))


async def delete_enrollment(request: pb.DeleteEnrollmentRequest, call: Call) -> Empty:
    """Remove an enrollment, its trace and what hangs on it."""
    enrollment = await _get(call.tx, request.enrollment_id, request.workflow_id, lock=True)
    if enrollment.waiting is not None and enrollment.waiting.kind == "approval":
        await approvals.cancel(call.tx, [(call.caller.org_id, enrollment.waiting.subject)])
    if enrollment.waiting is not None and enrollment.waiting.kind == "task":
        await tasks.cancel(call.tx, [(call.caller.org_id, enrollment.waiting.subject)])
    await executions.remove_of_enrollment(call.tx, enrollment.id)
    await statistics.forget(call.tx, enrollment)
    await enrollments.remove(call.tx, enrollment.id)
    return Empty()


async def _get(tx: Transaction, enrollment_id: str, workflow_id: str = "", *, lock: bool = False) -> Enrollment:
    enrollment = await enrollments.get(tx, enrollment_id, lock=lock)
    if enrollment is None or (workflow_id and enrollment.workflow_id != workflow_id):
        raise NotFound(kind="enrollment", id=enrollment_id)
    return enrollment


def _position(token: str, field: str, enrollment_id: str) -> int:
    if not token:
        return 0
    position = paging.decode_token(token, enrollment_id)
    if not position.isdigit():
        raise invalid(field, "TOKEN_MISMATCH", "the token does not belong here", "Start again without a token.")
    return int(position)


def _etag(enrollment: Enrollment) -> str:
    return f'"{enrollment.rev}"'


def to_message(enrollment: Enrollment, *, paused: bool = False) -> pb.Enrollment:
    """Return an enrollment as the contract has it."""
    message = pb.Enrollment(
        id=enrollment.id,
        workflow_id=enrollment.workflow_id,
        version=enrollment.version,
        contact_id=enrollment.contact_id,
        key=enrollment.key,
        state=_STATES[enrollment.state],
        step_id=enrollment.step_id,
        variables=to_struct(enrollment.variables),
        outputs=to_struct(enrollment.outputs),
        end_reason=enrollment.end_reason,
        create_time=to_timestamp(enrollment.entered_at),
        update_time=to_timestamp(enrollment.moved_at),
        end_time=to_timestamp(enrollment.ended_at),
        etag=_etag(enrollment),
        goal=enrollment.converted,
        paused=paused and not enrollment.state.over,
    )
    if enrollment.waiting is not None and not enrollment.state.over:
        waiting: Any = enrollment.waiting
        message.waiting.CopyFrom(
            pb.Waiting(
                kind=waiting.kind,
                subject=waiting.subject.replace("\n", ", "),
                until=to_timestamp(enrollment.due_at),
            )
        )
    return message


def _entry(entry: TraceEntry) -> pb.TraceEntry:
    return pb.TraceEntry(
        seq=entry.seq,
        step_id=entry.step_id,
        kind=entry.kind,
        outcome=entry.outcome,
        exit=entry.exit,
        reason=entry.reason,
        inputs=to_struct(entry.inputs),
        effects=entry.effects,
        time=to_timestamp(entry.at),
    )
