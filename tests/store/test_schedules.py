"""Audiences page by page, and schedules of published workflows, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.domain import filters
from core.domain.workflow.trigger_kinds import Audience
from core.domain.workflow.triggers import AUDIENCE_FIELDS
from core.store.database import Database
from core.store.workflows import audience, schedules
from core.store.workflows.schedules import Firing, workflow_schedules
from tests.engine.parts import ORG, Parts

pytestmark = pytest.mark.anyio

HOURLY = "triggers: [{schedule: {cron: '0 * * * *'}, audience: {}}, {schedule: {cron: '30 * * * *'}, audience: {}}]"


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    return made


async def everybody(parts: Parts, chosen: Audience, limit: int, never_in: str = "") -> list[list[str]]:
    """Return the pages of an audience."""
    pages = []
    after, last = "", False
    while not last:
        async with parts.database.system() as tx:
            page = await audience.page(
                tx, ORG, chosen, after=after, until=parts.clock.now(), limit=limit, never_in=never_in
            )
        after, last = page.after, page.last
        pages.append(list(page.contact_ids))
    return pages


@pytest.mark.parametrize(("looked_at", "limit"), [(3, 2), (2, 3), (100, 2), (1, 1), (100, 100)])
async def test_pages_hold_everybody_once_in_order(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, looked_at: int, limit: int
) -> None:
    monkeypatch.setattr("core.store.workflows.audience.MOST_LOOKED_AT", looked_at)
    people = await parts.contacts(7, country="DE")
    for contact in people[::3]:
        await parts.change(contact, country="US")
    text = 'country = "DE"'
    chosen = Audience(text, filters.parse(text, AUDIENCE_FIELDS))
    pages = await everybody(parts, chosen, limit)
    assert [one for page in pages for one in page] == [one for index, one in enumerate(people) if index % 3]
    assert max(map(len, pages)) <= limit
    await parts.put_on("news", *people[:4])
    on_list = await everybody(parts, Audience(list="news"), limit)
    assert [one for page in on_list for one in page] == people[:4]
    both = await everybody(parts, Audience(text, chosen.where, "news"), limit)
    assert [one for page in both for one in page] == people[1:3]


async def test_who_came_later_or_was_there_before_is_left_out(parts: Parts) -> None:
    people = await parts.contacts(3)
    await parts.publish("triggers: [{event: start}]")
    await parts.send("start", "c1@example.com")
    await parts.settle()
    (there,) = [one.contact_id for one in await parts.enrolled()]
    assert await everybody(parts, Audience(), 9, never_in="w") == [[one for one in people if one != there]]
    then = parts.clock.now()
    parts.clock.advance(timedelta(seconds=1))
    await parts.contact("late@example.com")
    async with parts.database.system() as tx:
        page = await audience.page(tx, ORG, Audience(), after="", until=then, limit=9)
        elsewhere = await audience.page(tx, "org_b", Audience(), after="", until=then, limit=9)
    assert list(page.contact_ids) == people
    assert elsewhere.contact_ids == ()


async def test_the_schedule_due_longest_is_claimed_first_and_takes_its_turn(parts: Parts) -> None:
    await parts.publish(HOURLY)
    parts.clock.advance(timedelta(hours=2))
    claimed = []
    for _ in range(4):
        parts.clock.advance(timedelta(seconds=1))
        async with parts.database.system() as tx:
            due = await schedules.claim_due(tx, tx.now)
            assert due is not None
            claimed.append((due.position, None if due.firing is None else due.firing.taken))
            await schedules.keep(tx, due, tx.now, Firing(tx.now, "cnt_1", 5))
    assert claimed == [(1, None), (0, None), (1, 5), (0, 5)]


async def test_a_schedule_written_as_before_keeps_its_place(parts: Parts) -> None:
    await parts.publish(HOURLY)
    parts.clock.advance(timedelta(minutes=40))
    first, second = HOURLY.removeprefix("triggers: [").removesuffix("]").split(", {")
    await parts.publish(f"triggers: [{{{second}, {first.replace('0 *', '15 *')}]")
    async with parts.database.read(ORG) as tx:
        rows = await tx.all(select(workflow_schedules).order_by(workflow_schedules.c.position))
    assert [(row.version, f"{row.next_at:%H:%M}") for row in rows] == [(2, "09:30"), (2, "10:15")]
