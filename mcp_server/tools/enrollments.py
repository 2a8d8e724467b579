"""What the enrollment tools take and answer: contacts, what became of each, and why one stands where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dripstone.v1 import enrollment_pb2, record_pb2
from dripstone.v1.client import ApiError, FieldViolation
from dripstone.v1.enrollment_pb2 import EnrollmentState, EnrollOutcome, EnrollResult
from mcp_server.refusals import Unfit
from mcp_server.tool import Answer, WriteAnswer, lines
from mcp_server.values import clip, commit_of, instant, invocation, to_struct

SHOWN = 20
"""Enrollments, and contacts left out, that one answer lists; the rest are counted."""


class ExternalRef(BaseModel):
    """A contact's name in another system."""

    model_config = ConfigDict(extra="forbid")

    system: str
    id: str


class Contact(BaseModel):
    """A contact to enroll: email, contact_id, external_ref or lead_ref says who."""

    model_config = ConfigDict(extra="forbid")

    email: str = ""
    contact_id: str = ""
    first_name: str = ""
    last_name: str = ""
    company_name: str = ""
    lead_ref: str = ""
    external_ref: ExternalRef | None = None
    phone: str = ""
    timezone: str = Field(default="", description="IANA")
    fields: dict[str, Any] = Field(default_factory=dict, description="more of the contact")
    variables: dict[str, Any] = Field(default_factory=dict, description="vars of the steps")
    key: str = Field(default="", description="apart from the contact's other enrollments")


class Enrolled(BaseModel):
    """A contact that was enrolled."""

    enrollment_id: str
    contact_id: str


class LeftOut(BaseModel):
    """A contact that was not enrolled, and why."""

    index: int
    contact: str
    outcome: str
    reason: str = ""
    field: str = ""
    message: str = ""
    enrollment_id: str = Field(default="", description="the enrollment in the way")


class Send(BaseModel):
    """A message that would leave."""

    contact: str
    step_id: str
    time: str
    outcome: str = Field(default="", description="held or skipped, where it would not leave then")


class Collision(BaseModel):
    """Another workflow that a contact is in."""

    contact: str
    workflow_id: str
    enrollment_id: str
    waits_for: str = ""
    until: str = ""


class Disqualified(BaseModel):
    """A contact whose newest lead was disqualified."""

    contact: str
    lead_id: str


class Enrollment(WriteAnswer):
    """What became of each contact."""

    workflow_id: str
    enrolled_count: int = Field(description="in a preview: would be enrolled")
    counts: dict[str, int] = Field(description="contacts by outcome")
    enrolled: list[Enrolled] = Field(default_factory=list)
    left_out: list[LeftOut] = Field(default_factory=list)
    not_shown: int = Field(default=0, description="results beyond those listed")
    sends: list[Send] = Field(default_factory=list, description="of a preview: when the first messages would leave")
    also_leaves: list[str] = Field(default_factory=list, description="of a preview: webhooks, each when it first would")
    collisions: list[Collision] = Field(default_factory=list, description="of a preview: other workflows they are in")
    disqualified: list[Disqualified] = Field(default_factory=list, description="of a preview: ask before you commit")
    version: str = Field(default="", description="of a preview, for if_version")
    basis: str = Field(default="", description="what the times are worked out from")

    def text(self) -> str:
        """Return the counts, then who was enrolled and who was left out."""
        total = sum(self.counts.values())
        what = f"{self.enrolled_count} of {total} into {self.workflow_id}"
        out = [
            f"- left out: {o.contact} {o.outcome}"
            + "".join(f" {part}" for part in (o.reason, o.field, o.message, o.enrollment_id) if part)
            for o in self.left_out
        ]
        enrolled = [f"+ {e.enrollment_id} {e.contact_id}" for e in self.enrolled]
        more = f"… {self.not_shown} more" if self.not_shown else ""
        also = [
            f"! {c.contact} is in {c.workflow_id} already: {c.enrollment_id}"
            + (f", until {c.until}" if c.until else "")
            for c in self.collisions
        ]
        no_leads = [f"! {d.contact}: {d.lead_id} was disqualified" for d in self.disqualified]
        sends = [f"> {s.contact} {s.step_id} {s.outcome or 'leaves'} {s.time}" for s in self.sends]
        basis = f"leaves: {self.basis}" if self.sends or self.also_leaves else ""
        leaves = [f"> also leaves: {one}" for one in self.also_leaves]
        head = self.heading(f"would enroll {what}", f"enrolled {what}")
        return lines(head, *enrolled, *out, more, *no_leads, *also, basis, *sends, *leaves)


def to_input(contact: Contact) -> enrollment_pb2.ContactInput:
    """Return a contact in the shape of the contract."""
    made = enrollment_pb2.ContactInput(
        **contact.model_dump(exclude={"external_ref", "fields", "variables"}),
        fields=to_struct(contact.fields) if contact.fields else None,
        variables=to_struct(contact.variables) if contact.variables else None,
    )
    if contact.external_ref:
        made.external_ref.CopyFrom(record_pb2.ExternalRef(**contact.external_ref.model_dump()))
    return made


