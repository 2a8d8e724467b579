"""What goes wrong around the engine: rows nobody can move, events that slip between, calls that are given up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import func, select, update

from core import provisioning
from core.bootstrap import Core
from core.clock import ManualClock
from core.domain.enrollment import TimerFired
from core.engine.driver import Move
from core.settings import Settings
from core.store.metadata import day_of
from core.store.organizations.organizations import organizations
from core.store.transaction import EVERY_ORGANIZATION
from core.store.workflows import claims
from core.store.workflows.enrollments import trace_entries
from core.store.workflows.workflows import workflow_versions
from dripstone.v1 import approval_pb2, event_pb2, workflow_pb2
from dripstone.v1 import enrollment_pb2 as pb
from dripstone.v1.client import Client
from tests.running import RunningCore, running

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

SOURCE = """
title: Listen
steps:
  - {id: pause, kind: wait, for: 1h}
  - {id: reply, kind: wait_for_event, event: reply.received}
  - {id: done, kind: exit, reason: told}
"""


async def _enroll(core: RunningCore, key: str) -> str:
    async with Client(core.grpc_target, key) as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="listen", source=SOURCE, publish=True)
        )
        request = pb.EnrollContactsRequest(workflow_id="listen", contacts=[{"email": "a@example.com"}])
        return (await client.enrollments.EnrollContacts(request)).enrollment_ids[0]


async def _get(core: RunningCore, key: str, enrollment_id: str) -> pb.Enrollment:
    async with Client(core.grpc_target, key) as client:
        return await client.enrollments.GetEnrollment(pb.GetEnrollmentRequest(enrollment_id=enrollment_id))


async def _reply(core: RunningCore) -> None:
    async with core.client() as client:
        await client.events.CreateSource(
            event_pb2.CreateSourceRequest(source_id="app", display_name="App", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        )
        event = event_pb2.EventInput(event_type="action", event_name="reply.received", source_id="app")
        event.fields.update({"email": "a@example.com"})
        await client.events.IngestEvent(event_pb2.IngestEventRequest(event=event))


async def _documents(core: RunningCore) -> dict[tuple[str, str], Any]:
    async with core.core.database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.all(select(workflow_versions))
    return {(row.org_id, row.workflow_id): row.document for row in rows}


async def test_an_enrollment_of_a_version_that_this_core_refuses_is_put_off_and_holds_up_nobody(
    core: RunningCore,
) -> None:
    broken = await _enroll(core, core.api_key)
    other = await provisioning.create_organization(core.core.database, "Other")
    healthy = await _enroll(core, other.api_key)
    document = (await _documents(core))[core.organization.org_id, "listen"]
    async with core.core.database.write(core.organization.org_id) as tx:  # as a stricter release would find it
        await tx.run(update(workflow_versions).values(document={"title": "x", "steps": []}))
    core.core.parts.versions._versions.clear()
    core.clock.advance(timedelta(hours=1))
    await core.core.ticker.turn()
    assert (await _get(core, other.api_key, healthy)).step_id == "reply"
    waiting = await _get(core, core.api_key, broken)
    assert (waiting.state, waiting.step_id) == (pb.ENROLLMENT_STATE_ACTIVE, "pause")
    assert await core.core.ticker.turn() in (0, 1)  # at most the look after the new wait
    assert await core.core.ticker.turn() == 0
    async with core.core.database.write(core.organization.org_id) as tx:  # the next release takes it again
        await tx.run(update(workflow_versions).values(document=document))
    await core.pass_time(timedelta(minutes=5))
    assert (await _get(core, core.api_key, broken)).step_id == "reply"


async def test_who_is_given_up_leaves_a_dead_letter_and_nothing_that_waits_for_an_answer(core: RunningCore) -> None:
    ask = "title: Ask\nsteps:\n  - {id: agree, kind: approval, title: Go on?, exits: {rejected: end}}\n"
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="ask", source=ask, publish=True)
        )
        request = pb.EnrollContactsRequest(workflow_id="ask", contacts=[{"email": "a@example.com"}])
        (enrollment_id,) = (await client.enrollments.EnrollContacts(request)).enrollment_ids
        async with core.core.database.system() as tx:
            (held,) = await claims.claim_by_id(tx, [(core.organization.org_id, enrollment_id)])
            await core.core.parts.engine.give_up(tx, held)
        (letter,) = (await client.enrollments.ListDeadLetters(pb.ListDeadLettersRequest())).dead_letters
        assert (letter.enrollment_id, letter.failure, letter.state) == (enrollment_id, "ENGINE_FAILED", "open")
        pending = await client.approvals.ListApprovals(approval_pb2.ListApprovalsRequest(filter='state = "pending"'))
        assert list(pending.approvals) == []


async def test_an_event_matched_while_its_wait_is_not_committed_yet_still_ends_the_wait(
    tmp_path: Path, postgresql_url: str, clock: ManualClock, anyio_backend: str
) -> None:
    async with running(postgresql_url, tmp_path, clock) as core:
        enrollment_id = await _enroll(core, core.api_key)
        clock.advance(timedelta(hours=1))
        database = core.core.database
        async with database.system() as tx:
            (due,) = (await claims.claim_due(tx, {core.organization.org_id: 0}, tx.now, 10)).enrollments
            await core.core.parts.engine.move(tx, [Move(due, TimerFired())])
            await _reply(core)
            assert await core.core.matcher.turn() == 1  # it cannot see the wait: nothing to wake
        await core.settle()
        assert (await _get(core, core.api_key, enrollment_id)).state == pb.ENROLLMENT_STATE_EXITED


async def test_calls_given_up_by_their_clients_hold_up_nobody(core: RunningCore) -> None:
    await _enroll(core, core.api_key)
    async with core.client() as client:
        for number in range(12):
            given_up = [
                client.enrollments.EnrollContacts(
                    pb.EnrollContactsRequest(
                        workflow_id="listen", contacts=[{"email": f"x{number}-{n}@example.com"} for n in range(30)]
                    ),
                    timeout=0.002 * (number + lane),
                )
                for lane in range(1, 4)
            ]
            codes = {await call.code() for call in given_up}
            assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED}
            async with asyncio.timeout(5):  # a writer left behind would hold its lock for ten seconds and more
                await client.enrollments.EnrollContacts(
                    pb.EnrollContactsRequest(workflow_id="listen", contacts=[{"email": f"y{number}@example.com"}])
                )


async def test_processes_that_start_together_on_an_empty_database_share_one_organization(
    tmp_path: Path, postgresql_url: str, clock: ManualClock, anyio_backend: str
) -> None:
    async def start(name: str) -> Core:
        settings = Settings(database_url=postgresql_url, data_dir=tmp_path / name, roles=frozenset({"engine"}))
        core = await Core.open(settings, clock)
        await core.write_connection(settings.data_dir)
        await core.join()
        return core

    cores = await asyncio.gather(*(start(name) for name in ("one", "two", "three")))
    async with cores[0].database.read(EVERY_ORGANIZATION) as tx:
        (count,) = await tx.all(select(func.count()).select_from(organizations))
    assert count[0] == 1
    clock.advance(timedelta(days=1))
    await asyncio.gather(*(core.outward.scheduler.turn() for core in cores))  # tomorrow's partitions, all at once
    for core in cores:
        await core.stop()


async def test_a_long_trace_is_watched_to_its_end(core: RunningCore) -> None:
    enrollment_id = await _enroll(core, core.api_key)
    async with core.client() as client:
        await client.enrollments.CancelEnrollment(pb.CancelEnrollmentRequest(enrollment_id=enrollment_id))
        async with core.core.database.system() as tx:
            rows: list[tuple[Any, ...]] = [
                (
                    core.organization.org_id,
                    enrollment_id,
                    seq,
                    day_of(tx.now),
                    0,
                    tx.now,
                    "x",
                    "log",
                    "ok",
                    "",
                    "",
                    {},
                    [],
                )
                for seq in range(100, 1300)
            ]
            columns = "org_id enrollment_id seq day bucket at step_id kind outcome exit reason inputs effects".split()
            await tx.bulk_insert(trace_entries, columns, rows)
        watched = client.enrollments.WatchEnrollment(pb.WatchEnrollmentRequest(enrollment_id=enrollment_id), timeout=20)
        seqs = [message.entry.seq async for message in watched if message.HasField("entry")]
    assert seqs[-1] == 1299
    assert len(seqs) == len(set(seqs)) > 1200


async def test_a_revoked_key_loses_its_streams(core: RunningCore) -> None:
    from dripstone.v1 import organization_pb2

    enrollment_id = await _enroll(core, core.api_key)
    async with core.client() as client:
        made = await client.organization.CreateApiKey(
            organization_pb2.CreateApiKeyRequest(
                display_name="Watcher",
                principal_kind=organization_pb2.PRINCIPAL_KIND_SERVICE,
                scopes=["enrollments:read"],
            )
        )
        async with core.client(made.secret) as watcher:
            stream = watcher.enrollments.WatchEnrollment(
                pb.WatchEnrollmentRequest(enrollment_id=enrollment_id), timeout=20
            )
            messages = aiter(stream)
            await anext(messages)
            await client.organization.RevokeApiKey(organization_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.id))
            await core.pass_time(timedelta(hours=1))  # beyond what a key is remembered for, and the wait ends
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in messages:
                    pass
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
