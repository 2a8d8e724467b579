"""Leads are given to people by rules, and every one passed over has their reason."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import zip_longest

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.domain.enrollment import RecordFacts
from core.domain.errors import Invalid, NotFound, WrongState
from core.rpc.organizations import availability
from core.rpc.qualification import assigning, routings
from core.store.database import Database
from core.store.organizations.members import MemberState
from core.store.qualification import routing_leads, routing_sight
from core.store.qualification.assignments import assignments
from core.store.records import records
from dripstone.v1 import organization_pb2
from dripstone.v1 import routing_pb2 as pb
from tests.rpc.routing_calls import ORG, TURNS, Desk

pytestmark = pytest.mark.anyio


@pytest.fixture
async def desk(database: Database, clock: ManualClock) -> Desk:
    """Return an organization with people."""
    made = Desk(database, clock)
    await made.prepare()
    return made


async def test_routings_have_versions_and_a_bad_one_is_refused_whole(desk: Desk) -> None:
    first = await desk.publish()
    second = await desk.publish(TURNS.replace("In turn", "By turns"))
    assert (first.version, second.version, second.title) == (1, 2, "By turns")
    older = await desk(routings.get_routing, pb.GetRoutingRequest(routing_id="default", version=1))
    assert (older.source, older.title) == (TURNS, "In turn")
    await desk.publish(routing_id="emea")
    page = await desk(routings.list_routings, pb.ListRoutingsRequest())
    assert [(one.id, one.version, one.source) for one in page.routings] == [("emea", 1, ""), ("default", 2, "")]
    with pytest.raises(Invalid) as refused:
        await desk.publish("title: T\ncatch_all: {members: [vic@example.com, adda@example.com, mem_cat]}")
    assert [(one.field, one.reason) for one in refused.value.violations] == [
        ("catch_all.members[0]", "MEMBER_IS_VIEWER"),
        ("catch_all.members[1]", "UNKNOWN_MEMBER"),
    ]
    assert "ada@example.com" in refused.value.violations[1].hint
    with pytest.raises(NotFound, match="There is no routing emae") as unknown:
        await desk(routings.get_routing, pb.GetRoutingRequest(routing_id="emae"))
    assert "default, emea" in unknown.value.way_out


async def test_assigning_writes_the_lead_its_contact_the_turn_and_an_event(desk: Desk) -> None:
    await desk.publish()
    lead, other = await desk.leads(2)
    previewed = await desk.assign(lead, preview=True)
    assert (previewed.id, previewed.member_id, previewed.rule_id) == ("", "mem_ada", "catch_all")
    given = await desk.assign(lead, reason="a good one")
    assert (given.member_id, given.display_name, given.method) == ("mem_ada", "Ada", "catch_all")
    assert given.response_due_time.ToDatetime() - given.create_time.ToDatetime() == timedelta(minutes=30)
    assert previewed.HasField("response_due_time")
    fields = await desk.fields_of(lead)
    assert fields["owner_id"] == "mem_ada"
    assert (await desk.fields_of(fields["contact_id"]))["owner_id"] == "mem_ada"
    assert (await desk.assign(other)).member_id == "mem_bob"
    (told, _) = await desk.told("lead.assigned")
    assert (told["lead_id"], told["member_id"], told["assignment_id"]) == (lead, "mem_ada", given.id)
    await desk.change(lead, owner_id="mem_bob")
    again = await desk.assign(lead)
    assert again.member_id == "mem_cat"
    assert (await desk.fields_of(fields["contact_id"]))["owner_id"] == "mem_ada"  # it had one
    assert (await desk.get(given.id)).state == pb.ASSIGNMENT_STATE_REPLACED
    assert [one.id for one in await desk.listed(f'lead_id = "{lead}" AND state = "open"')] == [again.id]
    with pytest.raises(Invalid, match="which it never is"):
        await desk.listed('state = "opened"')


async def test_what_an_assignment_saw_gives_the_same_answer_again(desk: Desk) -> None:
    first = "{id: first, method: round_robin, members: [ada@example.com]}"
    others = "{members: [bob@example.com, cat@example.com]}"
    await desk.publish(f"{{title: Ada first, rules: [{first}], catch_all: {others}}}")
    now = desk.clock.now()
    ill = {"start_time": now, "end_time": now + timedelta(hours=1), "reason": "flu"}
    await desk.available("mem_ada", open_capacity=1)
    await desk.available("mem_cat", absences=[ill])
    assigned = [await desk.assign(lead) for lead in await desk.leads(3)]
    await desk.publish("title: Other\ncatch_all: {members: [cat@example.com]}")
    await desk.set_member("mem_bob", state=MemberState.REMOVED)
    for one in assigned:
        decision, stored = await desk.decided_again(one.id)
        assert decision.person is not None
        assert (decision.person.id, [(p.member, p.reason) for p in decision.passed]) == (
            stored.member_id,
            [(skipped.member_id, skipped.reason) for skipped in stored.skipped],
        )
    async with desk.database.read(ORG) as tx:
        kept = [row.seen for row in await tx.all(select(assignments).order_by(assignments.c.id))]
    # Who was not asked plays no part, and why somebody is away is nobody's business.
    assert [len(seen["people"]) for seen in kept] == [1, 3, 3]
    assert "out of office" in repr(kept)
    assert "flu" not in repr(kept)


async def test_capacity_is_never_exceeded_and_frees_itself_as_leads_are_closed_and_days_pass(
    desk: Desk, clock: ManualClock
) -> None:
    await desk.publish("title: T\ncatch_all: {method: capacity, members: [ada@example.com, bob@example.com]}")
    await desk.available("mem_ada", open_capacity=1)
    await desk.available("mem_bob", daily_capacity=2, timezone="America/New_York")
    leads = await desk.leads(4)
    assert [(await desk.assign(lead)).member_id for lead in leads[:3]] == ["mem_bob", "mem_ada", "mem_bob"]
    nobody = await desk.assign(leads[3])
    assert (nobody.id, nobody.member_id) == ("", "")
    assert [(one.member_id, one.reason) for one in nobody.skipped] == [
        ("mem_ada", "has 1 of 1 open leads"),
        ("mem_bob", "has had 2 of 2 leads today"),
    ]
    assert nobody.skipped_rules == ["catch_all: nobody it names can take a lead now"]
    assert "owner_id" not in await desk.fields_of(leads[3])
    request = organization_pb2.GetMemberAvailabilityRequest(member_id="mem_bob")
    said = await desk(availability.get_member_availability, request)
    assert (said.assigned_today, said.open_leads, said.daily_capacity) == (2, 2, 2)
    await desk.change(leads[1], status="closed")
    assert (await desk.assign(leads[3])).member_id == "mem_ada"
    (more,) = await desk.leads(1)
    clock.advance(timedelta(hours=16))  # past midnight in Berlin, not in New York
    assert (await desk.assign(more)).member_id == ""
    clock.advance(timedelta(hours=5))
    assert (await desk.assign(more)).member_id == "mem_bob"


async def test_accounts_are_matched_by_company_opportunity_and_domain(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.publish(
        """
        title: Accounts
        rules: [{id: known, when: has(account.owner_id), method: account_match}]
        catch_all: {members: [cat@example.com]}
        """
    )
    async with desk.database.write(ORG) as tx:
        made = await records.upsert(tx, "company", {"name": "Acme"}, actor="key_crm", cause="test")
    company = made.record.id
    (by_company,) = await desk.leads(1, email="x@acme.test", company_id=company)
    (by_domain,) = await desk.leads(1, email="y@acme.test")
    (free,) = await desk.leads(1, email="z@gmail.com")
    assert (await desk.assign(by_company, preview=True)).member_id == "mem_cat"
    async with desk.database.write(ORG) as tx:
        sale = {"name": "Seats", "company_id": company, "owner_id": "mem_bob"}
        await records.upsert(tx, "opportunity", sale, actor="key_crm", cause="test")
    assert (await desk.assign(by_company, preview=True)).member_id == "mem_bob"
    await desk.change(company, owner_id="mem_ada")
    matched = await desk.assign(by_company)
    assert (matched.member_id, matched.rule_id, matched.method) == ("mem_ada", "known", "account_match")
    assert (await desk.assign(by_domain)).member_id == "mem_ada"  # the other contact there has her now
    async with desk.database.write(ORG) as tx:
        kept = {"email": "a@abc-gmbh.test", "owner_id": "mem_bob"}
        await records.upsert(tx, "contact", kept, actor="key_crm", cause="test")
    monkeypatch.setattr(routing_sight, "_MOST_OF_A_DOMAIN", 1)  # a domain that ends alike takes nobody's place
    same, other = [(await desk.leads(1, email=email))[0] for email in ("b@abc-gmbh.test", "c@xyz-gmbh.test")]
    assert [(await desk.assign(lead)).member_id for lead in (same, other)] == ["mem_bob", "mem_cat"]
    unknown = await desk.assign(free)
    assert (unknown.member_id, unknown.skipped_rules) == ("mem_cat", ["known: its condition does not hold"])


async def test_by_name_whoever_is_named_gets_it_and_nobody_s_turn_passes(desk: Desk) -> None:
    await desk.publish()
    (lead,) = await desk.leads(1)
    named = await desk.assign(lead, member_id="mem_cat")
    assert (named.member_id, named.method, named.routing_id) == ("mem_cat", "named", "")
    assert not named.HasField("response_due_time")
    assert (await desk.assign(lead)).member_id == "mem_ada"
    for values, error in (
        ({"member_id": "mem_vic"}, Invalid),
        ({"member_id": "mem_x"}, NotFound),
        ({"member_id": "mem_cat", "routing_id": "default"}, Invalid),
        ({"routing_id": "x"}, NotFound),
    ):
        with pytest.raises(error):
            await desk.assign(lead, **values)
    with pytest.raises(NotFound):
        await desk.assign("lead_x")


async def test_accepting_ends_the_wait_and_declining_routes_again(desk: Desk) -> None:
    await desk.publish()
    first, second = await desk.leads(2)
    given = await desk.assign(first)
    accepted = await desk(assigning.accept_assignment, pb.AcceptAssignmentRequest(assignment_id=given.id))
    assert accepted.state == pb.ASSIGNMENT_STATE_ACCEPTED
    again = await desk(assigning.accept_assignment, pb.AcceptAssignmentRequest(assignment_id=given.id))
    assert again.state == pb.ASSIGNMENT_STATE_ACCEPTED
    given = await desk.assign(second)
    assert given.member_id == "mem_bob"
    order = []
    contact = (await desk.fields_of(second))["contact_id"]
    while given.member_id:
        decline = pb.DeclineAssignmentRequest(assignment_id=given.id, reason="not mine")
        following = await desk(assigning.decline_assignment, decline)
        if following.id == given.id:
            break
        assert following.previous_assignment_id == given.id
        assert (await desk.get(given.id)).state == pb.ASSIGNMENT_STATE_DECLINED
        assert (await desk.fields_of(contact))["owner_id"] == following.member_id
        order.append(following.member_id)
        given = following
    assert order == ["mem_cat", "mem_ada"]
    assert (await desk.get(given.id)).state == pb.ASSIGNMENT_STATE_DECLINED
    assert not {"owner_id"} & {*await desk.fields_of(second), *await desk.fields_of(contact)}
    for preview in (True, False):
        nobody = await desk.assign(second, preview=preview)
        assert (nobody.member_id, {one.reason for one in nobody.skipped}) == ("", {"had the lead and gave it back"})
    (told,) = await desk.told("lead.assignment_overdue")
    assert (told["lead_id"], told["reason"]) == (second, "the owner gave it back, and nobody else could take it")
    with pytest.raises(WrongState):
        await desk(assigning.accept_assignment, pb.AcceptAssignmentRequest(assignment_id=given.id))
    with pytest.raises(NotFound):
        await desk(assigning.decline_assignment, pb.DeclineAssignmentRequest(assignment_id="asg_x", reason="x"))


async def test_availability_is_replaced_whole_and_refused_whole(desk: Desk) -> None:
    hours = [{"day": "Monday", "start": "09:00", "end": "17:00"}]
    said = await desk.available("mem_ada", working_hours=hours, skills=["german"], open_capacity=3)
    assert (said.working_hours[0].day, list(said.skills), said.open_capacity) == ("monday", ["german"], 3)
    said = await desk.available("mem_ada", territories=["dach"])
    assert (list(said.working_hours), list(said.territories), said.open_capacity) == ([], ["dach"], 0)
    with pytest.raises(Invalid) as refused:
        await desk.available("mem_ada", timezone="Mars/Base", daily_capacity=-1)
    assert [one.field for one in refused.value.violations] == ["availability.timezone", "availability.daily_capacity"]
    await desk.set_member("mem_bob", state=MemberState.REMOVED)
    with pytest.raises(NotFound):
        await desk.available("mem_bob")


async def test_a_qualification_proposes_and_assigns_and_keeps_its_promise(desk: Desk) -> None:
    await desk.publish()
    first, second = await desk.leads(2)
    async with desk.database.write(ORG) as tx:
        await routing_leads.hold(tx)
        lead, contact = await routing_leads.lead_of(tx, first)
        assert contact is not None
        choice = await routing_leads.propose(tx, "default", contact.facts, lead.facts)
        promised = await routing_leads.propose(tx, "default", contact.facts, lead.facts, promised="mem_cat")
        nobody_yet = await routing_leads.propose(tx, "default", None, RecordFacts("", "lead", {}), promised="mem_vic")
        assert (choice.member_id, promised.member_id, nobody_yet.member_id) == ("mem_ada", "mem_cat", "mem_ada")
        await records.update(tx, first, {"owner_id": "mem_cat"}, actor="key_agent", cause="plan:pln_1")
        await routing_leads.assign(tx, first, promised, actor="key_agent", cause="plan:pln_1")
    (kept,) = await desk.listed()
    assert (kept.member_id, kept.method, kept.cause) == ("mem_cat", "named", "plan:pln_1")
    desk.clock.advance(timedelta(milliseconds=5))
    async with desk.database.write(ORG) as tx:
        await routing_leads.hold(tx)
        await records.update(tx, second, {"owner_id": "mem_ada"}, actor="key_agent", cause="call:1")
        await routing_leads.assign(tx, second, choice, actor="key_agent", cause="call:1")
    assert (await desk.listed())[0].method == "catch_all"
    (third,) = await desk.leads(1)
    assert (await desk.assign(third)).member_id == "mem_bob"


MIXED = """
title: Mixed
rules:
  - id: shares
    when: contact.country == "DE"
    method: weighted
    members: [{member: ada@example.com, weight: 5}, {member: bob@example.com, weight: 3}, cat@example.com]
  - {id: room, when: contact.country == "US", method: capacity, members: [dan@example.com, eve@example.com]}
