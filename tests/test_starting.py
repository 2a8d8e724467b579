"""What is due goes first: a start that still loads what serves has the engine at work."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.bootstrap import Core
from core.clock import ManualClock
from core.store.transaction import EVERY_ORGANIZATION
from dripstone.v1 import enrollment_pb2, workflow_pb2
from tests.running import running

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

_SOURCE = "title: Pause\nsteps:\n  - {id: pause, kind: wait, for: 1h}\n  - {id: done, kind: exit, reason: slept}\n"
_LONGEST_WAIT = 20.0


async def test_who_is_due_moves_before_what_serves_is_loaded(
    database_url: str, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url, tmp_path, clock) as before:
        settings = before.core.settings
        async with before.client() as client:
            await client.workflows.CreateWorkflow(
                workflow_pb2.CreateWorkflowRequest(workflow_id="pause", source=_SOURCE, publish=True)
            )
            request = enrollment_pb2.EnrollContactsRequest(workflow_id="pause", contacts=[{"email": "a@example.com"}])
            await client.enrollments.EnrollContacts(request)
    clock.advance(timedelta(hours=2))
    core = await Core.open(replace(settings, roles=frozenset({"engine", "grpc"})), clock)
    left = core.database.wakeups.event("watch")
    joining = Core.join
    seen = []

    async def joined_after_the_first_step(self: Core) -> None:
        async with asyncio.timeout(_LONGEST_WAIT):
            await left.wait()
        async with self.database.read(EVERY_ORGANIZATION) as tx:
            seen.extend(await tx.fetch("SELECT e.state, e.end_reason FROM enrollments e"))
        await joining(self)

    monkeypatch.setattr(Core, "join", joined_after_the_first_step)
    await core.start()
    try:
        assert [tuple(row) for row in seen] == [("exited", "slept")]
        assert core.grpc_target
    finally:
        await core.stop()
