"""Approvals as rows, on both databases: requested, decided, withdrawn, run out of time, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.control.approval import ApprovalState, Party, decide, use
from core.store.control import approvals
from core.store.control.approvals import NewApproval
from core.store.database import Database
from core.store.workflows import workflows
from tests.announcements import announced, listen
from tests.conftest import START
from tests.store.test_pausing import workflow

pytestmark = pytest.mark.anyio

ORG = "org_a"


def request(approval_id: str, *, org: str = ORG, subject: str = "pln_1", hours: int | None = 24) -> NewApproval:
    expires = None if hours is None else START + timedelta(hours=hours)
    return NewApproval(
        org, approval_id, "plan", subject, "Qualify Ada", "sha256:a", "key_agent", {"score": 80}, expires
    )


async def ask(database: Database, *requests: NewApproval) -> None:
    async with database.system() as tx:
        await approvals.create_many(tx, requests)


async def told(database: Database) -> list[tuple[str, Any]]:
    return sorted(
        (body["data"]["approval_id"], body["data"].get("decision")) for body in await announced(database, ORG)
    )


async def state_of(database: Database, approval_id: str) -> str:
    async with database.read(ORG) as tx:
        row = await approvals.get(tx, approval_id)
    assert row is not None
    return str(row.state)


async def test_a_request_is_read_back_as_asked(database: Database) -> None:
    await ask(database, request("apr_1"))
    async with database.read(ORG) as tx:
        row = await approvals.get(tx, "apr_1")
    assert row is not None
    assert (row.title, row.details, row.created_at) == ("Qualify Ada", {"score": 80}, START)
    approval = approvals.to_domain(row)
    assert (approval.state, approval.requester_id) == (ApprovalState.PENDING, "key_agent")
    assert approval.expires_at == START + timedelta(hours=24)


async def test_another_organization_sees_nothing(database: Database) -> None:
    await ask(database, request("apr_1"))
    async with database.write("org_b") as tx:
        assert await approvals.get(tx, "apr_1") is None
        assert await approvals.of_subject(tx, "plan", "pln_1") is None
        assert await approvals.cancel(tx, [(ORG, "apr_1")]) == 0
    assert await state_of(database, "apr_1") == "pending"


async def test_a_decision_and_its_use_are_kept(database: Database) -> None:
    await ask(database, request("apr_1"))
    async with database.write(ORG) as tx:
        row = await approvals.get(tx, "apr_1", lock=True)
        assert row is not None
        decided = decide(
            approvals.to_domain(row), Party("mem_1"), approved=True, comment="A known account.", now=tx.now
        )
        await approvals.save(tx, decided)
    async with database.write(ORG) as tx:
        row = await approvals.get(tx, "apr_1", lock=True)
        assert row is not None
        assert approvals.to_domain(row) == replace(decided, votes=())
        await approvals.save(tx, use(decided, "sha256:a"))
    assert await state_of(database, "apr_1") == "used"


async def test_the_newest_request_for_a_subject_is_found(database: Database) -> None:
    await ask(database, request("apr_1"), request("apr_2"), request("apr_3", subject="pln_2"))
    async with database.read(ORG) as tx:
        row = await approvals.of_subject(tx, "plan", "pln_1")
    assert row is not None
    assert row.id == "apr_2"


async def test_what_nobody_decided_in_time_expires_and_is_told(database: Database, clock: ManualClock) -> None:
    await listen(database, ORG)
    await ask(database, request("apr_1", hours=1), request("apr_2", hours=2), request("apr_3", hours=None))
    clock.advance(timedelta(hours=1))
    async with database.system() as tx:
        assert await approvals.expire_due(tx, tx.now) == 1
    async with database.system() as tx:
        assert await approvals.expire_due(tx, tx.now) == 0
    assert [await state_of(database, f"apr_{number}") for number in (1, 2, 3)] == ["expired", "pending", "pending"]
    assert await told(database) == [("apr_1", "expired")]


async def test_a_withdrawn_request_is_cancelled_and_a_late_one_has_expired(
    database: Database, clock: ManualClock
) -> None:
    await listen(database, ORG)
    await ask(database, request("apr_1", hours=1), request("apr_2", hours=2))
    clock.advance(timedelta(hours=1))
    async with database.system() as tx:
        assert await approvals.cancel(tx, [(ORG, "apr_1"), (ORG, "apr_2"), (ORG, "apr_9")]) == 2
        assert await approvals.cancel(tx, [(ORG, "apr_1"), (ORG, "apr_2")]) == 0
    assert [await state_of(database, "apr_1"), await state_of(database, "apr_2")] == ["expired", "cancelled"]
    assert await told(database) == [("apr_1", "expired"), ("apr_2", "cancelled")]


async def test_nobody_is_late_for_a_step_whose_workflow_is_paused(database: Database, clock: ManualClock) -> None:
    details = {"workflow_id": "nurture"}
    of_step = replace(request("apr_1", hours=1), subject_kind="step", subject_id="enr_1", details=details)
    await ask(database, of_step, replace(request("apr_2", hours=1), details=details))
    async with database.write(ORG) as tx:
        await tx.insert(workflows.workflows, [workflow("nurture", "paused")])
    clock.advance(timedelta(hours=1))
    async with database.system() as tx:
        assert await approvals.expire_due(tx, tx.now) == 1
    assert [await state_of(database, "apr_1"), await state_of(database, "apr_2")] == ["pending", "expired"]
    async with database.write(ORG) as tx:
        await tx.run(workflows.workflows.update().values(state="active"))
    async with database.system() as tx:
        assert await approvals.expire_due(tx, tx.now) == 1
