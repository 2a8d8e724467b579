"""The tool that tells why a contact is in a workflow or is kept out of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from dripstone.v1 import enrollment_pb2, record_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import EnrollmentState
from mcp_server.refusals import Refusal, Refused
from mcp_server.tool import Answer, Cursor, lines
from mcp_server.tools.enrollments import follow
from mcp_server.tools.read import READ
from mcp_server.values import clip, compact, instant, invocation, page_after, word

SHOWN_RULES, SHOWN_ENROLLMENTS = 12, 20
_HISTORY = ("trigger", "attempt", "enrollment")
"""Rules that tell what has or has not happened; whoever enrolls by hand is kept out by the others."""


class Rule(BaseModel):
    """A rule of entry, and what it says of the contact."""

    rule: str
    holds: bool
    message: str = ""

    def told(self) -> str:
        """Return what the rule does."""
        if self.holds:
            return "holds"
        return "so far" if self.rule in _HISTORY else "KEEPS IT OUT"


class Standing(BaseModel):
    """An enrollment of a contact."""

    enrollment_id: str
    workflow_id: str
    state: str
    step_id: str = ""
    waiting_until: str = ""
    end_reason: str = ""

    def told(self) -> str:
        """Return where it stands."""
        until = f" until {self.waiting_until}" if self.waiting_until else ""
        why = f": {compact(self.end_reason)}" if self.end_reason else ""
        return f"- {self.enrollment_id} {self.workflow_id} {self.state} {self.step_id}".rstrip() + until + why


class Explanation(Answer):
    """Why a contact is in a workflow, or is not."""

    workflow_id: str = ""
    contact_id: str
    enrolled: bool
    enrollment_id: str = ""
    why: str = ""
    what_next: str = ""
    reasons: list[Rule] = Field(default_factory=list)
    enrollments: list[Standing] = Field(default_factory=list, description="all, newest first, where none was asked for")

    def text(self) -> str:
        """Return the answer in a sentence, then rule by rule."""
        if not (self.workflow_id or self.enrollment_id):
            rows = [one.told() for one in self.enrollments]
            return lines(
                f"{self.contact_id} is or was in these workflows:" if rows else f"{self.contact_id} was in none.", *rows
            )
        where = "is in" if self.enrolled else "is not in"
        rules = [f"- {r.told()} {r.rule}: {r.message}" for r in self.reasons]
        following = f"what next: {self.what_next}" if self.what_next else ""
        return lines(f"{self.contact_id} {where} {self.workflow_id} {self.enrollment_id}", self.why, following, *rules)


@READ.tool(
    "explain-enrollment",
    "Why is a contact (not) in a workflow",
    "EnrollmentService.WhyNot",
    "EnrollmentService.ExplainEnrollment",
    "EnrollmentService.ListEnrollments",
    read_only=True,
)
async def explain_enrollment(
    client: Client,
    workflow_id: Annotated[str, Field(description="empty: every one the contact is or was in")] = "",
    contact_id: Annotated[str, Field(description="cnt_…, or email")] = "",
    email: str = "",
    enrollment_id: Annotated[str, Field(description="enr_… alone instead")] = "",
    cursor: Cursor = "",
) -> Explanation:
    """Tell why a contact was left out of a flow or kept from being added, by rule; or which campaigns they are in."""
    if enrollment_id:
        return await _of_enrollment(client, enrollment_id)
    if bool(contact_id) == bool(email):
        raise Refused(
            Refusal(
                reason="INVALID_ARGUMENT",
                message="contact_id or email is required; or enrollment_id alone.",
                field="contact_id",
                next=invocation("find-records", type="contact"),
            )
        )
    if not workflow_id:
        return await _everywhere(client, contact_id or await _contact(client, email), cursor)
    found = await client.enrollments.WhyNot(
        enrollment_pb2.WhyNotRequest(workflow_id=workflow_id, contact_id=contact_id, email=email)
    )
    told = Explanation(
        workflow_id=workflow_id,
        contact_id=found.contact_id,
        enrolled=found.enrolled,
        enrollment_id=found.enrollment_id,
        why=clip(found.why, 600),
        reasons=[
            Rule(rule=reason.rule, holds=reason.holds, message=clip(reason.message))
            for reason in sorted(found.reasons, key=lambda reason: reason.holds)[:SHOWN_RULES]
        ],
    )
    if found.enrolled:
        there = await _of_enrollment(client, found.enrollment_id)
        return told.model_copy(update={"why": there.why or told.why, "what_next": there.what_next, "next": there.next})
    if all(reason.holds or reason.rule in _HISTORY for reason in found.reasons):
        contacts = [{"contact_id": found.contact_id}]
        by_hand = invocation("enroll", workflow_id=workflow_id, contacts=contacts, mode="preview")
        following = f"Nothing keeps it out, nobody has started it. If the person wants it, by hand: {by_hand}"
    else:
        following = "Tell the person what keeps the contact out; do not work around consent or suppression."
    return told.model_copy(update={"next": following})


async def _contact(client: Client, email: str) -> str:
    request = record_pb2.ListRecordsRequest(type="contact", filter=f"email = {compact(email)}", page_size=1)
    found = (await client.records.ListRecords(request)).records
    if not found:
        message = f"No contact has the e-mail {compact(email[:320])}."
        raise Refused(Refusal("NOT_FOUND", message, "email", next=invocation("find-records", query=email)))
    return found[0].id


async def _everywhere(client: Client, contact_id: str, cursor: str) -> Explanation:
    """Return every enrollment of a contact, page by page."""
    request = enrollment_pb2.ListEnrollmentsRequest(
        filter=f"contact_id = {compact(contact_id)}", page_size=SHOWN_ENROLLMENTS, page_token=cursor
    )
    page = await client.enrollments.ListEnrollments(request)
    found = [
        Standing(
            enrollment_id=one.id,
            workflow_id=one.workflow_id,
            state=word(EnrollmentState.Name(one.state), "ENROLLMENT_STATE_"),
            step_id=one.step_id,
            waiting_until=instant(one.waiting.until),
            end_reason=clip(one.end_reason, 120),
        )
        for one in page.enrollments
    ]
    return Explanation(
        contact_id=contact_id,
        enrolled=any(one.state in ("active", "awaiting_approval") for one in found),
        enrollments=found,
        more=page_after(page.next_page_token, "explain-enrollment", contact_id=contact_id),
        next=invocation("get-enrollment", enrollment_id=found[0].enrollment_id)
        if found
        else invocation("list-workflows"),
    )


async def _of_enrollment(client: Client, enrollment_id: str) -> Explanation:
    found = await client.enrollments.ExplainEnrollment(
        enrollment_pb2.ExplainEnrollmentRequest(enrollment_id=enrollment_id)
    )
    enrollment = found.enrollment
    over = enrollment.state >= EnrollmentState.ENROLLMENT_STATE_COMPLETED
    return Explanation(
        workflow_id=enrollment.workflow_id,
        contact_id=enrollment.contact_id,
        enrolled=not over,
        enrollment_id=enrollment.id,
        why=clip(found.why, 600),
        what_next=clip(found.next, 600),
        next=follow(enrollment),
    )
