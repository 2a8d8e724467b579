"""Short words for stories about workflows: publish, enroll, tell an event, look where somebody stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dripstone.v1 import enrollment_pb2 as pb
from dripstone.v1 import event_pb2, workflow_pb2
from dripstone.v1.client import Client


@dataclass(frozen=True, slots=True)
class Story:
    """An organization in which workflows run."""

    client: Client

    async def begin(self) -> None:
        """Make the source that events come from."""
        request = event_pb2.CreateSourceRequest(source_id="app", display_name="App", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        await self.client.events.CreateSource(request)

    async def publish(self, workflow_id: str, source: str) -> int:
        """Publish a workflow, or its next version, and return the version."""
        try:
            made = await self.client.workflows.CreateWorkflow(
                workflow_pb2.CreateWorkflowRequest(workflow_id=workflow_id, source=source, publish=True)
            )
        except Exception as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
            await self.client.workflows.UpdateWorkflow(
                workflow_pb2.UpdateWorkflowRequest(workflow_id=workflow_id, source=source)
            )
            made = await self.client.workflows.PublishWorkflow(
                workflow_pb2.PublishWorkflowRequest(workflow_id=workflow_id)
            )
        return made.published_version

    async def enroll(self, workflow_id: str, *emails: str, **fields: Any) -> list[str]:
        """Enroll contacts and return their enrollments."""
        contacts = []
        for email in emails:
            contact = pb.ContactInput(email=email)
            contact.fields.update(fields)
            contacts.append(contact)
        answer = await self.client.enrollments.EnrollContacts(
            pb.EnrollContactsRequest(workflow_id=workflow_id, contacts=contacts)
        )
        assert answer.created_count == len(emails), answer
        return list(answer.enrollment_ids)

    async def event(self, name: str, email: str, **fields: Any) -> None:
        """Let an event of a contact come in."""
        event = event_pb2.EventInput(event_type="action", event_name=name, source_id="app")
        event.fields.update({"email": email, **fields})
        result = await self.client.events.IngestEvent(event_pb2.IngestEventRequest(event=event))
        assert result.status == event_pb2.INGEST_STATUS_ACCEPTED, result

    async def where(self, enrollment_id: str) -> tuple[str, str]:
        """Return the state of an enrollment, in lower case, and the step it stands in."""
        one = await self.client.enrollments.GetEnrollment(pb.GetEnrollmentRequest(enrollment_id=enrollment_id))
        return pb.EnrollmentState.Name(one.state).removeprefix("ENROLLMENT_STATE_").lower(), one.step_id

    async def trace(self, enrollment_id: str) -> list[tuple[str, str]]:
        """Return step and outcome of every entry."""
        answer = await self.client.enrollments.ListTraceEntries(pb.ListTraceEntriesRequest(enrollment_id=enrollment_id))
        return [(entry.step_id, entry.outcome) for entry in answer.entries]
