"""Deciding approvals through their handlers, on both databases: who may, once, and what follows."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.errors import ApprovalMismatch, Invalid, NotFound, PermissionDenied
from core.rpc.approvals import approvals
from core.rpc.convert import from_struct, to_timestamp
from core.store.control import approvals as store
from core.store.control.approvals import NewApproval
from core.store.database import Database
from dripstone.v1 import approval_pb2 as pb
from tests.rpc.qualifying_calls import AGENT, ORG, PERSON, Service

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service(database: Database, clock: ManualClock) -> Service:
    made = Service(database, clock)
    until = clock.now() + timedelta(days=1)
    async with database.system() as tx:
        await store.create_many(
            tx,
            [
                NewApproval(ORG, "apr_1", "plan", "pln_1", "Qualify Ida", "sha256:a", AGENT, {"score": 80}, until),
                NewApproval(ORG, "apr_2", "step", "enr_1", "Send the offer?", "enr_1/3", AGENT),
            ],
        )
    return made


async def listed(service: Service, text: str = "", **values: Any) -> list[str]:
    request = pb.ListApprovalsRequest(filter=text, **values)
    return [one.id for one in (await service(approvals.list_approvals, request)).approvals]


async def test_an_approval_is_read_with_what_a_person_needs(service: Service) -> None:
    found = await service(approvals.get_approval, pb.GetApprovalRequest(approval_id="apr_1"))
    assert (found.id, found.subject_kind, found.subject_id, found.title) == ("apr_1", "plan", "pln_1", "Qualify Ida")
    assert (found.subject_hash, found.requester_id, found.state) == ("sha256:a", AGENT, pb.APPROVAL_STATE_PENDING)
    assert from_struct(found.details) == {"score": 80}
    assert found.expire_time == to_timestamp(service.clock.now() + timedelta(days=1))
    assert not found.HasField("decide_time")


async def test_approvals_are_listed_newest_first_and_by_filter(service: Service) -> None:
    assert await listed(service) == ["apr_2", "apr_1"]
    assert await listed(service, page_size=1) == ["apr_2"]
    assert await listed(service, 'subject_kind = "plan" AND subject_id = "pln_1"') == ["apr_1"]
    await service.decide("apr_1")
    assert await listed(service, 'state = "pending"') == ["apr_2"]
    assert await listed(service, 'state = "approved"') == ["apr_1"]
    with pytest.raises(Invalid):
        await listed(service, 'stat = "pending"')


async def test_a_decision_is_kept_with_who_and_why(service: Service) -> None:
    decided = await service.decide("apr_1", approved=False, comment="Not ours.", subject_hash="sha256:a")
    assert (decided.state, decided.decider_id, decided.comment) == (pb.APPROVAL_STATE_REJECTED, PERSON, "Not ours.")
    assert decided.decide_time == to_timestamp(service.clock.now())


async def test_an_approved_step_is_used_at_once_by_its_enrollment(service: Service) -> None:
    decided = await service.decide("apr_2")
    assert decided.state == pb.APPROVAL_STATE_USED
    assert service.engine.told == [("enr_1", True, PERSON)]


async def test_a_rejected_step_is_told_to_its_enrollment(service: Service) -> None:
    decided = await service.decide("apr_2", approved=False)
    assert decided.state == pb.APPROVAL_STATE_REJECTED
    assert service.engine.told == [("enr_1", False, PERSON)]


async def test_the_principal_that_asked_cannot_decide_and_nothing_changes(service: Service) -> None:
    with pytest.raises(PermissionDenied) as caught:
        await service.decide("apr_2", by=AGENT)
    assert caught.value.way_out == "Ask another principal that may."
    assert service.engine.told == []
    assert await listed(service, 'state = "pending"') == ["apr_2", "apr_1"]


async def test_who_saw_something_else_is_refused(service: Service) -> None:
    with pytest.raises(ApprovalMismatch):
        await service.decide("apr_1", subject_hash="sha256:b")


async def test_of_many_deciders_at_once_one_decides(service: Service) -> None:
    outcomes = await asyncio.gather(
        *(service.decide("apr_2", approved=number % 2 == 0, by=f"mem_{number}") for number in range(6)),
        return_exceptions=True,
    )
    assert Counter(type(outcome).__name__ for outcome in outcomes) == {"Approval": 1, "WrongState": 5}
    assert len(service.engine.told) == 1


async def test_what_another_organization_has_is_not_found(service: Service) -> None:
    for approval_id in ("apr_1", "apr_9"):
        request = pb.GetApprovalRequest(approval_id=approval_id)
        with pytest.raises(NotFound):
            await service(approvals.get_approval, request, org="org_other")
