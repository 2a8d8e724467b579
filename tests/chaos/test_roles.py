"""One process for the calls, another for the work: PostgreSQL and its notifications are all they share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dripstone.v1 import enrollment_pb2, webhook_pb2, workflow_pb2
from tests.chaos.server_process import ServerProcess

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

SOURCE = """
title: Two processes
steps:
  - {id: pause, kind: wait, for: 1s}
  - {id: done, kind: exit, reason: told}
"""


async def test_a_worker_process_moves_what_an_api_process_took_in(
    tmp_path: Path, postgresql_url: str, anyio_backend: str
) -> None:
    api = ServerProcess(tmp_path / "api", postgresql_url, roles="grpc,http")
    worker = ServerProcess(tmp_path / "worker", postgresql_url, roles="engine,dispatcher,scheduler")
    await asyncio.gather(api.start(), worker.start())  # both bring the schema up to date: one waits for the other
    assert not (tmp_path / "worker" / "connection.json").exists()
    async with api.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="two", source=SOURCE, publish=True)
        )
        await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(url="https://example.invalid/", event_types=["lead.qualified"])
        )
        answer = await client.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(workflow_id="two", contacts=[{"email": "a@example.com"}])
        )
        watched = client.enrollments.WatchEnrollment(
            enrollment_pb2.WatchEnrollmentRequest(enrollment_id=answer.enrollment_ids[0]), timeout=20
        )
        steps = [message.entry.step_id async for message in watched if message.HasField("entry")]
    assert steps[-1] == "done"
    assert await api.terminate() == 0
    assert await worker.terminate() == 0
