"""Who is asked to decide, and who is behind whom, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.control.approval import ApprovalState, Party, Rule
from core.domain.control.approval_rule import Mode, OnTimeout
from core.store.control import approval_subjects, approval_votes, approvals, electors
from core.store.control.approval_subjects import Settlement
from core.store.control.approvals import NewApproval
from core.store.database import Database
from core.store.organizations.api_keys import api_keys
from core.store.organizations.members import members
from core.store.transaction import Transaction
from tests.announcements import announced, listen
from tests.conftest import START

pytestmark = pytest.mark.anyio

ORG = "org_a"
ROLES = {"mem_1": "admin", "mem_2": "approver", "mem_3": "approver", "mem_4": "viewer", "mem_gone": "admin"}


async def people(database: Database) -> None:
    async with database.write(ORG) as tx:
        rows = [
            {"id": one, "email": f"{one}@example.com", "display_name": one, "role": role, "created_at": tx.now}
            for one, role in ROLES.items()
        ]
        await tx.insert(members, rows)
        await tx.run(members.update().where(members.c.id == "mem_gone").values(state="removed"))


async def key(database: Database, key_id: str, kind: str, by: str, agent: str = "", principal: str = "") -> None:
    async with database.write(ORG) as tx:
        row = {
            "id": key_id,
            "digest": key_id,
            "prefix": "",
            "display_name": key_id,
            "principal_kind": kind,
            "principal_id": principal or key_id,
            "scopes": [],
            "created_at": tx.now,
            "created_by": by,
            "agent_id": agent,
        }
        await tx.insert(api_keys, [row])


def request(rule: Rule, kind: str = "plan", requester: str = "mem_2") -> NewApproval:
    until = START + rule.sla
    return NewApproval(ORG, "apr_1", kind, "pln_1", "Five", "sha256:a", requester, {}, until, rule)


async def ask(database: Database, asked: NewApproval) -> None:
    async with database.system() as tx:
        await approvals.create_many(tx, [asked])


async def row_of(tx: Transaction) -> Any:
    row = await approvals.get(tx, "apr_1")
    assert row is not None
    return row


async def electors_of(database: Database) -> set[str] | None:
    async with database.read(ORG) as tx:
        found = await electors.of(tx, approvals.to_domain(await row_of(tx)))
    return None if found is None else set(found)


async def test_a_rule_names_members_and_roles_without_those_who_left_and_who_asked(database: Database) -> None:
    await people(database)
    await ask(database, request(Rule(Mode.ALL, roles=("approver",), member_ids=("mem_4", "mem_gone"))))
    assert await electors_of(database) == {"mem_3", "mem_4"}


async def test_who_is_behind_a_key_is_found_through_the_keys_that_made_it(database: Database) -> None:
    await people(database)
    await key(database, "key_person", "member", "mem_1", principal="mem_4")  # an admin made it for her
    await key(database, "key_agent", "agent", "mem_4", "agt_1")
    await key(database, "key_child", "service", "key_agent")
    async with database.read(ORG) as tx:
        found = await electors.parties(tx, ["mem_4", "key_agent", "key_child", "trigger:evt_1"])
    assert found == {
        "mem_4": Party("mem_4"),
        "key_agent": Party("key_agent", "agent", frozenset({"mem_4", "agt_1"})),
        "key_child": Party("key_child", "service", frozenset({"key_agent", "mem_4", "agt_1"})),
        "trigger:evt_1": Party("trigger:evt_1"),
    }


async def test_who_mints_many_keys_in_a_row_is_behind_the_last_and_a_ring_ends(database: Database) -> None:
    for number in range(9):
        await key(database, f"key_{number}", "service", f"key_{number - 1}" if number else "mem_1")
    await key(database, "key_ring", "service", "key_gnir")
    await key(database, "key_gnir", "service", "key_ring")
    async with database.read(ORG) as tx:
        found = await electors.parties(tx, ["key_8", "key_ring"])
    assert found["key_8"].behind == {"mem_1", *(f"key_{number}" for number in range(8))}
    assert found["key_ring"].behind == {"key_gnir"}


async def test_what_nobody_decides_goes_to_the_admins_once_and_then_expires(
    database: Database, clock: ManualClock
) -> None:
    await people(database)
    await listen(database, ORG)
    rule = Rule(roles=("approver",), sla=timedelta(hours=2), on_timeout=OnTimeout.ESCALATE)
    await ask(database, request(rule))
    told: list[str] = []
    for _ in range(3):
        clock.advance(timedelta(hours=2))
        async with database.system() as tx:
            await approvals.expire_due(tx, tx.now)
        async with database.read(ORG) as tx:
            told.append((await row_of(tx)).state)
    assert told == ["pending", "expired", "expired"]
    assert await electors_of(database) == {"mem_1", "mem_3"}
    assert [body["type"] for body in await announced(database, ORG)] == ["approval.requested", "approval.decided"]


async def test_what_was_asked_for_hears_of_it_once_and_what_is_approved_at_once_is_used(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approval_subjects, "_KINDS", {})
    heard: list[Settlement] = []

    async def settle(tx: Transaction, row: Any, settlement: Settlement) -> None:
        assert (tx.org_id, row.subject_id) == (ORG, "pln_1")
        heard.append(settlement)

    approval_subjects.register("deployment", settle, used_at_once=True)
    rule = Rule(sla=timedelta(hours=1), on_timeout=OnTimeout.APPROVE)
    await ask(database, request(rule, "deployment"))
    clock.advance(timedelta(hours=1))
    for _ in range(2):
        async with database.system() as tx:
            await approvals.expire_due(tx, tx.now)
    async with database.read(ORG) as tx:
        assert (await row_of(tx)).state == ApprovalState.USED
    assert heard == [Settlement(ApprovalState.APPROVED)]


async def test_who_leaves_is_followed_by_the_successor_but_never_by_who_asked(database: Database) -> None:
    rule = Rule(Mode.ALL, member_ids=("mem_1", "mem_3"))
    await ask(database, request(rule))
    async with database.write(ORG) as tx:
        assert await approvals.hand_over(tx, "mem_1", "mem_4") == 1
        assert approvals.to_domain(await row_of(tx)).rule == replace(rule, member_ids=("mem_3", "mem_4"))
        assert await approvals.hand_over(tx, "mem_3", "mem_2") == 1
        assert await approvals.hand_over(tx, "mem_4", "") == 0  # nobody named would be anybody
        assert approvals.to_domain(await row_of(tx)).rule.member_ids == ("mem_4",)


async def test_what_was_said_is_kept_in_its_order(database: Database) -> None:
    async with database.write(ORG) as tx:
        for number in range(3):
            await approval_votes.add(tx, "apr_1", f"mem_{number}", comment=str(number))
        await approval_votes.add(tx, "apr_1", "mem_9", decision="approve", comment="", behind={"mem_2"})
        said = (await approval_votes.of(tx, ["apr_1", "apr_2"]))["apr_1"]
    assert [row.behind for row in said] == [None, None, None, ["mem_2"]]
    assert [(row.number, row.decision) for row in said] == [(1, ""), (2, ""), (3, ""), (4, "approve")]
