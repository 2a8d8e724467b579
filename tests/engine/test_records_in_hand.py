"""Opportunities and own objects in workflows: changes enroll, each enrollment is about its own, and waits see them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.effects import Ask
from core.domain.enrollment import Enrollment, State
from core.domain.explain import explain
from core.domain.records.definitions import Definition, FieldKind
from core.domain.records.pipelines import Pipeline, Stage, StageKind
from core.domain.records.schema import OwnType
from core.engine import why_not
from core.engine.answers import enroll_with
from core.engine.driver import Entry
from core.store.database import Database
from core.store.records import pipelines, record_schema, records
from core.store.workflows import enrollments, records_in_hand
from tests.engine.parts import ORG, Parts
from tests.store.effort import effort, tidy

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
STAGES = (
    Stage("new", "New", 0.1),
    Stage("demo", "Demo", 0.4),
    Stage("won", "Won", 1.0, StageKind.WON),
    Stage("lost", "Lost", 0.0, StageKind.LOST),
)
DEMO = """
reentry: concurrent_by_key
key: opportunity.id
triggers: [{record: opportunity, on: changed, fields: [stage_id], when: opportunity.stage_id == "demo"}]
exit_on: [{name: lost, when: opportunity.status == "lost"}]
steps:
  - {id: note, kind: update, record: opportunity, set: {custom.called: "{{ opportunity.name }} of {{ contact.email }}"}}
  - {id: won, kind: wait, until_true: opportunity.status == "won", timeout: 3d, exits: {next: glad, timeout: push}}
  - {id: glad, kind: exit, reason: glad}
  - {id: push, kind: update, record: opportunity, set: {stage_id: new}}
  - {id: pushed, kind: exit, reason: pushed}
"""
RENEWAL = """
reentry: concurrent_by_key
triggers: [{record: plan, contact: custom.buyer, on: changed, when: plan.custom.seats < 5, key: plan.id}]
steps:
  - {id: grown, kind: wait, until_true: plan.custom.seats >= 5 && contact.city == "Bonn", timeout: 2d}
  - {id: cheer, kind: update, record: plan, set: {name: grown}}
