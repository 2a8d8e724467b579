"""Contacts and events of an organization, as a simulation takes them from the store."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select

from core.clock import ManualClock
from core.domain import filters
from core.domain.enrollment import Facts
from core.domain.errors import Invalid
from core.domain.workflow.audiences import belongs
from core.domain.workflow.trigger_kinds import Audience
from core.domain.workflow.triggers import AUDIENCE_FIELDS
from core.simulation import stored
from core.simulation.simulate import simulate
from core.store.database import Database
from core.store.metadata import metadata
from tests.engine.parts import ORG, Parts
from tests.simulation.cases import DAY, START, compiled, tried

pytestmark = pytest.mark.anyio


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    return made


async def test_contacts_come_with_all_that_decisions_look_at(parts: Parts) -> None:
    company = await parts.company(name="Acme")
    ada = await parts.contact("ada@example.com", company, employees=40, custom={"plan": "pro"})
    bob = await parts.contact("bob@example.com", employees=2)
    await parts.lead(ada, tier="B")
    lead = await parts.lead(ada, tier="A")
    await parts.put_on("club", ada)
    async with parts.database.read(ORG) as tx:
        (found,) = await stored.sample(tx, "employees > 10", 5)
        both = await stored.by_id(tx, [bob, "cnt_nobody", ada, lead])
        newest = await stored.sample(tx, "", 1)
    assert (found.contact.id, found.contact.fields["custom"]) == (ada, {"plan": "pro"})
    assert found.lead is not None
    assert (found.lead.id, found.lead.fields["tier"]) == (lead, "A")
    assert found.company is not None
    assert (found.company.fields["name"], found.lists) == ("Acme", {"club"})
    assert [one.contact.id for one in both] == [bob, ada]
    assert [one.contact.id for one in newest] == [bob]


async def test_contacts_come_with_how_they_stand_in_the_workflow(parts: Parts) -> None:
    flow = "reentry: after_exit\ntriggers: [{event: start}]\nsteps: [{id: pause, kind: wait, for: 5d}]"
    await parts.publish(flow)
    ada, bob, eve = [await parts.contact(f"{name}@example.com") for name in ("ada", "bob", "eve")]
    for name in ("ada", "bob"):
        await parts.send("start", f"{name}@example.com")
    await parts.settle()
    await parts.pass_time(6 * DAY)
    await parts.send("start", "ada@example.com")
    await parts.settle()
    async with parts.database.read(ORG) as tx:
        found = await stored.by_id(tx, [ada, bob, eve], "w")
        elsewhere = await stored.sample(tx, "", 3, "other")
    assert [{key: one.state.value for key, one in subject.entered.items()} for subject in found] == [
        {"": "active"}, {"": "completed"}, {},
    ]  # fmt: skip
    assert [one.entered for one in elsewhere] == [{}, {}, {}]
    simulated = tried(flow.replace("after_exit", "once"), found, entering="start")
    assert [(one.reason, one.count) for one in simulated.exclusions] == [("REENTRY_ONCE", 2)]
    assert tried(flow, found, entering="start").admitted == 2


async def test_a_filter_that_cannot_be_read_is_refused(parts: Parts) -> None:
    async with parts.database.read(ORG) as tx:
        with pytest.raises(Invalid):
            await stored.sample(tx, "employes > 10", 5)


async def test_recorded_events_are_moved_to_the_start(parts: Parts) -> None:
    ada = await parts.contact("ada@example.com")
    await parts.contact("bob@example.com")
    since = parts.clock.now()
    parts.clock.advance(DAY)
    await parts.send("reply.received", "ada@example.com", channel="dm")
    await parts.send("reply.received", "bob@example.com")
    at = parts.clock.now() - timedelta(milliseconds=5)
    async with parts.database.read(ORG) as tx:
        events = await stored.recorded(tx, [ada], since, since + 3 * DAY, START)
        subjects = await stored.by_id(tx, [ada])
    (event,) = events
    assert (event.name, event.contact, event.at, event.type) == ("reply.received", ada, START + (at - since), "action")
    flow = "steps: [{id: reply, kind: wait_for_event, event: reply.received, when: event.fields.channel == 'dm'}]"
    assert tried(flow, subjects).states == {"active": 1}
    found = simulate(compiled(flow), subjects, events, start=START, horizon=2 * DAY)
    assert found.states == {"completed": 1}


async def test_nothing_is_written(parts: Parts) -> None:
    ada = await parts.contact("ada@example.com")

    async def rows() -> list[int]:
        async with parts.database.read("*") as tx:
            return [(await tx.all(select(func.count()).select_from(one)))[0][0] for one in metadata.sorted_tables]

    before = await rows()
    async with parts.database.read(ORG) as tx:
        subjects = await stored.by_id(tx, [ada])
    assert tried("steps: [{id: hello, kind: message, subject: Hi, text: Hello}]", subjects).messages_sent == 1
    assert await rows() == before


@pytest.mark.parametrize(
    "text",
    [
        "employees > 3",
        "employees >= 3 AND country = FR",
        "employees < 3 OR NOT country = FR",
        "country != FR",
        "NOT employees > 3",
        "country:*",
        'job_title:"VP"',
        "custom.plan = pro",
        "custom.seats > 2",
        "custom.plan != pro",
        "unsubscribed = true",
        'custom.at < "2026-05-01T00:00:00Z"',
    ],
)
async def test_an_audience_in_memory_is_the_one_of_the_database(parts: Parts, text: str) -> None:
    for number, fields in enumerate(
        (
            {},
            {"employees": 3, "country": "FR", "job_title": "VP Sales"},
            {"employees": 9, "country": "DE", "unsubscribed": True, "custom": {"plan": "pro", "seats": 3}},
            {"employees": 1, "country": "FR", "unsubscribed": False, "custom": {"plan": 7, "seats": "many"}},
            {"custom": {"at": "2026-04-01T00:00:00.000Z", "seats": 2.5}},
        )
    ):
        await parts.contact(f"c{number}@example.com", **fields)
    async with parts.database.read(ORG) as tx:
        fitting = {one.label for one in await stored.sample(tx, text, 100)}
        everybody = await stored.sample(tx, "", 100)
    audience = Audience(text, filters.parse(text, AUDIENCE_FIELDS))
    assert {one.label for one in everybody if belongs(audience, Facts(one.contact))} == fitting


async def test_a_pool_takes_the_oldest_first_as_on_the_running_core(parts: Parts) -> None:
    flow = "triggers: [{pool: {per_day: 2, at: '12:00'}, audience: {filter: employees > 5}}]"
    await parts.publish(flow)
    made = []
    for number in range(5):
        made.append(await parts.contact(f"c{number}@example.com", employees=10))
        await parts.pass_time(timedelta(minutes=1))
    async with parts.database.read(ORG) as tx:
        people = await stored.sample(tx, "employees > 5", 10)
    version = compiled(f"{flow}\nsteps: [{{id: pause, kind: wait, for: 30d}}]")
    simulated = simulate(version, people, start=parts.clock.now(), horizon=5 * DAY, timelines=5)
    days = {one.contact: one.entries[0].at.date() for one in simulated.timelines if one.entries}
    for _ in range(12):
        await parts.pass_time(DAY / 4)
    lived = {one.contact_id: one.entered_at.date() for one in await parts.enrolled()}
    assert sorted(made, key=lived.__getitem__) == made
    assert {one.label: lived[one.contact.id] for one in people} == days
