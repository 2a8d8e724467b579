"""Qualifying a lead through its handler, on both databases: preview, commit, approval, staleness, turns."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from core import ids
from core.clock import ManualClock
from core.domain.errors import ApprovalRejected, DripstoneError, Invalid, NotFound, PlanStale, WrongState
from core.rpc import qualification
from core.rpc.convert import from_value, to_timestamp
from core.store import deliveries, endpoints, events, organizations, records
from core.store.database import Database
from dripstone.v1 import qualification_pb2 as pb
from tests.rpc.qualifying_calls import ORG, PERSON, Service

pytestmark = pytest.mark.anyio

HOT = {"employees": 120, "country": "DE", "job_title": "Head of Revenue"}
WARM = {"employees": 120, "country": "DE", "job_title": "Buyer"}


@pytest.fixture
async def service(database: Database, clock: ManualClock) -> Service:
    made = Service(database, clock)
    await made.prepare()
    return made


def changes(response: pb.QualifyLeadResponse) -> dict[str, Any]:
    return {one.field: from_value(one.new_value) for one in response.planned_changes}


async def record_count(database: Database) -> int:
    async with database.read(ORG) as tx:
        row = await tx.first(select(func.count().label("there")).select_from(records.records))
    assert row is not None
    return int(row.there)


async def listen(database: Database) -> None:
    async with database.write(ORG) as tx:
        await endpoints.create(
            tx,
            "ep_1",
            url="https://example.com/",
            description="",
            event_types=["lead.qualified", "approval.requested", "approval.decided"],
            retry_preset="standard",
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )


async def told(database: Database) -> dict[str, dict[str, Any]]:
    async with database.read(ORG) as tx:
        rows = await tx.all(select(deliveries.messages.c.payload))
    bodies = [json.loads(row.payload) for row in rows]
    return {body["type"]: body["data"] for body in bodies}


async def test_a_preview_explains_itself_and_changes_no_record(service: Service, database: Database) -> None:
    contact = await service.contact("ida@example.com", **WARM)
    before = await record_count(database)
    plan = await service.preview(lead_id=contact)
    assert (plan.score, plan.fit, plan.engagement, plan.tier) == (60, 60, 0, "B")
    assert plan.decision == pb.DECISION_QUALIFIED
    assert [(one.rule_id, one.points) for one in plan.contributions] == [("size", 40), ("country", 20)]
    fact = plan.contributions[0].inputs[0]
    assert (fact.path, from_value(fact.value), fact.source) == ("contact.employees", 120, "key_crm")
    assert fact.observe_time == to_timestamp(service.clock.now())
    assert (plan.owner.member_id, plan.owner.method, plan.owner.display_name) == ("mem_ada", "round_robin", "Ada")
    assert changes(plan) == {
        "score": 60,
        "fit": 60,
        "engagement": 0,
        "tier": "B",
        "decision": "qualified",
        "status": "qualified",
        "owner_id": "mem_ada",
        "model_id": "default",
        "model_version": 1,
        "custom.desk": "emea",
    }
    assert {one.record_id for one in plan.planned_changes} == {"lead"}
    assert (plan.applied, plan.contact_id, plan.lead_id) == (False, contact, "")
    assert plan.plan_id.startswith("pln_")
    assert plan.plan_hash.startswith("sha256:")
    assert plan.plan_expire_time == to_timestamp(service.clock.now() + timedelta(hours=24))
    assert await record_count(database) == before


async def test_a_commit_applies_exactly_the_plan_once(service: Service, database: Database) -> None:
    await listen(database)
    contact = await service.contact("ida@example.com", **WARM)
    plan = await service.preview(lead_id=contact)
    done = await service.commit(plan_id=plan.plan_id, lead_id=plan.lead_id)
    assert done.applied
    assert done.plan_hash == plan.plan_hash
    assert changes(done) == changes(plan)
    lead = await service.fields_of(done.lead_id)
    assert lead == {
        "contact_id": contact,
        "status": "qualified",
        "score": 60,
        "fit": 60,
        "engagement": 0,
        "tier": "B",
        "decision": "qualified",
        "owner_id": "mem_ada",
        "model_id": "default",
        "model_version": 1,
        "qualified_at": "2026-03-02T09:00:00.000Z",
        "custom": {"desk": "emea"},
    }
    qualified = (await told(database))["lead.qualified"]
    assert (qualified["lead_id"], qualified["decision"], qualified["score"]) == (done.lead_id, "qualified", 60)
    assert (qualified["owner_id"], qualified["plan_id"]) == ("mem_ada", plan.plan_id)
    with pytest.raises(WrongState):
        await service.commit(plan_id=plan.plan_id)


async def test_an_unknown_email_is_judged_on_the_given_facts_and_made_by_the_commit(
    service: Service, database: Database
) -> None:
    plan = await service.preview(email="New@Example.com", fields=WARM)
    assert (plan.score, plan.contact_id, plan.lead_id) == (60, "", "")
    assert plan.contributions[0].inputs[0].source == "key_agent"
    assert {one.record_id for one in plan.planned_changes} == {"contact", "lead"}
    assert await record_count(database) == 0
    done = await service.commit(plan_id=plan.plan_id, email="new@example.com", fields=WARM)
    contact = await service.fields_of(done.contact_id)
    assert contact == {"email": "new@example.com", **WARM}
    assert (await service.fields_of(done.lead_id))["contact_id"] == done.contact_id
    assert {one.record_id for one in done.planned_changes} == {done.contact_id, done.lead_id}


async def test_a_commit_without_a_plan_applies_at_once(service: Service) -> None:
    done = await service.commit(email="new@example.com", fields=WARM)
    assert (done.applied, done.plan_id, done.decision) == (True, "", pb.DECISION_QUALIFIED)
    again = await service.commit(email="new@example.com", fields={"employees": 3})
    assert (again.contact_id, again.lead_id) == (done.contact_id, done.lead_id)
    assert (again.decision, again.owner.method) == (pb.DECISION_DISQUALIFIED, "kept")
    assert (await service.fields_of(done.lead_id))["status"] == "disqualified"


async def test_the_lead_itself_can_be_named(service: Service) -> None:
    done = await service.commit(email="new@example.com", fields=WARM)
    again = await service.preview(lead_id=done.lead_id)
    assert (again.lead_id, again.contact_id, again.score) == (done.lead_id, done.contact_id, 60)
    assert changes(again) == {}


async def test_what_changed_since_the_preview_makes_it_stale(service: Service) -> None:
    contact = await service.contact("ida@example.com", **WARM)
    plan = await service.preview(lead_id=contact)
    await service.change(contact, country="FR")
    with pytest.raises(PlanStale, match="score was 60, is 40") as caught:
        await service.commit(plan_id=plan.plan_id)
    assert caught.value.way_out
    await service.change(contact, country="DE")
    assert (await service.commit(plan_id=plan.plan_id)).applied


async def test_a_contact_that_turned_up_meanwhile_makes_a_plan_stale(service: Service) -> None:
    plan = await service.preview(email="new@example.com", fields=WARM)
    await service.contact("new@example.com")
    with pytest.raises(PlanStale, match="the contact has changed"):
        await service.commit(plan_id=plan.plan_id)


async def test_a_plan_expires_after_a_day(service: Service, clock: ManualClock) -> None:
    plan = await service.preview(email="new@example.com", fields=WARM)
    clock.advance(timedelta(hours=24))
    with pytest.raises(PlanStale, match="it expired"):
        await service.commit(plan_id=plan.plan_id)


async def test_a_new_version_of_the_model_leaves_plans_as_they_are(service: Service) -> None:
    plan = await service.preview(email="new@example.com", fields=WARM)
    source = (await service(qualification.get_scoring_model, pb.GetScoringModelRequest(model_id="default"))).source
    await service.publish(source.replace("points: 40", "points: 50"))
    done = await service.commit(plan_id=plan.plan_id)
    assert (done.model_version, done.score) == (1, 60)
    assert (await service.preview(email="other@example.com", fields=WARM)).model_version == 2


async def test_validate_only_keeps_no_plan(service: Service) -> None:
    dry = await service.preview(email="new@example.com", fields=WARM, validate_only=True)
    assert (dry.plan_id, dry.score) == ("", 60)


async def test_too_little_known_asks_for_the_missing_facts(service: Service) -> None:
    plan = await service.preview(email="new@example.com")
    assert plan.decision == pb.DECISION_NEEDS_INFO
    assert [(one.path, one.points_at_stake) for one in plan.missing][:2] == [
        ("contact.employees", 40),
        ("contact.country", 20),
    ]
    assert 0 < plan.confidence < 0.5
    assert not plan.HasField("owner")


async def test_a_disqualified_lead_shows_the_rule(service: Service) -> None:
    plan = await service.preview(email="new@example.com", fields={**HOT, "industry": "competitor"})
    assert (plan.decision, plan.tier, plan.score) == (pb.DECISION_DISQUALIFIED, "", 70)
    assert [one.rule_id for one in plan.disqualifiers] == ["competitor"]


async def test_an_approval_is_asked_for_once_and_used_once(service: Service, database: Database) -> None:
    await listen(database)
    plan = await service.preview(email="new@example.com", fields=HOT)
    assert (plan.decision, plan.pending_decision) == (pb.DECISION_NEEDS_APPROVAL, pb.DECISION_QUALIFIED)
    assert (plan.approval_reason, plan.approval_id) == ("A named account", "")
    waiting = await service.commit(plan_id=plan.plan_id)
    again = await service.commit(plan_id=plan.plan_id)
    assert waiting.approval_id == again.approval_id != ""
    assert (waiting.decision, waiting.applied) == (pb.DECISION_NEEDS_APPROVAL, False)
    assert await record_count(database) == 0
    requested = (await told(database))["approval.requested"]
    assert requested["title"] == "Qualify new@example.com: qualified, tier A, score 70"
    assert (requested["details"]["owner"], requested["details"]["score"]) == ("Ada", 70)

    with pytest.raises(DripstoneError, match="another principal must decide"):
        await service.decide(waiting.approval_id, by="key_agent")
    await service.decide(waiting.approval_id, subject_hash=plan.plan_hash, comment="A known account.")
    decided = (await told(database))["approval.decided"]
    assert (decided["decision"], decided["decider_id"]) == ("approved", PERSON)
    done = await service.commit(plan_id=plan.plan_id)
    assert (done.applied, done.decision, done.approval_id) == (True, pb.DECISION_QUALIFIED, waiting.approval_id)
    assert (await service.fields_of(done.lead_id))["decision"] == "qualified"
    with pytest.raises(WrongState):
        await service.commit(plan_id=plan.plan_id)


async def test_a_commit_without_a_plan_that_needs_approval_keeps_one(service: Service, database: Database) -> None:
    waiting = await service.commit(email="new@example.com", fields=HOT)
    assert (waiting.applied, waiting.decision) == (False, pb.DECISION_NEEDS_APPROVAL)
    assert await record_count(database) == 0
    await service.decide(waiting.approval_id)
    assert (await service.commit(plan_id=waiting.plan_id)).applied


async def test_a_rejected_plan_is_refused_with_a_way_out(service: Service) -> None:
    waiting = await service.commit(email="new@example.com", fields=HOT)
    await service.decide(waiting.approval_id, approved=False, comment="Not ours.")
    with pytest.raises(ApprovalRejected, match="Not ours") as caught:
        await service.commit(plan_id=waiting.plan_id)
    assert "preview again" in caught.value.way_out


async def test_an_approval_holds_for_what_was_approved_alone(service: Service) -> None:
    contact = await service.contact("ida@example.com", **HOT)
    waiting = await service.commit(lead_id=contact)
    await service.decide(waiting.approval_id)
    await service.change(contact, job_title="Intern")
    with pytest.raises(PlanStale):
        await service.commit(plan_id=waiting.plan_id)


async def test_an_approval_can_be_used_although_the_preview_is_older_than_a_day(
    service: Service, clock: ManualClock
) -> None:
    waiting = await service.commit(email="new@example.com", fields=HOT)
    clock.advance(timedelta(days=2))
    await service.decide(waiting.approval_id)
    assert (await service.commit(plan_id=waiting.plan_id)).applied


async def test_an_approval_that_nobody_gave_in_time_makes_the_plan_stale(service: Service, clock: ManualClock) -> None:
    waiting = await service.commit(email="new@example.com", fields=HOT)
    clock.advance(timedelta(days=3))
    with pytest.raises(PlanStale, match="expired"):
        await service.commit(plan_id=waiting.plan_id)
    with pytest.raises(WrongState):
        await service.decide(waiting.approval_id)


async def test_a_fact_observed_after_the_instant_is_not_read(service: Service, clock: ManualClock) -> None:
    contact = await service.contact("ida@example.com", **WARM)
    then = clock.now()
    clock.advance(timedelta(hours=1))
    await service.change(contact, country="FR", job_title="Head of Sales")
    clock.advance(timedelta(hours=1))
    past = await service.preview(lead_id=contact, as_of=to_timestamp(then))
    assert [one.rule_id for one in past.contributions] == ["size", "country"]
    assert past.contributions[1].inputs[0].observe_time == to_timestamp(then)
    now = await service.preview(lead_id=contact)
    assert [one.rule_id for one in now.contributions] == ["size", "title"]
    before = await service.preview(lead_id=contact, as_of=to_timestamp(then - timedelta(seconds=1)))
    assert before.score == 0


async def test_two_commits_of_one_plan_apply_once(service: Service) -> None:
    contact = await service.contact("ida@example.com", **WARM)
    plan = await service.preview(lead_id=contact)
    outcomes = await asyncio.gather(*(service.commit(plan_id=plan.plan_id) for _ in range(4)), return_exceptions=True)
    assert Counter(type(outcome).__name__ for outcome in outcomes) == {"QualifyLeadResponse": 1, "WrongState": 3}


async def test_concurrent_commits_for_one_new_email_make_one_contact_and_one_lead(
    service: Service, database: Database
) -> None:
    outcomes = await asyncio.gather(*(service.commit(email="new@example.com", fields=WARM) for _ in range(4)))
    assert len({(one.contact_id, one.lead_id) for one in outcomes}) == 1
    assert await record_count(database) == 2


async def test_concurrent_commits_share_leads_out_evenly_although_callers_repeat_themselves(service: Service) -> None:
    outcomes = await asyncio.gather(
        *(service.commit(email=f"lead{number % 20}@example.com", fields=WARM) for number in range(32))
    )
    owners = {one.lead_id: one.owner.member_id for one in outcomes}
    assert Counter(owners.values()) == {"mem_ada": 10, "mem_bob": 10}


async def test_a_promised_owner_is_kept_and_nobody_loses_a_turn(service: Service) -> None:
    first = await service.preview(email="one@example.com", fields=WARM)
    second = await service.preview(email="two@example.com", fields=WARM)
    assert (first.owner.member_id, second.owner.member_id) == ("mem_ada", "mem_ada")
    await service.commit(plan_id=first.plan_id)
    done = await service.commit(plan_id=second.plan_id)
    assert done.owner.member_id == "mem_ada"
    following = await service.commit(email="three@example.com", fields=WARM)
    assert following.owner.member_id == "mem_bob"


async def test_who_is_not_a_member_is_passed_over_with_a_reason(service: Service) -> None:
    source = (await service(qualification.get_scoring_model, pb.GetScoringModelRequest(model_id="default"))).source
    await service.publish(source.replace("[ada@example.com,", "[gone@example.com,"), "other")
    plan = await service.preview(email="new@example.com", fields=WARM, model_id="other")
    assert plan.owner.member_id == "mem_bob"
    assert [(one.member_id, one.reason) for one in plan.owner.skipped] == [
        ("gone@example.com", "is not a member of the organization")
    ]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({}, "lead_id"),
        ({"lead_id": "cnt_1", "email": "a@example.com"}, "lead_id"),
        ({"lead_id": "jane"}, "lead_id"),
        ({"lead_id": "cnt_1", "fields": WARM}, "fields"),
        ({"email": "nobody"}, "email"),
        ({"email": "a@example.com", "fields": {"emplyees": 4}}, "fields.emplyees"),
        ({"email": "a@example.com", "fields": {"email": "b@example.com"}}, "fields.email"),
        ({"plan_id": "pln_1"}, "plan_id"),
    ],
)
async def test_bad_input_is_refused_with_its_place(service: Service, values: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        await service.preview(**values)
    assert [one.field for one in caught.value.violations] == [field]
    assert all(one.hint for one in caught.value.violations)


async def test_an_instant_to_come_or_with_given_facts_is_refused(service: Service) -> None:
    later = to_timestamp(service.clock.now() + timedelta(seconds=1))
    with pytest.raises(Invalid, match="later than now"):
        await service.preview(email="a@example.com", as_of=later)
    with pytest.raises(Invalid, match="not known then"):
        await service.preview(email="a@example.com", fields=WARM, as_of=to_timestamp(service.clock.now()))


async def test_a_plan_is_for_what_it_was_made_for(service: Service) -> None:
    plan = await service.preview(email="a@example.com", fields=WARM)
    with pytest.raises(Invalid) as caught:
        await service.commit(
            plan_id=plan.plan_id, lead_id="lead_9", email="b@example.com", fields={"country": "FR"}, model_id="other"
        )
    assert {one.field for one in caught.value.violations} == {"lead_id", "email", "fields", "model_id"}


@pytest.mark.parametrize("values", [{"lead_id": "lead_9"}, {"lead_id": "cnt_9"}, {"email": "a@b.co", "model_id": "x"}])
async def test_what_is_not_there_is_not_found(service: Service, values: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        await service.preview(**values)


async def test_another_organization_has_neither_the_plan_nor_the_model(service: Service) -> None:
    plan = await service.preview(email="a@example.com", fields=WARM)
    with pytest.raises(NotFound):
        await service.commit(plan_id=plan.plan_id, org="org_other")
    with pytest.raises(NotFound):
        await service.commit(email="a@example.com", org="org_other")


async def test_models_are_published_read_and_listed(service: Service, clock: ManualClock) -> None:
    clock.advance(timedelta(seconds=1))
    source = (await service(qualification.get_scoring_model, pb.GetScoringModelRequest(model_id="default"))).source
    second = await service.publish(source.replace("title: Inbound", "title: Second"))
    assert (second.id, second.version, second.title) == ("default", 2, "Second")
    first = await service(qualification.get_scoring_model, pb.GetScoringModelRequest(model_id="default", version=1))
    assert (first.title, first.source) == ("Inbound", source)
    listed = await service(qualification.list_scoring_models, pb.ListScoringModelsRequest())
    assert [(one.id, one.version, one.source) for one in listed.scoring_models] == [("default", 2, "")]
    with pytest.raises(NotFound):
        await service(qualification.get_scoring_model, pb.GetScoringModelRequest(model_id="default", version=9))
    with pytest.raises(Invalid):
        await service.publish(source, "Not an id")
    with pytest.raises(Invalid):
        await service.publish("title: x")


async def test_events_count_within_the_window_and_up_to_the_instant(
    service: Service, database: Database, clock: ManualClock
) -> None:
    contact = await service.contact("ida@example.com", country="DE")

    async def happen(name: str) -> str:
        event_id = ids.mint("evt", clock.now())
        async with database.write(ORG) as tx:
            event = events.NewEvent(event_id, "web", "lead", name, {}, contact, tx.now, "")
            await events.store(tx, [event])
        return event_id

    clock.advance(timedelta(hours=1))
    await happen("demo.requested")
    quiet = to_timestamp(clock.now() - timedelta(seconds=1))
    await happen("other.thing")
    clock.advance(timedelta(days=1))
    newest = await happen("demo.requested")
    plan = await service.preview(lead_id=contact)
    (demo,) = [one for one in plan.contributions if one.group == "engagement"]
    assert (demo.rule_id, demo.raw_points, demo.points, demo.when) == ("demo", 30, 30, "event demo.requested")
    assert [one.source for one in demo.inputs][-1] == f"event:{newest}"
    assert (await service.preview(lead_id=contact, as_of=quiet)).engagement == 0
    clock.advance(timedelta(days=31))
    assert (await service.preview(lead_id=contact)).engagement == 0


async def test_an_email_in_another_spelling_is_the_same_contact_and_stays_as_it_is(service: Service) -> None:
    contact = await service.contact("Ida@Example.com", **WARM)
    done = await service.commit(email="IDA@example.com", fields={"job_title": "Buyer"})
    assert done.contact_id == contact
    assert (await service.fields_of(contact))["email"] == "Ida@Example.com"


async def test_a_dry_commit_says_what_would_be_and_names_nothing_that_is_not_kept(service: Service) -> None:
    dry = await service.commit(email="new@example.com", fields=HOT, validate_only=True)
    assert (dry.applied, dry.plan_id, dry.approval_id, dry.lead_id) == (False, "", "", "")
    assert (dry.decision, dry.score) == (pb.DECISION_NEEDS_APPROVAL, 70)
    dry = await service.commit(email="other@example.com", fields=WARM, validate_only=True)
    assert (dry.applied, dry.lead_id, dry.decision) == (False, "", pb.DECISION_QUALIFIED)


async def test_the_status_of_a_lead_whose_story_has_gone_on_stays(service: Service) -> None:
    done = await service.commit(email="new@example.com", fields=WARM)
    await service.change(done.lead_id, status="converted")
    again = await service.commit(lead_id=done.lead_id)
    assert again.applied
    assert (await service.fields_of(done.lead_id))["status"] == "converted"


async def test_a_lead_whose_owner_has_left_is_routed_again(service: Service, database: Database) -> None:
    done = await service.commit(email="new@example.com", fields=WARM)
    assert done.owner.member_id == "mem_ada"
    async with database.write(ORG) as tx:
        await tx.run(delete(organizations.members).where(organizations.members.c.id == "mem_ada"))
    again = await service.commit(lead_id=done.lead_id)
    assert (again.owner.member_id, again.owner.method) == ("mem_bob", "round_robin")
    assert (await service.fields_of(done.lead_id))["owner_id"] == "mem_bob"
