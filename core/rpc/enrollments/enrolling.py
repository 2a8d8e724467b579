"""Bringing contacts into a workflow: the shared middle of bulk enrollment and of executions."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from core.domain.errors import DripstoneError, Invalid, NotFound, NotPublished, Violation
from core.domain.records import identity
from core.domain.records.fields import validate_fields
from core.domain.workflow.version import Version
from core.engine.driver import Entered, Entry
from core.rpc.admission import shape
from core.rpc.call import Call
from core.rpc.convert import from_struct
from core.rpc.enrollments import previewed
from core.store.records import upserts
from core.store.records.upserts import ContactCandidate, Resolved
from core.store.workflows import workflows
from core.store.workflows.workflows import WorkflowState
from dripstone.v1 import enrollment_pb2 as pb

OUTCOMES = {
    "enrolled": pb.ENROLL_OUTCOME_ENROLLED,
    "already_enrolled": pb.ENROLL_OUTCOME_ALREADY_ENROLLED,
    "duplicate_in_request": pb.ENROLL_OUTCOME_DUPLICATE_IN_REQUEST,
    "suppressed": pb.ENROLL_OUTCOME_SUPPRESSED,
    "not_eligible": pb.ENROLL_OUTCOME_NOT_ELIGIBLE,
    "invalid": pb.ENROLL_OUTCOME_INVALID,
}
_MESSAGES = {
    "already_enrolled": "The contact is in this workflow, or was, and its re-entry policy holds it back. "
    "Follow the enrollment named here, or give a key of its own.",
    "duplicate_in_request": "The same contact stands earlier in this call. Send it once, or give each a key.",
}
_FIELDS = ("email", "first_name", "last_name", "company_name", "phone", "timezone")


class NotEnrolled(DripstoneError):
    """The contact cannot run this workflow: {why}."""

    reason = "NOT_ENROLLED"
    quotes = ("why",)
    hint = "Change what keeps the contact out, then run it again."


async def active_version(call: Call, workflow_id: str) -> Version:
    """Return the newest version of a workflow that takes enrollments; of a paused one they wait at the entry.

    Raises NotFound, and NotPublished for a draft or an archived workflow.
    """
    row = await workflows.get(call.tx, workflow_id)
    if row is None:
        raise NotFound(kind="workflow", id=workflow_id)
    if row.state not in (WorkflowState.ACTIVE, WorkflowState.PAUSED):
        raise NotPublished(workflow_id=workflow_id, state=row.state)
    return await call.parts.versions.load(call.tx, call.caller.org_id, workflow_id, row.published_version)


async def enroll(request: pb.EnrollContactsRequest, call: Call) -> pb.EnrollContactsResponse:
    """Enroll the contacts of a bulk call, one answer each."""
    if problem := _bad_timezone(request.timezone):
        raise problem
    version = await active_version(call, request.workflow_id)
    seen = previewed.checked(request, version)
    results = await enter_contacts(
        call, version, request.contacts, request.timezone, path="contacts", left_out=seen.left_out
    )
    ids = [result.enrollment_id for result in results if result.outcome == pb.ENROLL_OUTCOME_ENROLLED]
    answer = pb.EnrollContactsResponse(enrollment_ids=ids, created_count=len(ids), results=results)
    if request.validate_only:
        left_out = [one.index for one in results if one.outcome != pb.ENROLL_OUTCOME_ENROLLED]
        answer.preview_etag = previewed.etag_of(request, version, left_out)
    return answer


async def enter_contacts(
    call: Call,
    version: Version,
    contacts: Sequence[pb.ContactInput],
    timezone: str,
    *,
    path: str,
    left_out: Collection[int] = (),
) -> list[pb.EnrollResult]:
    """Find or make each contact, enroll those that may enter, and say of each what became of it.

    `path` is where the caller wrote the contacts; what is wrong with the third is said of `path[2]`. Those at the
    positions `left_out` are not let in.
    """
    results = [pb.EnrollResult(index=index) for index in range(len(contacts))]
    candidates: list[tuple[int, ContactCandidate]] = []
    for index, contact in enumerate(contacts):
        at = path if path == "input" else f"{path}[{index}]"
        violations: Sequence[Violation] = shape.problems(contact, f"{at}.")
        candidate = ContactCandidate({})
        if not violations:
            candidate, violations = _candidate(contact, timezone, at)
        if violations:
            _refuse(results[index], violations[0])
        else:
            candidates.append((index, candidate))
    resolved = await upserts.resolve_contacts(
        call.tx, [candidate for _, candidate in candidates], actor=call.caller.principal_id, cause=call.cause
    )
    known: list[tuple[int, Resolved]] = []
    for (index, _), found in zip(candidates, resolved, strict=True):
        if found.violation is not None:
            _refuse(results[index], found.violation)
        else:
            known.append((index, found))
    entries = [
        Entry(
            found.contact_id,
            call.caller.principal_id,
            contacts[index].key,
            from_struct(contacts[index].variables),
            left_out=index in left_out,
        )
        for index, found in known
    ]
    entered = await call.parts.engine.enter(call.tx, call.caller.org_id, version, entries)
    for (index, found), outcome in zip(known, entered, strict=True):
        _answer(results[index], found.contact_id, outcome, path if path == "input" else f"{path}[{index}]")
    call.tx.spend("enrollments", sum(one.outcome == pb.ENROLL_OUTCOME_ENROLLED for one in results))
    return results


def refusal(result: pb.EnrollResult) -> DripstoneError:
    """Return the error for a single contact that was not enrolled."""
    if result.outcome == pb.ENROLL_OUTCOME_INVALID:
        return Invalid(Violation(result.field, result.reason, result.message))
    return NotEnrolled(why=(result.message or result.reason).rstrip("."))


def _candidate(contact: pb.ContactInput, timezone: str, path: str) -> tuple[ContactCandidate, Sequence[Violation]]:
    given: dict[str, Any] = {name: getattr(contact, name) for name in _FIELDS if getattr(contact, name)}
    fields, violations = validate_fields("contact", given, path)
    more, wrong = validate_fields("contact", from_struct(contact.fields), f"{path}.fields")
    identifiers = []
    for kind, value in _external(contact):
        identifier = identity.normalise(kind, value)
        if identifier is None:
            hint = "Leave it out, or send the real one."
            wrong.append(Violation(path, "JUNK_IDENTIFIER", f"{value[:80]!r} identifies nobody", hint))
        else:
            identifiers.append(identifier)
    merged: Mapping[str, Any] = {**more, **fields}
    if timezone and not contact.timezone and not contact.contact_id:
        merged = {"timezone": timezone, **merged}
    return ContactCandidate(merged, tuple(identifiers), contact.contact_id, path), [*violations, *wrong]


def _external(contact: pb.ContactInput) -> list[tuple[str, str]]:
    found = []
    if contact.HasField("external_ref"):
        found.append((f"ext:{contact.external_ref.system}", contact.external_ref.id))
    if contact.lead_ref:
        found.append(("ext:lead_ref", contact.lead_ref))
    return found


def _bad_timezone(timezone: str) -> Invalid | None:
    _, violations = validate_fields("contact", {"timezone": timezone} if timezone else {}, "")
    return Invalid(*violations) if violations else None


def _refuse(result: pb.EnrollResult, violation: Violation) -> None:
    result.outcome = pb.ENROLL_OUTCOME_INVALID
    result.field = violation.field
    result.nearest = violation.nearest
    result.reason = violation.reason
    result.message = f"{violation.message.rstrip('.')}. {violation.hint}".strip()


def _answer(result: pb.EnrollResult, contact_id: str, entered: Entered, path: str) -> None:
    result.outcome = OUTCOMES[entered.outcome]
    result.contact_id = contact_id
    result.enrollment_id = entered.enrollment_id
    result.reason = entered.reason
    result.message = entered.message or _MESSAGES.get(entered.outcome, "")
    result.field = entered.field and f"{path}.{entered.field}"
