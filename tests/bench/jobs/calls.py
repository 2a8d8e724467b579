"""Calls over gRPC in a process of their own: contacts enrolled in bulk, one small read, and the health check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from core.clock import ManualClock
from dripstone.v1 import enrollment_pb2, organization_pb2, workflow_pb2
from tests.bench import workload
from tests.bench.child import tell
from tests.running import RunningCore, running

_BULK = 1_000
_LANES = 16


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Enroll `contacts` in the empty database at `url` and read `calls` times; return what each came to a second."""
    clock = ManualClock(workload.START)
    async with running(spec["url"], Path(spec["folder"]), clock, requests_per_second=1e9) as core:
        enrolled = await _enroll(core, spec["contacts"])
        async with core.client() as client, grpc.aio.insecure_channel(core.grpc_target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            checks = await _hammer(spec["calls"], lambda: stub.Check(health_pb2.HealthCheckRequest()))
            request = organization_pb2.GetOrganizationRequest()
            reads = await _hammer(spec["calls"], lambda: client.organization.GetOrganization(request))
    return {"enrolled": enrolled, "reads": reads, "checks": checks}


async def _enroll(core: RunningCore, contacts: int) -> float:
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="bench", source=workload.NURTURE, publish=True)
        )
        start = time.perf_counter()
        for first in range(0, contacts, _BULK):
            people = [{"email": workload.email("c", number)} for number in range(first, first + _BULK)]
            request = enrollment_pb2.EnrollContactsRequest(workflow_id="bench", contacts=people)
            answer = await client.enrollments.EnrollContacts(request, timeout=60)
            assert answer.created_count == _BULK, answer
            tell(done=first + _BULK, total=contacts)
        return (first + _BULK) / (time.perf_counter() - start)


async def _hammer(calls: int, one: Callable[[], Awaitable[object]]) -> float:
    async def lane() -> None:
        for _ in range(calls // _LANES):
            await one()

    start = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(_LANES)))
    return calls // _LANES * _LANES / (time.perf_counter() - start)
