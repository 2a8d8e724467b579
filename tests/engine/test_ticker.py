"""The engine's loops: fair between organizations, safe between processes, and recorded in one transaction each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from core import provisioning
from core.clock import ManualClock
from core.domain.enrollment import TimerFired
from core.engine.driver import Move
from core.engine.ticker import SMALLEST_BATCH
from core.store.database import Database
from core.store.records import records
from core.store.records.record_rows import from_driver, hold
from core.store.sqlite_session import SqliteSession
from core.store.transaction import EVERY_ORGANIZATION, StaleEnrollment
from core.store.workflows import claims
from core.store.workflows.enrollments import enrollments, trace_entries
from dripstone.v1 import enrollment_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.running import RunningCore, running

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

SOURCE = "title: Pause\nsteps:\n  - {id: pause, kind: wait, for: 1h}\n  - {id: again, kind: wait, for: 1h}\n"


async def _enroll(core: RunningCore, key: str, count: int) -> None:
    async with Client(core.grpc_target, key) as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="pause", source=SOURCE, publish=True)
        )
        for start in range(0, count, 1000):
            contacts = [{"email": f"c{n}@example.com"} for n in range(start, min(count, start + 1000))]
            await client.enrollments.EnrollContacts(
                enrollment_pb2.EnrollContactsRequest(workflow_id="pause", contacts=contacts), timeout=60
            )


async def _standing(database: Database) -> Counter[tuple[str, str]]:
    async with database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.all(select(enrollments.c.org_id, enrollments.c.step_id))
    return Counter((row.org_id, row.step_id) for row in rows)


async def test_a_flood_in_one_organization_does_not_hold_up_another(core: RunningCore) -> None:
    await _enroll(core, core.api_key, 400)
    small = await provisioning.create_organization(core.core.database, "Small")
    core.clock.advance(timedelta(seconds=1))  # the small one comes later: by due time alone it would be last
    await _enroll(core, small.api_key, 3)
    core.clock.advance(timedelta(hours=2))
    await core.core.ticker.turn()
    standing = await _standing(core.core.database)
    assert standing[small.org_id, "again"] == 3
    assert standing[core.organization.org_id, "pause"] > 300


async def test_batches_grow_with_the_backlog_and_everything_is_moved(core: RunningCore) -> None:
    await _enroll(core, core.api_key, 600)
    core.clock.advance(timedelta(hours=1))
    turns = []
    while moved := await core.core.ticker.turn():
        turns.append(moved)
    assert turns == [32, 64, 128, 128, 128, 120]
    assert await _standing(core.core.database) == {(core.organization.org_id, "again"): 600}


async def test_only_a_turn_that_leaves_something_behind_ends_before_the_disk_has_it(
    tmp_path: Path, clock: ManualClock, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(f"sqlite:///{tmp_path}/a.db", tmp_path, clock) as core:
        await _enroll(core, core.api_key, SMALLEST_BATCH + 1)
        clock.advance(timedelta(hours=1))
        goes_on, on_disk = asyncio.Event(), SqliteSession.on_disk

        async def held(session: SqliteSession) -> None:
            await goes_on.wait()
            await on_disk(session)

        monkeypatch.setattr(SqliteSession, "on_disk", held)
        monkeypatch.setattr(SqliteSession, "commit_ahead", _counted(ahead := list[str](), SqliteSession.commit_ahead))
        assert await core.core.ticker.turn() == SMALLEST_BATCH
        assert len(ahead) == 1
        last = asyncio.create_task(core.core.ticker.turn())
        goes_on.set()
        assert await last == 1, "the disk has it, and what went ahead of it"
        assert len(ahead) == 1
        assert await _standing(core.core.database) == {(core.organization.org_id, "again"): SMALLEST_BATCH + 1}


def _counted(
    calls: list[str], of: Callable[[SqliteSession], Awaitable[None]]
) -> Callable[[SqliteSession], Awaitable[None]]:
    async def counting(session: SqliteSession) -> None:
        calls.append("ahead")
        await of(session)

    return counting


async def test_several_processes_on_postgresql_move_everybody_once(
    tmp_path: Path, postgresql_url: str, clock: ManualClock, anyio_backend: str
) -> None:
    async with (
        running(postgresql_url, tmp_path / "one", clock) as one,
        running(postgresql_url, tmp_path / "two", clock) as two,
    ):
        await _enroll(one, one.api_key, 500)
        clock.advance(timedelta(hours=1))

        async def drain(core: RunningCore) -> int:
            moved = 0
            while claimed := await core.core.ticker.turn():
                moved += claimed
            return moved

        first = await asyncio.gather(one.core.ticker.turn(), two.core.ticker.turn())
        assert min(first) > 0, "each found some that the other had not taken"
        rest = await asyncio.gather(drain(one), drain(two))
        assert sum((*first, *rest)) == 500
        async with one.core.database.read(EVERY_ORGANIZATION) as tx:
            rows = await tx.all(select(trace_entries.c.enrollment_id, trace_entries.c.seq))
        assert len(rows) == len({(row.enrollment_id, row.seq) for row in rows})
        per_enrollment = Counter(row.enrollment_id for row in rows)
        assert len(set(per_enrollment.values())) == 1


async def test_a_claim_on_sqlite_tells_of_the_contacts_what_a_look_at_them_tells(
    tmp_path: Path, clock: ManualClock, anyio_backend: str
) -> None:
    async with running(f"sqlite:///{tmp_path}/a.db", tmp_path, clock) as core:
        await _enroll(core, core.api_key, 3)
        clock.advance(timedelta(hours=1))
        org = core.organization.org_id
        async with core.core.database.write(org) as tx:
            ids = [row.contact_id for row in await tx.all(select(enrollments.c.contact_id))]
            for lead in ("1", "2"):
                fields = {"contact_id": ids[0], "lead_ref": lead}
                await records.upsert(tx, "lead", fields, (), actor="key_1", cause="call:1")
            await tx.fetch("UPDATE records SET deleted_at = 1 WHERE org_id = $1 AND id = $2", org, ids[1])
        async with core.core.database.system() as tx:
            people = (await claims.claim_due(tx, {org: 0}, tx.now, 10)).people
            held, kept = await hold(tx, people.asked), dict(tx.kept.rows)
            looked = await claims.contacts_and_leads(tx, people.asked, claims.NOBODY)
            assert (people.contacts, people.leads) == (looked.contacts, looked.leads)
            assert (set(people.contacts), set(people.leads)) == ({(org, ids[0]), (org, ids[2])}, {(org, ids[0])})
            assert set(people.asked) == {(org, one) for one in ids}
            assert {key: from_driver(row) for key, row in kept.items()} == held


async def test_a_writer_that_read_an_older_state_changes_nothing(core: RunningCore) -> None:
    await _enroll(core, core.api_key, 1)
    database, driver = core.core.database, core.core.parts.engine
    core.clock.advance(timedelta(hours=1))
    async with database.system() as tx:
        (stale,) = (await claims.claim_due(tx, {core.organization.org_id: 0}, tx.now, 10)).enrollments
    await core.core.ticker.turn()

    async def write_again() -> None:
        async with database.system() as tx:
            await driver.move(tx, [Move(stale, TimerFired())])

    with pytest.raises(StaleEnrollment):
        await write_again()
    assert await _standing(database) == {(core.organization.org_id, "again"): 1}


async def test_two_calls_at_once_enroll_a_contact_once(core: RunningCore) -> None:
    await _enroll(core, core.api_key, 0)
    request = enrollment_pb2.EnrollContactsRequest(
        workflow_id="pause", contacts=[{"email": f"c{n}@example.com"} for n in range(20)]
    )
    async with core.client() as client:
        answers = await asyncio.gather(*(client.enrollments.EnrollContacts(request, timeout=30) for _ in range(8)))
    assert sum(answer.created_count for answer in answers) == 20
    outcomes = Counter(result.outcome for answer in answers for result in answer.results)
    assert outcomes == {
        enrollment_pb2.ENROLL_OUTCOME_ENROLLED: 20,
        enrollment_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED: 140,
    }