"""


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    async with database.write(ORG) as tx:
        await pipelines.put(tx, Pipeline("sales", "Sales", STAGES))
    return made


async def by_key(parts: Parts) -> dict[str, Enrollment]:
    await parts.settle()
    return {one.key: one for one in await parts.enrolled()}


async def value(parts: Parts, record_id: str, name: str) -> object:
    async with parts.database.read(ORG) as tx:
        record = await records.get(tx, record_id)
    assert record is not None
    return record.fields.get(name)


async def test_each_opportunity_of_a_contact_goes_its_own_way(parts: Parts) -> None:
    await parts.publish(DEMO)
    ada = await parts.contact("ada@example.com")
    won, lost, slow, idle = [
        await parts.opportunity(name=name, contact_id=ada, stage_id="new") for name in ("Won", "Lost", "Slow", "Idle")
    ]
    for one in (won, lost, slow):
        await parts.change(one, stage_id="demo")
    assert set(await by_key(parts)) == {won, lost, slow}
    assert await value(parts, slow, "custom") == {"called": "Slow of ada@example.com"}
    assert await value(parts, idle, "custom") is None
    await parts.change(won, stage_id="won")
    await parts.change(lost, stage_id="lost")
    found = await by_key(parts)
    assert (found[won].end_reason, found[lost].end_reason[:14]) == ("glad", "Exit rule lost")
    async with parts.database.system() as tx:
        version = await parts.versions.load(tx, ORG, "w", 1)
        trace = await enrollments.trace(tx.within(ORG), found[slow].id)
    assert trace[0].inputs["opportunity.id"] == slow
    why, following = explain(version, found[slow], trace)
    assert 'opportunity.status == "won" does not hold (opportunity.status is open)' in why
    assert following.startswith('Once opportunity.status == "won" holds it goes on to glad, or at ')
    await parts.pass_time(3 * DAY)
    assert (await by_key(parts))[slow].end_reason == "pushed"
    assert [await value(parts, slow, name) for name in ("stage_id", "probability")] == ["new", 0.1]


async def test_an_opportunity_concerns_the_contact_it_names_or_else_its_leads(parts: Parts) -> None:
    await parts.publish("triggers: [{record: opportunity}]\nexit_on: [{name: gone, when: opportunity.name == 'gone'}]")
    moved = "{record: opportunity, on: changed, fields: [contact_id], key: string(now)}"
    await parts.publish(f"reentry: concurrent_by_key\ntriggers: [{moved}]", "moved")
    ada, bob = await parts.contact("ada@example.com"), await parts.contact("bob@example.com")
    lead = await parts.lead(ada, tier="A")
    of_lead = await parts.opportunity(name="By lead", lead_id=lead)
    await parts.opportunity(name="Nobody's")
    await parts.settle()
    assert [one.contact_id for one in await parts.enrolled()] == [ada]
    await parts.change(of_lead, contact_id=bob)
    await parts.settle()
    assert {one.contact_id for one in await parts.enrolled()} == {ada, bob}
    parts.clock.advance(DAY)
    await parts.change(of_lead, contact_id=ada, name="gone")  # is told to Bob, too, whose it is no more
    await parts.settle()
    assert [one.state for one in await parts.enrolled()] == [State.EXITED, State.EXITED]
    assert sorted(one.contact_id for one in await parts.enrolled("moved")) == sorted([ada, bob])


async def test_an_own_object_enrolls_the_contact_in_the_field_that_the_document_names(parts: Parts) -> None:
    async with parts.database.write(ORG) as tx:
        await record_schema.put_type(tx, OwnType("plan", "Plan", "Plans"))
        seats = Definition("seats", FieldKind.INTEGER)
        buyer = Definition("buyer", FieldKind.REFERENCE, reference_type="contact")
        for number, definition in enumerate((seats, buyer)):
            await record_schema.put_field(tx, "plan", definition, number, by="key_1")
    await parts.publish(RENEWAL)
    ada, bob = await parts.contact("ada@example.com"), await parts.contact("bob@example.com", city="Köln")
    plan = await parts.own("plan", name="Small", contact_id=ada, custom={"seats": 9, "buyer": bob})
    await parts.change(plan, **{"custom.seats": 3})
    parts.versions = type(parts.versions)()  # as another process, which knows what was published alone
    found = await by_key(parts)
    assert [(one.contact_id, one.about) for one in found.values()] == [(bob, {"plan": plan})]
    await parts.change(plan, **{"custom.seats": 8})
    assert (await by_key(parts))[plan].step_id == "grown"
    await parts.change(bob, city="Bonn")
    assert (await by_key(parts))[plan].state is State.COMPLETED
    assert await value(parts, plan, "name") == "grown"


async def test_who_enters_without_an_opportunity_has_the_newest_in_hand(parts: Parts) -> None:
    await parts.publish(
        "triggers: [{event: start}]\nentry: {when: opportunity.stage_id != 'lost'}\n"
        "steps: [{id: won, kind: wait, until_true: opportunity.status == 'won'}]"
    )
    ada = await parts.contact("ada@example.com")
    older = await parts.opportunity(name="Older", contact_id=ada)
    newest = await parts.opportunity(name="Newest", contact_id=ada, stage_id="lost")
    await parts.send("start", "ada@example.com")
    assert await by_key(parts) == {}
    async with parts.database.read(ORG) as tx:
        told = await why_not.explain(tx, parts.versions, "w", ada)
    assert "opportunity.stage_id is lost" in told.summary
    await parts.change(newest, stage_id="demo")
    await parts.send("start", "ada@example.com")
    await by_key(parts)
    for one, state in ((older, State.ACTIVE), (newest, State.COMPLETED)):
        await parts.change(one, stage_id="won")
        assert (await by_key(parts))[""].state is state


async def test_a_workflow_that_enrolls_in_another_hands_the_opportunity_on(parts: Parts) -> None:
    await parts.publish(DEMO)
    await parts.publish("title: Next", "next")
    ada = await parts.contact("ada@example.com")
    one = await parts.opportunity(name="One", contact_id=ada, stage_id="new")
    await parts.opportunity(name="Newer", contact_id=ada)
    await parts.change(one, stage_id="demo")
    enrollment = (await by_key(parts))[one]
    said = {"workflow_id": "next", "contact_id": ada, "key": "", "variables": {}, "hops": 1}
    async with parts.database.write(ORG) as tx:
        enroll = enroll_with(parts.driver, parts.versions)
        assert (await enroll(tx, enrollment, Ask("ask_1", "enroll", said))).ok
    assert [each.about for each in await parts.enrolled("next")] == [{"opportunity": one}]


async def test_the_newest_of_many_is_found_without_reading_them(parts: Parts) -> None:
    ada, bob = await parts.contact("ada@example.com"), await parts.contact("bob@example.com")
    await parts.contacts(500)
    one, *_, newest = [await parts.opportunity(name=f"Sale {n}", contact_id=ada) for n in range(40)]
    await tidy(parts.database, "records")
    wanted = {(ORG, ada): [("opportunity", ""), ("opportunity", one), ("plan", "")], (ORG, bob): [("opportunity", "")]}
    async with parts.database.system() as tx:

        async def look() -> None:
            found = await records_in_hand.of_contacts(tx, wanted)
            assert {key: {name: record.id for name, record in some.items()} for key, some in found.items()} == {
                (ORG, ada): {"opportunity": newest, one: one}
            }

        await look()
        assert await effort(tx, look) < 60  # of 541


async def test_why_not_tells_of_the_opportunity_that_changed(parts: Parts) -> None:
    await parts.publish(DEMO)
    ada = await parts.contact("ada@example.com")
    one = await parts.opportunity(name="One", contact_id=ada, stage_id="new")
    await parts.opportunity(name="Newer", contact_id=ada, stage_id="demo")
    await parts.change(one, stage_id="lost")
    await parts.settle()
    async with parts.database.read(ORG) as tx:
        told = await why_not.explain(tx, parts.versions, "w", ada)
    assert told.verdict == "kept_out"  # by the exit rule, over the one that changed last
    reasons = [reason.sentence for reason in told.reasons if reason.rule == "trigger"]
    assert reasons[0].endswith('opportunity.stage_id == "demo" does not hold (opportunity.stage_id is lost).')


async def test_a_change_between_the_look_and_the_commit_of_a_new_wait_is_not_missed(
    postgresql_database: Database, clock: ManualClock
) -> None:
    parts = Parts(postgresql_database, clock)
    await parts.begin()
    await parts.publish("triggers: [{event: x}]\nsteps: [{id: w, kind: wait, until_true: contact.city == 'Bonn'}]")
    ada = await parts.contact("ada@example.com")
    async with postgresql_database.system() as tx:
        version = await parts.versions.load(tx, ORG, "w", 1)
        await parts.driver.enter(tx.within(ORG), ORG, version, [Entry(ada, actor="key_1")])
        await parts.change(ada, city="Bonn")
        assert await parts.matcher.turn()
    await parts.settle()
    (enrollment,) = await parts.enrolled()
    assert enrollment.state is State.COMPLETED