catch_all: {members: [ada@example.com, bob@example.com, cat@example.com]}
"""


async def test_sixty_four_at_once_are_served_fairly_and_within_capacity(desk: Desk) -> None:
    for name in ("dan", "eve"):
        await desk.join(name)
    await desk.available("mem_dan", daily_capacity=7)
    await desk.available("mem_eve", open_capacity=4, daily_capacity=9)
    await desk.publish(MIXED)
    by_weight, by_room = await desk.leads(20, country="DE"), await desk.leads(20, country="US")
    in_turn = await desk.leads(24)
    mixed = [lead for three in zip_longest(by_weight, by_room, in_turn) for lead in three if lead]
    given = await desk.assign_all(mixed)
    got = Counter((one.method, one.member_id) for one in given)
    for member, weight in (("mem_ada", 5), ("mem_bob", 3), ("mem_cat", 1)):
        assert abs(got["weighted", member] - 20 * weight / 9) < 1
    assert (got["capacity", "mem_dan"], got["capacity", "mem_eve"]) == (7, 4)
    turns = [got["catch_all", member] for member in ("mem_ada", "mem_bob", "mem_cat")]
    assert sum(turns) == 24 + 20 - 7 - 4
    assert max(turns) - min(turns) <= 1
    owners = await desk.owners()
    assert owners == {one.lead_id: one.member_id for one in given}
    assert len(await desk.told("lead.assigned")) == 64
