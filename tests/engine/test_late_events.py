"""Events that come late or out of order: what they still start, what they still end, and what they tell of a person."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.enrollment import State
from core.engine import why_not
from core.store.database import Database
from core.store.records import records
from tests.engine.parts import ORG, Parts

pytestmark = pytest.mark.anyio

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ANSWER = """
triggers: [{event: trial.started}]
steps:
  - {id: wait, kind: wait_for_event, event: answer.given, timeout: 30d}
"""
ORDER = """
triggers: [{event: order.placed}]
steps:
  - {id: wait, kind: wait_for_event, event: order.paid, match: {order: {cel: event.fields.order}}, timeout: 30d}
"""
GOAL = """
triggers: [{event: trial.started}]
goals: [{name: bought, event: order.paid}]
steps: [{id: pause, kind: wait, for: 30d}]
"""


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    return made


async def fields(parts: Parts, contact_id: str) -> dict[str, Any]:
    async with parts.database.read(ORG) as tx:
        record = await records.get(tx, contact_id)
    assert record is not None
    return dict(record.fields)


async def _states(parts: Parts) -> list[State]:
    await parts.settle()
    return [one.state for one in await parts.enrolled()]


@pytest.mark.parametrize(("ago", "entered"), [(timedelta(0), 1), (6 * DAY, 1), (7 * DAY - MINUTE, 1), (8 * DAY, 0)])
async def test_an_event_starts_a_workflow_within_seven_days_of_its_happening(
    parts: Parts, ago: timedelta, entered: int
) -> None:
    await parts.publish("triggers: [{event: trial.started}]")
    await parts.publish("triggers: [{source: web}]", "of_source")
    await parts.send("trial.started", "ada@example.com", ago=ago)
    await parts.settle()
    assert [len(await parts.enrolled(name)) for name in ("w", "of_source")] == [entered, entered]


async def test_history_is_kept_with_its_person_and_the_reason_is_told(parts: Parts) -> None:
    await parts.publish("triggers: [{event: trial.started}]")
    contact = await parts.contact("ada@example.com")
    await parts.send("trial.started", "ada@example.com", ago=8 * DAY)
    await parts.settle()
    async with parts.database.read(ORG) as tx:
        told = await why_not.explain(tx, parts.versions, "w", contact)
    assert told.summary == (
        "It may enter, but no trigger fired: trial.started came in, but more than 7 days after it happened: "
        "history starts nothing."
    )


async def test_workflows_are_not_told_of_what_history_makes_known(parts: Parts) -> None:
    await parts.publish("triggers: [{record: contact, on: either}]")
    await parts.send("page.seen", "ada@example.com", ago=30 * DAY, city="Bonn")
    await parts.settle()
    assert await parts.enrolled() == []
    await parts.send("page.seen", "bob@example.com", city="Bonn")
    await parts.settle()
    assert len(await parts.enrolled()) == 1


@pytest.mark.parametrize(
    ("ago", "ended"),
    [
        (timedelta(0), True),
        (2 * DAY, True),  # during the wait
        (3 * DAY + HOUR - MINUTE, True),  # before it, within what queues and clocks account for
        (3 * DAY + HOUR + MINUTE, False),  # before it
        (8 * DAY, False),
    ],
)
async def test_what_happened_before_a_wait_does_not_end_it_however_late_it_comes(
    parts: Parts, ago: timedelta, ended: bool
) -> None:
    await parts.publish(ANSWER)
    await parts.send("trial.started", "ada@example.com")
    await parts.settle()
    await parts.pass_time(3 * DAY)
    await parts.send("answer.given", "ada@example.com", ago=ago)
    assert await _states(parts) == [State.COMPLETED if ended else State.ACTIVE]
    await parts.pass_time(60 * DAY)  # nor does it at the timeout
    (enrollment,) = await parts.enrolled()
    assert enrollment.outputs["wait"]["matched"] is ended


async def test_an_event_about_the_very_thing_ends_its_wait_whenever_it_happened(parts: Parts) -> None:
    await parts.publish(ORDER)
    await parts.send("order.placed", "ada@example.com", order="o-1")
    await parts.settle()
    await parts.send("order.paid", "ada@example.com", order="o-1", ago=5 * DAY)
    assert await _states(parts) == [State.COMPLETED]


async def test_history_about_the_very_thing_ends_no_wait(parts: Parts) -> None:
    await parts.publish(ORDER)
    await parts.send("order.placed", "ada@example.com", order="o-1")
    await parts.settle()
    await parts.send("order.paid", "ada@example.com", order="o-1", ago=8 * DAY)
    assert await _states(parts) == [State.ACTIVE]


async def test_a_wait_ends_by_the_event_that_arrives_first_whichever_happened_first(parts: Parts) -> None:
    await parts.publish(ANSWER)
    await parts.send("trial.started", "ada@example.com")
    await parts.settle()
    await parts.pass_time(DAY)
    first = await parts.send("answer.given", "ada@example.com", ago=MINUTE)
    await parts.send("answer.given", "ada@example.com", ago=HOUR)
    assert await _states(parts) == [State.COMPLETED]
    (enrollment,) = await parts.enrolled()
    assert enrollment.outputs["wait"]["event_id"] == first


@pytest.mark.parametrize(("ago", "reached"), [(5 * DAY, True), (8 * DAY, False)])
async def test_goals_take_what_happened_within_seven_days(parts: Parts, ago: timedelta, reached: bool) -> None:
    await parts.publish(GOAL)
    await parts.send("trial.started", "ada@example.com")
    await parts.settle()
    await parts.send("order.paid", "ada@example.com", ago=ago)
    await parts.settle()
    (enrollment,) = await parts.enrolled()
    assert bool(enrollment.converted) is reached


async def test_an_event_that_comes_late_does_not_undo_what_happened_since(parts: Parts) -> None:
    contact = await parts.contact("ada@example.com", city="Paris", country="FR")
    await parts.pass_time(3 * HOUR)
    await parts.send("form.sent", "ada@example.com", ago=5 * HOUR, city="Bonn", job_title="Clerk")
    assert await fields(parts, contact) == {
        "email": "ada@example.com", "city": "Paris", "country": "FR", "job_title": "Clerk"
    }  # fmt: skip
    await parts.send("form.sent", "ada@example.com", ago=2 * HOUR, city="Rome")
    assert (await fields(parts, contact))["city"] == "Rome"


async def test_of_late_events_the_one_that_happened_last_counts_in_whatever_order_they_come(parts: Parts) -> None:
    contact = await parts.contact("ada@example.com")
    await parts.pass_time(DAY)
    for hours, city in ((5, "Bonn"), (3, "Rome"), (4, "Oslo"), (2, "Kyiv"), (6, "Bern")):
        await parts.send("form.sent", "ada@example.com", ago=hours * HOUR, city=city)
    assert (await fields(parts, contact))["city"] == "Kyiv"
    await parts.send("form.sent", "ada@example.com", city="Lyon")
    await parts.send("form.sent", "ada@example.com", ago=2 * HOUR, city="Bern")
    assert (await fields(parts, contact))["city"] == "Lyon"


async def test_history_only_fills_what_is_empty(parts: Parts) -> None:
    contact = await parts.contact("ada@example.com", city="Paris")
    await parts.pass_time(DAY)
    await parts.send("form.sent", "ada@example.com", ago=90 * DAY, city="Bonn", job_title="Clerk")
    assert await fields(parts, contact) == {"email": "ada@example.com", "city": "Paris", "job_title": "Clerk"}
