"""Handlers of EnrollmentService: what failed for good, and letting it be tried again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select

from core.domain.enrollment import Enrollment, Redriven, State
from core.domain.errors import NotFound, invalid
from core.engine.driver import Move
from core.rpc import outcomes
from core.rpc.admission import reach
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.listing import listed, named_in, narrowed
from core.store.messages import outgoing
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
    """Try again what failed, letter by letter.

    An enrollment that failed goes on from its step; of one that went on, that step alone is carried out; a message goes
    out once more. Raises Invalid, NotFound, and PreviewStale where a preview showed other letters.
    """
    by_filter = bool(request.filter or request.workflow_id)
    if bool(request.dead_letter_ids) == by_filter:
        hint = "Send dead_letter_ids, or workflow_id and filter."
        raise invalid("dead_letter_ids", "CONFLICT", "say which letters, in one way", hint)
    await _check_workflow(request.workflow_id, call)
    wanted = await _matched(call, request) if by_filter else list(dict.fromkeys(request.dead_letter_ids))
    letters = await store.by_id(call.tx, wanted)
    results = {
        letter_id: pb.RedriveResult(
            dead_letter_id=letter_id, enrollment_id=letters[letter_id].enrollment_id if letter_id in letters else ""
        )
        for letter_id in wanted
    }
    for some in _rounds(wanted, letters):
        await _redrive(call, some, letters, results)
    redriven = [letter_id for letter_id, result in results.items() if result.redriven]
    return pb.RedriveDeadLettersResponse(
        results=results.values(),
        redriven_count=len(redriven),
        remaining_count=await store.count(call.tx, _statement(request)) if by_filter else 0,
        preview_etag=outcomes.settle(request, redriven, "the letters that are tried again"),
    )


def _rounds(wanted: Sequence[str], letters: Mapping[str, Row[Any]]) -> Iterator[list[str]]:
    """Yield letters in rounds, the oldest first, no enrollment twice in one: the second meets what the first made."""
    left = list(wanted)
    while left:
        taken: dict[str, str] = {}
        for letter_id in left:
            taken.setdefault(letters[letter_id].enrollment_id if letter_id in letters else letter_id, letter_id)
        yield list(taken.values())
        left = [letter_id for letter_id in left if letter_id not in taken.values()]


async def _redrive(
    call: Call, some: Sequence[str], letters: Mapping[str, Row[Any]], results: Mapping[str, pb.RedriveResult]
) -> None:
    """Try some letters again, of which no two share an enrollment, and write down what became of each."""
    rows = [letters[letter_id] for letter_id in some if letter_id in letters]
    found = await claims.claim_by_id(call.tx, {(call.caller.org_id, row.enrollment_id) for row in rows})
    held = {enrollment.id: enrollment for enrollment in found}
    newest = await _newest(call, held.values())
    paused = {one: await workflows.is_paused(call.tx, one) for one in sorted({row.workflow_id for row in rows})}
    there = await store.contacts_there(call.tx, {one.contact_id for one in held.values()})
    before = {row.id for row in await store.of_steps(call.tx, held)}
    moves, messages = [], {}
    for letter_id in some:
        row = letters.get(letter_id)
        results[letter_id].reason = _refusal(row, held, there, newest, paused)
        if row is None or results[letter_id].reason:
            continue
        if row.message_id:
            messages[row.message_id] = letter_id
        else:
            alone = row.step_id if row.state == LetterState.PASSED else ""
            moves.append(Move(held[row.enrollment_id], Redriven(call.caller.principal_id, alone)))
    moved = await call.parts.engine.move(call.tx, moves)
    sent = await outgoing.send_again(call.tx, messages) if messages else set()
    after = {row.enrollment_id: row for row in await store.of_steps(call.tx, held) if row.id not in before}
    for row in (row for row in rows if not results[row.id].reason):
        result = results[row.id]
        result.redriven = row.message_id in sent if row.message_id else row.enrollment_id in moved
        if not result.redriven:
            result.reason = "MESSAGE_GONE" if row.message_id else "STEP_WAITS"
            continue
        standing = await enrollments.get(call.tx, row.enrollment_id)
        if standing is not None:
            result.state = pb.EnrollmentState.Value(f"ENROLLMENT_STATE_{standing.state.name}")
        if row.enrollment_id in after:
            result.new_dead_letter_id = after[row.enrollment_id].id
            result.failure = after[row.enrollment_id].reason
    await store.redriven(call.tx, [row.id for row in rows if results[row.id].redriven], call.caller.principal_id)


def _statement(request: pb.RedriveDeadLettersRequest) -> Select[Any]:
    """Return the query of the letters that a call by filter means: the open ones, unless it asks for a state."""
    statement = narrowed(store.listing(request.workflow_id), store.dead_letters, request.filter, _FILTERED)
    asks = "state" in named_in(request.filter, _FILTERED)
    states = (LetterState.OPEN, *((LetterState.PASSED,) if asks else ()))
    return statement.where(store.dead_letters.c.state.in_(states))


async def _matched(call: Call, request: pb.RedriveDeadLettersRequest) -> list[str]:
    """Return the letters that one call takes of those that its filter finds."""
    oldest = _statement(request).order_by(store.dead_letters.c.id).limit(_AT_ONCE)
    return [row.id for row in await call.tx.all(oldest)]


async def _reach(call: Call, request: pb.RedriveDeadLettersRequest) -> Reach | None:
    if request.dead_letter_ids:
        return None
    return Reach.of(await _matched(call, request))


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


def _refusal(
    row: Row[Any] | None,
    held: Mapping[str, Enrollment],
    there: set[str],
    newest: set[str],
    paused: Mapping[str, bool],
) -> str:
    """Return why a letter cannot be redriven; empty where it can."""
    if row is None:
        return "NOT_FOUND"
    if row.state == LetterState.REDRIVEN:
        return "ALREADY_REDRIVEN"
    enrollment = held.get(row.enrollment_id)
    if enrollment is None:
        return "ENROLLMENT_DELETED"
    if enrollment.state is State.CANCELLED:
        return "ENROLLMENT_CANCELLED"
    if enrollment.contact_id not in there:
        return "CONTACT_GONE"
    if row.message_id:
        return ""
    if row.state == LetterState.PASSED:
        # What acts alone does not stand still where a pause would hold it.
        return "WORKFLOW_PAUSED" if paused[row.workflow_id] else ""
    if enrollment.state is not State.FAILED or enrollment.step_id != row.step_id:
        return "ENROLLMENT_WENT_ON"
    return "" if enrollment.id in newest else "ENTERED_AGAIN"


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
        message_id=row.message_id,
        state=row.state,
        create_time=to_timestamp(row.created_at),
        redrive_time=to_timestamp(row.redriven_at),
    )
