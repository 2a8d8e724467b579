"""Nobody waits for an owner who does not respond: the lead goes on, and at last people are told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.rpc.qualification import assigning
from core.store.control import audit
from core.store.database import Database
from core.store.qualification import rerouting
from dripstone.v1 import routing_pb2 as pb
from tests.rpc.routing_calls import ORG, TURNS, Desk

pytestmark = pytest.mark.anyio

LATE = timedelta(minutes=31)


@pytest.fixture
async def desk(database: Database, clock: ManualClock) -> Desk:
    """Return an organization with people and a routing with an SLA of half an hour."""
    made = Desk(database, clock)
    await made.prepare()
    await made.publish()
    return made


async def upkeep(desk: Desk, by: timedelta = LATE) -> int:
    desk.clock.advance(by)
    return await rerouting.upkeep(desk.database)


async def test_an_overdue_lead_goes_to_somebody_else_and_then_people_are_told_once(desk: Desk) -> None:
    (lead,) = await desk.leads(1)
    first = await desk.assign(lead)
    assert await upkeep(desk, timedelta(minutes=29)) == 0
    assert await upkeep(desk, timedelta(minutes=1)) == 1
    second, stored = await desk.listed()
    assert (stored.id, stored.state) == (first.id, pb.ASSIGNMENT_STATE_REROUTED)
    assert (second.member_id, second.state, second.cause) == ("mem_bob", pb.ASSIGNMENT_STATE_OPEN, f"sla:{first.id}")
    assert second.previous_assignment_id == first.id
    assert [(one.member_id, one.reason) for one in second.skipped] == [
        ("mem_ada", "had the lead and did not respond in time")
    ]
    assert (await desk.fields_of(lead))["owner_id"] == "mem_bob"
    assert await desk.told("lead.assignment_overdue") == []
    assert await upkeep(desk) == 1  # it may be rerouted once only
    assert await upkeep(desk) == 0
    (told,) = await desk.told("lead.assignment_overdue")
    assert (told["assignment_id"], told["member_id"]) == (second.id, "mem_bob")
    assert told["reason"] == "the owner did not respond in time"
    assert (await desk.fields_of(lead))["owner_id"] == "mem_bob"
    late = await desk(assigning.accept_assignment, pb.AcceptAssignmentRequest(assignment_id=second.id))
    assert late.state == pb.ASSIGNMENT_STATE_ACCEPTED
    entries = select(audit.audit_entries.c.method).where(audit.audit_entries.c.subject_id == lead)
    async with desk.database.read(ORG) as tx:
        assert sorted(row.method for row in await tx.all(entries)) == ["System.EscalateLead", "System.RerouteLead"]


async def accept(desk: Desk, given: pb.Assignment) -> None:
    await desk(assigning.accept_assignment, pb.AcceptAssignmentRequest(assignment_id=given.id))


async def take(desk: Desk, given: pb.Assignment) -> None:
    await desk.change(given.lead_id, owner_id="mem_cat")


async def close(desk: Desk, given: pb.Assignment) -> None:
    await desk.change(given.lead_id, status="converted")


@pytest.mark.parametrize(
    ("settle", "looked_at"), [(accept, 0), (take, 1), (close, 1)], ids=["accepted", "somebody else's", "closed"]
)
async def test_nobody_is_late_for_what_is_settled(desk: Desk, settle: Callable[..., object], looked_at: int) -> None:
    (lead,) = await desk.leads(1)
    given = await desk.assign(lead)
    await settle(desk, given)  # type: ignore[misc]
    before = (await desk.fields_of(lead))["owner_id"]
    assert await upkeep(desk) == looked_at
    assert await upkeep(desk) == 0
    assert (await desk.fields_of(lead))["owner_id"] == before
    assert await desk.told("lead.assignment_overdue") == []
    assert len(await desk.listed()) == 1


async def test_when_nobody_else_can_take_it_people_are_told_at_once(desk: Desk) -> None:
    for name in ("mem_bob", "mem_cat"):
        away = {"start_time": datetime(2026, 3, 1, tzinfo=UTC), "end_time": datetime(2026, 4, 1, tzinfo=UTC)}
        await desk.available(name, absences=[away])
    (lead,) = await desk.leads(1)
    given = await desk.assign(lead)
    assert await upkeep(desk) == 1
    (told,) = await desk.told("lead.assignment_overdue")
    assert (told["assignment_id"], told["reason"]) == (given.id, "nobody else could take it")
    assert (await desk.fields_of(lead))["owner_id"] == "mem_ada"


async def test_the_time_to_respond_passes_in_business_hours_alone(desk: Desk) -> None:
    hours = "{days: [monday, tuesday, wednesday, thursday, friday], hours: 09:00-17:00}"
    await desk.publish(TURNS.replace("respond_within: 30m", f"respond_within: 2h, calendar: {hours}"))
    desk.clock.advance(datetime(2026, 3, 27, 15, 30, tzinfo=UTC) - desk.clock.now())  # Friday 16:30 in Berlin
    (lead,) = await desk.leads(1)
    given = await desk.assign(lead)
    due = given.response_due_time.ToDatetime(UTC).replace(microsecond=0)
    assert due == datetime(2026, 3, 30, 8, 30, tzinfo=UTC)  # Monday 10:30, after the clock went forward
    assert await upkeep(desk, timedelta(days=2)) == 0
    assert await upkeep(desk, timedelta(days=1)) == 1
    assert (await desk.listed())[0].member_id == "mem_bob"
