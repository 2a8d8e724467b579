"""A workflow whose message only disabled endpoints want: it is told so at once, and the message is kept."""

from __future__ import annotations

import pytest

from core.store.webhooks import endpoints
from dripstone.v1 import enrollment_pb2, webhook_pb2, workflow_pb2
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

WORKFLOW = """
title: Tell the desk
steps:
  - {id: tell, kind: webhook, event_type: desk.told, await: true, exits: {delivered: taken, failed: refused}}
  - {id: taken, kind: exit, reason: taken}
  - {id: refused, kind: exit, reason: refused}
"""


@pytest.mark.parametrize(("there_is_one", "outcome"), [(True, "endpoint_disabled"), (False, "no_endpoint")])
async def test_who_waits_for_a_message_that_nobody_gets_is_told_why(
    core: RunningCore, there_is_one: bool, outcome: str
) -> None:
    async with core.client() as client:
        if there_is_one:
            made = await client.webhooks.CreateEndpoint(
                webhook_pb2.CreateEndpointRequest(url="https://hooks.example.com", event_types=["desk.told"])
            )
            async with core.core.database.write(core.organization.org_id) as tx:
                await endpoints.change(tx, made.endpoint.id, {"state": "disabled", "disabled_reason": "gone"})
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="desk", source=WORKFLOW, publish=True)
        )
        asked = enrollment_pb2.EnrollContactsRequest(workflow_id="desk", contacts=[{"email": "ada@example.com"}])
        enrollment_id = (await client.enrollments.EnrollContacts(asked)).enrollment_ids[0]
        await core.settle()
        explained = await client.enrollments.ExplainEnrollment(
            enrollment_pb2.ExplainEnrollmentRequest(enrollment_id=enrollment_id)
        )
        assert explained.enrollment.end_reason == "refused"
        assert outcome in str(explained)
        kept = await client.webhooks.ListDeliveries(webhook_pb2.ListDeliveriesRequest(filter='state = "skipped"'))
        assert [one.last_outcome for one in kept.deliveries] == [outcome] * there_is_one
