"""Committing what a preview showed, on both databases: once, unless stale, approved where it must be, in turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete

from core import ids
from core.clock import ManualClock
from core.domain.errors import ApprovalRejected, DripstoneError, Invalid, NotFound, PlanStale, WrongState
from core.rpc.qualification import scoring_models
from core.store.database import Database
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.organizations import members
from dripstone.v1 import qualification_pb2 as pb
from tests.announcements import announced, listen
from tests.rpc.qualifying_calls import HOT, MODEL, ORG, PERSON, WARM, Service, changes, record_count

pytestmark = pytest.mark.anyio


async def told(database: Database) -> dict[str, dict[str, Any]]:
    return {body["type"]: body["data"] for body in await announced(database, ORG)}


async def test_a_commit_applies_exactly_the_plan_once(service: Service, database: Database) -> None:
    await listen(database, ORG)
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
    source = (await service(scoring_models.get_scoring_model, pb.GetScoringModelRequest(model_id="default"))).source
    await service.publish(source.replace("points: 40", "points: 50"))
    done = await service.commit(plan_id=plan.plan_id)
    assert (done.model_version, done.score) == (1, 60)
    assert (await service.preview(email="other@example.com", fields=WARM)).model_version == 2


async def test_an_approval_is_asked_for_once_and_used_once(service: Service, database: Database) -> None:
    await listen(database, ORG)
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
    assert requested["details"] == {"reason": "A named account"}  # what is asked for is in the approval

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
    await service.publish(MODEL.replace("fit:\n", "fit:\n  half_life: 30d\n").replace("window: 30d", "window: 1d"))
    contact = await service.contact("ida@example.com", **HOT)
    other = await service.contact("new@example.com", **HOT)
    clock.advance(timedelta(hours=1))
    async with service.database.write(ORG) as tx:
        demo = partial(NewEvent, source_id="s", event_type="action", event_name="demo.requested", fields={})
        about = {"contact_id": contact, "occurred_at": tx.now, "message_id": ""}
        await events.store(tx, [demo(ids.mint("evt", tx.now), **about)])
    waiting, second = [await service.commit(lead_id=one) for one in (contact, other)]
    clock.advance(timedelta(days=2))  # points fade meanwhile, and the event is out of its window
    async with service.database.write(ORG) as tx:
        about = {"contact_id": other, "occurred_at": tx.now, "message_id": ""}
        await events.store(tx, [demo(ids.mint("evt", tx.now), **about)])
    for one in (waiting, second):
        await service.decide(one.approval_id)
    assert (await service.commit(plan_id=waiting.plan_id)).applied
    with pytest.raises(PlanStale, match="score was 70, is 100"):  # what is new counts
        await service.commit(plan_id=second.plan_id)


async def test_an_approval_that_nobody_gave_in_time_makes_the_plan_stale(service: Service, clock: ManualClock) -> None:
    waiting = await service.commit(email="new@example.com", fields=HOT)
    clock.advance(timedelta(days=3))
    with pytest.raises(PlanStale, match="expired"):
        await service.commit(plan_id=waiting.plan_id)
    with pytest.raises(WrongState):
        await service.decide(waiting.approval_id)


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


async def test_a_plan_is_for_what_it_was_made_for(service: Service) -> None:
    plan = await service.preview(email="a@example.com", fields=WARM)
    with pytest.raises(Invalid) as caught:
        await service.commit(
            plan_id=plan.plan_id, lead_id="lead_9", email="b@example.com", fields={"country": "FR"}, model_id="other"
        )
    assert {one.field for one in caught.value.violations} == {"lead_id", "email", "fields", "model_id"}


async def test_another_organization_has_neither_the_plan_nor_the_model(service: Service) -> None:
    plan = await service.preview(email="a@example.com", fields=WARM)
    with pytest.raises(NotFound):
        await service.commit(plan_id=plan.plan_id, org="org_other")
    with pytest.raises(NotFound):
        await service.commit(email="a@example.com", org="org_other")


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
        await tx.run(delete(members.members).where(members.members.c.id == "mem_ada"))
    again = await service.commit(lead_id=done.lead_id)
    assert (again.owner.member_id, again.owner.method) == ("mem_bob", "round_robin")
    assert (await service.fields_of(done.lead_id))["owner_id"] == "mem_bob"
