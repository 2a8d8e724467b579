"""A workflow waits for what a consumer says of its message; the consumer fetches over HTTP or gRPC."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest

from dripstone.v1 import enrollment_pb2, organization_pb2, webhook_pb2, workflow_pb2
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

WORKFLOW = """
title: Ask the desk
steps:
  - {id: tell, kind: webhook, event_type: desk.asked, await: true, exits: {delivered: taken, failed: refused}}
  - {id: taken, kind: exit, reason: taken}
  - {id: refused, kind: exit, reason: refused}
"""


async def _asked(client: Any, email: str) -> str:
    request = enrollment_pb2.EnrollContactsRequest(workflow_id="desk", contacts=[{"email": email}])
    return str((await client.enrollments.EnrollContacts(request)).enrollment_ids[0])


async def _prepared(client: Any) -> str:
    request = webhook_pb2.CreateEndpointRequest(
        kind=webhook_pb2.ENDPOINT_KIND_PULL,
        event_types=["desk.asked"],
        retry_preset=webhook_pb2.RETRY_PRESET_QUICK,
    )
    endpoint = await client.webhooks.CreateEndpoint(request)
    await client.workflows.CreateWorkflow(
        workflow_pb2.CreateWorkflowRequest(workflow_id="desk", source=WORKFLOW, publish=True)
    )
    return str(endpoint.endpoint.id)


@pytest.mark.both_databases
async def test_what_a_consumer_says_over_http_moves_the_enrollment_that_waits(core: RunningCore) -> None:
    async with core.client() as client:
        endpoint_id = await _prepared(client)
        enrollment_id = await _asked(client, "ada@example.com")
        await core.settle()
        async with core.http() as http:
            async with http.stream("POST", f"/api/v1/webhooks/{endpoint_id}/messages/stream", json={}) as stream:
                async with asyncio.timeout(10):
                    line = json.loads(await anext(aiter(stream.aiter_lines())))
            message = line
            assert "delivery_id" in line, line
            ack = {"delivery_id": message["delivery_id"], "lease_token": message["lease_token"], "ok": True}
            answer = await http.post(f"/api/v1/webhooks/{endpoint_id}/messages/ack", json={"acks": [ack]})
            assert (answer.status_code, answer.json()["acknowledged_count"]) == (200, 1)
        await core.settle()
        enrollment = await client.enrollments.GetEnrollment(
            enrollment_pb2.GetEnrollmentRequest(enrollment_id=enrollment_id)
        )
        assert enrollment.end_reason == "taken"


async def test_a_revoked_key_loses_its_stream_although_nothing_comes(core: RunningCore) -> None:
    async with core.client() as client:
        endpoint_id = await _prepared(client)
        made = await client.organization.CreateApiKey(
            organization_pb2.CreateApiKeyRequest(
                display_name="desk",
                principal_kind=organization_pb2.PRINCIPAL_KIND_SERVICE,
                scopes=["webhooks:write"],
            )
        )
        async with core.client(made.secret) as desk:
            request = webhook_pb2.StreamMessagesRequest(endpoint_id=endpoint_id)
            messages = aiter(desk.webhooks.StreamMessages(request))
            await _asked(client, "ada@example.com")
            await core.settle()
            async with asyncio.timeout(10):
                await anext(messages)
            await client.organization.RevokeApiKey(organization_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.id))
            core.core.database.wakeups.signal({"pull"})  # as each second does by itself
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                async with asyncio.timeout(10):
                    await anext(messages)
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_core_that_drains_ends_streams_at_once(core: RunningCore) -> None:
    async with core.client() as client:
        endpoint_id = await _prepared(client)
        messages = aiter(client.webhooks.StreamMessages(webhook_pb2.StreamMessagesRequest(endpoint_id=endpoint_id)))
        await _asked(client, "ada@example.com")
        await core.settle()
        async with asyncio.timeout(10):
            await anext(messages)
        core.core.parts.draining.set()
        core.core.database.wakeups.signal({"pull"})
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async with asyncio.timeout(10):
                await anext(messages)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
