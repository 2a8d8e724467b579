"""kill -9 at random points of the story: nothing is lost, nobody enrolled or changed twice, every delivery arrives."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import grpc
import pytest

from dripstone.v1 import enrollment_pb2, record_pb2, webhook_pb2, workflow_pb2
from tests.chaos.ledger import Ledger
from tests.chaos.server_process import ServerProcess
from tests.receiver import Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

KILLS = int(os.environ.get("DRIPSTONE_KILLS", "1"))
CONTACTS_PER_CALL = 10
SOURCE = """
title: Survives anything
steps:
  - {id: first, kind: webhook, event_type: chaos.first, data: {email: "{{ contact.email }}"}}
  - {id: mark, kind: update, set: {custom.seen: 1}}
  - {id: pause, kind: wait, for: 1s}
  - {id: second, kind: webhook, event_type: chaos.second, data: {email: "{{ contact.email }}"}}
  - {id: done, kind: exit, reason: story told}
"""


@pytest.fixture
def ledger(receiver: Receiver) -> Ledger:
    return Ledger(receiver)


async def _prepare(server: ServerProcess, ledger: Ledger) -> None:
    async with server.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="survivor", source=SOURCE, publish=True)
        )
        endpoint = await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(
                url=ledger.url,
                event_types=["chaos.first", "chaos.second"],
                retry_preset=webhook_pb2.RETRY_PRESET_QUICK,
            )
        )
        ledger.secret = endpoint.secret


async def _enroll_until_answered(server: ServerProcess, number: int) -> None:
    """Send one bulk call, again and again under its one key, until it is answered: as a careful client does."""
    request = enrollment_pb2.EnrollContactsRequest(
        workflow_id="survivor",
        request_id=f"batch-{number}",
        contacts=[{"email": f"p{number}-{n}@example.com"} for n in range(CONTACTS_PER_CALL)],
    )
    while True:
        try:
            async with server.client() as client:
                answer = await client.enrollments.EnrollContacts(request, timeout=5)
        except (grpc.aio.AioRpcError, OSError, ValueError):
            await asyncio.sleep(0.05)
            continue
        assert answer.created_count == CONTACTS_PER_CALL, answer
        return


async def _states(server: ServerProcess) -> list[enrollment_pb2.Enrollment]:
    async with server.client() as client:
        listed = await client.enrollments.ListEnrollments(
            enrollment_pb2.ListEnrollmentsRequest(workflow_id="survivor", page_size=500)
        )
        return list(listed.enrollments)


async def test_a_killed_core_loses_nothing_and_does_nothing_twice(
    database_url: str, tmp_path: Path, ledger: Ledger
) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    server = ServerProcess(tmp_path, database_url)
    await server.start()
    await _prepare(server, ledger)
    for number in range(KILLS):
        call = asyncio.create_task(_enroll_until_answered(server, number))
        await asyncio.sleep(chance.uniform(0.0, 1.4))
        await server.kill()
        await server.start()
        await call
    expected = KILLS * CONTACTS_PER_CALL
    async with asyncio.timeout(120):
        while True:
            there = await _states(server)
            over = [e for e in there if e.state == enrollment_pb2.ENROLLMENT_STATE_EXITED]
            if len(over) == expected and len(ledger.types) >= 2 * expected:
                break
            await asyncio.sleep(0.1)
    assert len(there) == len({e.contact_id for e in there}) == expected, f"seed {seed}"
    assert Counter(ledger.types.values()) == {"chaos.first": expected, "chaos.second": expected}, f"seed {seed}"
    async with server.client() as client:
        for enrollment in there:
            trace = await client.enrollments.ListTraceEntries(
                enrollment_pb2.ListTraceEntriesRequest(enrollment_id=enrollment.id)
            )
            assert [entry.seq for entry in trace.entries] == list(range(1, len(trace.entries) + 1))
            changes = await client.records.ListRecordChanges(
                record_pb2.ListRecordChangesRequest(record_id=enrollment.contact_id)
            )
            assert [change.field for change in changes.changes].count("custom.seen") == 1
    assert await server.terminate() == 0
