"""Judging a lead through its handler, on both databases: what a preview says, from which facts, and bad input."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core import ids
from core.clock import ManualClock
from core.domain.errors import Invalid, NotFound
from core.rpc.convert import from_value, to_timestamp
from core.rpc.qualification import scoring_models
from core.store.database import Database
from core.store.events import events
from dripstone.v1 import qualification_pb2 as pb
from tests.rpc.qualifying_calls import HOT, ORG, WARM, Service, changes, record_count

pytestmark = pytest.mark.anyio


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


async def test_the_lead_itself_can_be_named(service: Service) -> None:
    done = await service.commit(email="new@example.com", fields=WARM)
    again = await service.preview(lead_id=done.lead_id)
    assert (again.lead_id, again.contact_id, again.score) == (done.lead_id, done.contact_id, 60)
    assert changes(again) == {}


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


async def test_who_is_not_a_member_is_passed_over_with_a_reason(service: Service) -> None:
    source = (await service(scoring_models.get_scoring_model, pb.GetScoringModelRequest(model_id="default"))).source
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


@pytest.mark.parametrize("values", [{"lead_id": "lead_9"}, {"lead_id": "cnt_9"}, {"email": "a@b.co", "model_id": "x"}])
async def test_what_is_not_there_is_not_found(service: Service, values: dict[str, Any]) -> None:
    with pytest.raises(NotFound):
        await service.preview(**values)


async def test_models_are_published_read_and_listed(service: Service, clock: ManualClock) -> None:
    clock.advance(timedelta(seconds=1))
    source = (await service(scoring_models.get_scoring_model, pb.GetScoringModelRequest(model_id="default"))).source
    second = await service.publish(source.replace("title: Inbound", "title: Second"))
    assert (second.id, second.version, second.title) == ("default", 2, "Second")
    first = await service(scoring_models.get_scoring_model, pb.GetScoringModelRequest(model_id="default", version=1))
    assert (first.title, first.source) == ("Inbound", source)
    listed = await service(scoring_models.list_scoring_models, pb.ListScoringModelsRequest())
    assert [(one.id, one.version, one.source) for one in listed.scoring_models] == [("default", 2, "")]
    with pytest.raises(NotFound):
        await service(scoring_models.get_scoring_model, pb.GetScoringModelRequest(model_id="default", version=9))
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
