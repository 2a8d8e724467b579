"""Handlers of EnrollmentService: what failed for good, and letting it be tried again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, Select

from core.domain.enrollment import Enrollment, Redriven, State
from core.domain.errors import NotFound, invalid
from core.engine.driver import Move
from core.rpc.admission import reach
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.listing import listed, narrowed
from core.store.workflows import claims, enrollments, workflows
from core.store.workflows import dead_letters as store
from core.store.workflows.dead_letters import LetterState
from dripstone.v1 import enrollment_pb2 as pb

_FILTERED = {
    name: "string" for name in ("state", "step_id", "failure", "contact_id", "enrollment_id", "workflow_id", "kind")
}
_AT_ONCE = 1_000


async def list_dead_letters(request: pb.ListDeadLettersRequest, call: Call) -> pb.ListDeadLettersResponse:
    """Return a page of dead letters, newest first."""
    await _check_workflow(request.workflow_id, call)
    statement = store.listing(request.workflow_id)
    rows, token = await listed(call.tx, request, statement, store.dead_letters, _FILTERED, within=request.workflow_id)
    return pb.ListDeadLettersResponse(dead_letters=[_message(row) for row in rows], next_page_token=token)


async def redrive_dead_letters(request: pb.RedriveDeadLettersRequest, call: Call) -> pb.RedriveDeadLettersResponse:
    """Try failed steps again, letter by letter; each enrollment goes on from the step that failed."""
    by_filter = bool(request.filter or request.workflow_id)
    if bool(request.dead_letter_ids) == by_filter:
        hint = "Send dead_letter_ids, or workflow_id and filter."
        raise invalid("dead_letter_ids", "CONFLICT", "say which letters, in one way", hint)
    await _check_workflow(request.workflow_id, call)
    statement = narrowed(store.listing(request.workflow_id), store.dead_letters, request.filter, _FILTERED)
    wanted = await _matched(call, statement) if by_filter else list(dict.fromkeys(request.dead_letter_ids))
    letters = await store.by_id(call.tx, wanted)
    held = {
        enrollment.id: enrollment
        for enrollment in await claims.claim_by_id(
            call.tx, {(call.caller.org_id, row.enrollment_id) for row in letters.values()}
        )
    }
    newest = await _newest(call, held.values())
    results, moves, redriven = [], [], []
    for letter_id in wanted:
        row = letters.get(letter_id)
        result = pb.RedriveResult(dead_letter_id=letter_id, enrollment_id=row.enrollment_id if row else "")
        result.reason = _refusal(row, held, newest)
        results.append(result)
        if row is not None and not result.reason:
            result.redriven = True
            redriven.append(letter_id)
            # One enrollment can fail only once before it is tried again, so no letter here shares one.
            moves.append(Move(held[row.enrollment_id], Redriven(call.caller.principal_id)))
    await call.parts.engine.move(call.tx, moves)
    await store.redriven(call.tx, redriven, call.caller.principal_id)
    tried = [result for result in results if result.redriven]
    again = await store.open_of(call.tx, {result.enrollment_id for result in tried})
    for result in tried:
        after = await enrollments.get(call.tx, result.enrollment_id)
        if after is not None:
            result.state = pb.EnrollmentState.Value(f"ENROLLMENT_STATE_{after.state.name}")
        if result.enrollment_id in again:
            result.new_dead_letter_id = again[result.enrollment_id].id
            result.failure = again[result.enrollment_id].reason
    return pb.RedriveDeadLettersResponse(
        results=results,
        redriven_count=len(redriven),
        remaining_count=await store.count_open(call.tx, statement) if by_filter else 0,
    )


async def _matched(call: Call, statement: Select[Any]) -> list[str]:
    """Return the open letters that one call takes of those listed."""
    open_ones = statement.where(store.dead_letters.c.state == LetterState.OPEN)
    return [row.id for row in await call.tx.all(open_ones.order_by(store.dead_letters.c.id).limit(_AT_ONCE))]


async def _reach(call: Call, request: pb.RedriveDeadLettersRequest) -> Reach | None:
    if request.dead_letter_ids:
        return None
    listing = store.listing(request.workflow_id)
    return Reach.of(await _matched(call, narrowed(listing, store.dead_letters, request.filter, _FILTERED)))


reach.register("EnrollmentService.RedriveDeadLetters", _reach)


async def _check_workflow(workflow_id: str, call: Call) -> None:
    if workflow_id and await workflows.get(call.tx, workflow_id) is None:
        raise NotFound(kind="workflow", id=workflow_id)


async def _newest(call: Call, held: Iterable[Enrollment]) -> set[str]:
    """Return which of these are the latest of their contact and key: others have been entered again since."""
    by_workflow: dict[str, list[Enrollment]] = {}
    for enrollment in held:
        by_workflow.setdefault(enrollment.workflow_id, []).append(enrollment)
    found: set[str] = set()
    for workflow_id, some in by_workflow.items():
        identities = [(one.contact_id, one.key) for one in some]
        standing = await enrollments.standing(call.tx, call.caller.org_id, workflow_id, identities)
        found |= {row.id for row in standing.values()}
    return found


def _refusal(row: Row[Any] | None, held: dict[str, Any], newest: set[str]) -> str:
    if row is None:
        return "NOT_FOUND"
    if row.state != LetterState.OPEN:
        return f"ALREADY_{row.state.upper()}"
    enrollment = held.get(row.enrollment_id)
    if enrollment is None:
        return "ENROLLMENT_DELETED"
    if enrollment.state is not State.FAILED or enrollment.step_id != row.step_id:
        return "ENROLLMENT_WENT_ON"
    if enrollment.id not in newest:
        return "ENTERED_AGAIN"
    return ""


def _message(row: Row[Any]) -> pb.DeadLetter:
    return pb.DeadLetter(
        id=row.id,
        enrollment_id=row.enrollment_id,
        workflow_id=row.workflow_id,
        version=row.version,
        contact_id=row.contact_id,
        step_id=row.step_id,
        kind=row.kind,
        failure=row.failure,
        reason=row.reason,
        attempts=row.attempts,
        state=row.state,
        create_time=to_timestamp(row.created_at),
        redrive_time=to_timestamp(row.redriven_at),
    )
