"""The tool that takes a contact out of a workflow."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dripstone.v1 import enrollment_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import EnrollmentState
from mcp_server.tool import IdempotencyKey, Mode, Previewed, Reason, WriteAnswer, committing, lines, settled
from mcp_server.tools.operate import OPERATE
from mcp_server.tools.records import Change
from mcp_server.values import commit_of, etag_of, invocation, version_of, word


class Ended(WriteAnswer):
    """An enrollment that was ended."""

    enrollment_id: str
    workflow_id: str
    contact_id: str
    changes: list[Change] = Field(default_factory=list)
    version: str = Field(default="", description="of a preview, for if_version")

    def text(self) -> str:
        """Return what was ended, where it stood."""
        what = f"{self.enrollment_id} of {self.contact_id} in {self.workflow_id}"
        states = [f"- {change.field}: {change.old} -> {change.new}" for change in self.changes]
        return lines(self.heading(f"would end {what}", f"ended {what}"), *states)


@OPERATE.tool(
    "end-enrollment",
    "End an enrollment: stop, remove",
    "EnrollmentService.CancelEnrollment",
    "EnrollmentService.GetEnrollment",
    destructive=True,
    idempotent=True,
)
async def end_enrollment(
    client: Client,
    enrollment_id: Annotated[str, Field(description="enr_…")],
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> Ended:
    """Stop mailing a contact: take, pull or remove them out of a sequence, campaign or cadence. No way back."""
    before = await client.enrollments.GetEnrollment(enrollment_pb2.GetEnrollmentRequest(enrollment_id=enrollment_id))
    preview, key = mode == "preview", committing(mode, idempotency_key)
    if preview and not if_version:
        if_version = version_of(before.etag)  # the commit that follows is refused where it has moved since
    after, replayed = await settled(
        client.enrollments.CancelEnrollment(
            enrollment_pb2.CancelEnrollmentRequest(
                enrollment_id=enrollment_id,
                reason=reason,
                etag=etag_of(if_version),
                request_id=key,
                validate_only=preview,
            )
        )
    )
    following = invocation("get-record", record_id=after.contact_id)
    if preview:
        following = commit_of("end-enrollment", enrollment_id=enrollment_id, if_version=if_version, reason=reason)
    return Ended(
        mode=mode,
        replayed=replayed,
        idempotency_key=key,
        enrollment_id=enrollment_id,
        workflow_id=after.workflow_id,
        contact_id=after.contact_id,
        changes=[Change(field="state", old=_state(before), new=_state(after))],
        version=if_version if preview else "",
        next=following,
    )


def _state(enrollment: enrollment_pb2.Enrollment) -> str:
    state = word(EnrollmentState.Name(enrollment.state), "ENROLLMENT_STATE_")
    return f"{state} at {enrollment.step_id}" if enrollment.step_id and state.startswith(("active", "aw")) else state