def left_out_of(result: EnrollResult, outcome: str, contacts: list[Contact], mode: str) -> LeftOut:
    """Return who was not enrolled and why, named as the caller named them."""
    # In a preview the enrollment in the way of a duplicate, and a new contact, do not exist.
    exists = mode == "commit" or result.outcome == EnrollOutcome.ENROLL_OUTCOME_ALREADY_ENROLLED
    given = contacts[result.index] if 0 <= result.index < len(contacts) else Contact()
    return LeftOut(
        index=result.index,
        contact=clip(named(given) or (result.contact_id if exists else ""), 80),
        outcome=outcome,
        reason=result.reason,
        field=result.field,
        message=clip(result.message),
        enrollment_id=result.enrollment_id if exists else "",
    )


def named(contact: Contact) -> str:
    """Return a contact as the caller named it."""
    reference = contact.external_ref
    return (
        contact.email
        or contact.contact_id
        or contact.lead_ref
        or (f"{reference.system}:{reference.id}" if reference else "")
    )


def after_enroll(
    answer: Enrollment, contacts: list[Contact], timezone: str, reason: str, results: Sequence[EnrollResult]
) -> str:
    """Return the call that follows: the commit of a preview, or a look at the first enrollment."""
    if answer.mode == "preview" and answer.enrolled_count:
        commit = commit_of(
            "enroll",
            workflow_id=answer.workflow_id,
            contacts=[contact.model_dump(exclude_defaults=True) for contact in contacts],
            timezone=timezone,
            if_version=answer.version,
            reason=reason,
        )
        asked = "Somebody decided against these leads: only if the person wants them all the same, "
        return (asked if answer.disqualified else "") + commit
    left = [one.enrollment_id for one in answer.left_out if one.enrollment_id]
    existing = [one.enrollment_id for one in answer.enrolled] + left
    if existing:
        return invocation("get-enrollment", enrollment_id=existing[0])
    # In a preview only those contacts exist for sure that the caller named by their id.
    there = [one.contact_id for one in results if answer.mode == "commit" or contacts[one.index].contact_id]
    if known := [one for one in there if one]:
        why = invocation("explain-enrollment", workflow_id=answer.workflow_id, contact_id=known[0])
        return f"Show the person who is left out; why one is: {why}"
    return "Show the person who is left out."


def check_any_fits(results: Sequence[EnrollResult]) -> None:
    """Refuse a call none of whose contacts could be read. Raises Unfit."""
    if any(one.outcome != EnrollOutcome.ENROLL_OUTCOME_INVALID for one in results):
        return
    violations = tuple(FieldViolation(one.field, one.reason, clip(one.message, 300), one.nearest) for one in results)
    hint = "Nobody was enrolled, and nothing was changed."
    raise Unfit(ApiError("INVALID_ARGUMENT", "INVALID_ARGUMENT", "", hint, violations))


class Entry(BaseModel):
    """One thing that happened to an enrollment."""

    seq: int
    step_id: str = ""
    kind: str = ""
    outcome: str
    exit: str = ""
    reason: str = ""
    effects: list[str] = Field(default_factory=list)
    time: str = ""


class EnrollmentAnswer(Answer):
    """One enrollment, explained."""

    enrollment_id: str
    workflow_id: str
    version: int
    contact_id: str
    state: str
    step_id: str = ""
    why: str = ""
    what_next: str = ""
    waiting_for: str = ""
    waiting_until: str = ""
    end_reason: str = ""
    trace: list[Entry] = Field(default_factory=list, description="the last entries, oldest first")

    def text(self) -> str:
        """Return state, why, what next and the trace."""
        trace = [
            f"{e.seq}. {e.time} {e.step_id or e.kind} {e.outcome}{f' -> {e.exit}' if e.exit else ''}: {e.reason}"
            for e in self.trace
        ]
        head = f"{self.enrollment_id} {self.state} at {self.step_id or 'entry'} of {self.workflow_id} v{self.version}"
        return lines(head, f"why: {self.why}", f"what next: {self.what_next}", *trace)


def follow(enrollment: enrollment_pb2.Enrollment) -> str:
    """Return the call that shows what becomes of an enrollment; of one that waits, what for and until when."""
    match enrollment.state:
        case EnrollmentState.ENROLLMENT_STATE_AWAITING_APPROVAL:
            call = invocation("list-approvals", state="pending")
            return f"Tell the person that another principal must decide; {call}"
        case EnrollmentState.ENROLLMENT_STATE_ACTIVE:
            until = instant(enrollment.waiting.until)
            if not until:
                return "Nothing to do: it moves on by itself. Come back when the person asks; do not poll."
            what = waiting_for(enrollment)
            wait = "it waits until" if what in ("", "timer") else f"it waits for {what} until"
            return f"Nothing to do: {wait} {until}. Come back then; do not poll."
        case _:
            return invocation("get-record", record_id=enrollment.contact_id)


def waiting_for(enrollment: enrollment_pb2.Enrollment) -> str:
    """Return what an enrollment waits for; empty when it waits for nothing."""
    return " ".join(filter(None, (enrollment.waiting.kind, enrollment.waiting.subject)))
