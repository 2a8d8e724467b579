"""The tool that tells why a contact is in a workflow or is kept out of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from dripstone.v1 import enrollment_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import EnrollmentState
from mcp_server.refusals import Refusal, Refused
from mcp_server.tool import Answer, lines
from mcp_server.tools.enrollments import follow
from mcp_server.tools.read import READ
from mcp_server.values import clip, invocation

SHOWN_RULES = 12


class Rule(BaseModel):
    """A rule of entry, and what it says of the contact."""

    rule: str
    holds: bool
    message: str = ""


class Explanation(Answer):
    """Why a contact is in a workflow, or is not."""

    workflow_id: str
    contact_id: str
    enrolled: bool
    enrollment_id: str = ""
    why: str = ""
    what_next: str = ""
    reasons: list[Rule] = Field(default_factory=list)

    def text(self) -> str:
        """Return the answer in a sentence, then rule by rule."""
        where = "is in" if self.enrolled else "is not in"
        rules = [f"- {'holds' if r.holds else 'KEEPS IT OUT'} {r.rule}: {r.message}" for r in self.reasons]
        following = f"what next: {self.what_next}" if self.what_next else ""
        return lines(f"{self.contact_id} {where} {self.workflow_id} {self.enrollment_id}", self.why, following, *rules)


@READ.tool(
    "explain-enrollment",
    "Why is a contact (not) in a workflow",
    "EnrollmentService.WhyNot",
    "EnrollmentService.ExplainEnrollment",
    read_only=True,
)
async def explain_enrollment(
    client: Client,
    workflow_id: str = "",
    contact_id: Annotated[str, Field(description="cnt_…, or email")] = "",
    email: str = "",
    enrollment_id: Annotated[str, Field(description="enr_… alone instead")] = "",
) -> Explanation:
    """Tell why a contact is in a workflow or is kept out of it, rule by rule, and what comes next and when."""
    if enrollment_id:
        return await _of_enrollment(client, enrollment_id)
    if not workflow_id or bool(contact_id) == bool(email):
        raise Refused(
            Refusal(
                reason="INVALID_ARGUMENT",
                message="workflow_id, and contact_id or email, are required; or enrollment_id alone.",
                field="contact_id" if workflow_id else "workflow_id",
                next=invocation("find-records", type="contact") if workflow_id else invocation("list-workflows"),
            )
        )
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
    if all(reason.holds for reason in found.reasons):
        contacts = [{"contact_id": found.contact_id}]
        following = invocation("enroll", workflow_id=workflow_id, contacts=contacts, mode="preview")
    else:
        following = "Tell the person what keeps the contact out; do not work around consent or suppression."
    return told.model_copy(update={"next": following})


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
