"""Schedules and pools: who enters, when, how often, and what survives a crash, a pause and a new version."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from core.clock import ManualClock
from core.store.database import Database
from core.store.workflows import missed_firings, pausing, schedules, statistics, workflows
from core.store.workflows.pausing import ResumePolicy
from core.store.workflows.schedules import Last, workflow_schedules
from tests.engine.parts import ORG, Parts

pytestmark = pytest.mark.anyio

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
WEEKLY = "triggers: [{schedule: {cron: '0 9 * * mon'}, audience: {filter: 'country = DE'}}]"
POOL = (
    "triggers: [{pool: {per_day: 3, at: '09:00', days: [mon, tue, wed, thu, fri]}, audience: {filter: 'country = DE'}}]"
)


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)  # it is Monday, 10:00 in Berlin
    await made.begin()
    return made


async def entered(parts: Parts) -> list[str]:
    return sorted(one.contact_id for one in await parts.enrolled())


async def next_at(parts: Parts) -> datetime | None:
    async with parts.database.read(ORG) as tx:
        row = await tx.first(select(workflow_schedules))
    return None if row is None else row.next_at


async def test_a_schedule_enrolls_its_audience_at_its_time(parts: Parts) -> None:
    germans = await parts.contacts(5, country="DE")
    await parts.contact("eve@example.com", country="US")
    await parts.publish(WEEKLY)
    assert await next_at(parts) == datetime(2026, 3, 9, 8, tzinfo=UTC)
    await parts.settle()
    assert await entered(parts) == []
    await parts.pass_time(7 * DAY)
    assert await entered(parts) == germans
    (first, *_) = await parts.enrolled()
    assert first.actor == "schedule:w/0"
    assert await next_at(parts) == datetime(2026, 3, 16, 8, tzinfo=UTC)
    late = await parts.contact("late@example.com", country="DE")
    await parts.pass_time(7 * DAY)
    assert await entered(parts) == sorted([*germans, late])


async def test_the_clock_of_a_schedule_is_its_own_then_the_workflows(parts: Parts) -> None:
    await parts.publish(f"timezone: America/New_York\n{WEEKLY}")
    assert await next_at(parts) == datetime(2026, 3, 2, 14, tzinfo=UTC)
    own = WEEKLY.replace("}, aud", ", timezone: Asia/Tokyo}, aud")
    await parts.publish(f"timezone: America/New_York\n{own}")
    assert await next_at(parts) == datetime(2026, 3, 9, 0, tzinfo=UTC)


async def test_a_big_audience_takes_several_turns_and_survives_a_crash(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.engine.starter.PAGE", 4)
    monkeypatch.setattr("core.store.workflows.audience.MOST_LOOKED_AT", 6)
    people = await parts.contacts(10, country="DE")
    await parts.publish(WEEKLY)
    parts.clock.advance(7 * DAY)
    assert await parts.starter.turn() == 1
    assert await entered(parts) == people[:4]

    async def fail(*_: object, **__: object) -> None:
        raise OSError("gone")

    with monkeypatch.context() as broken:
        broken.setattr("core.store.workflows.schedules.keep", fail)
        with pytest.raises(OSError, match="gone"):
            await parts.starter.turn()  # what it did and could not commit is done again
    assert await entered(parts) == people[:4]
    newcomer = await parts.contact("new@example.com", country="DE")  # not of this firing
    await parts.settle()
    assert await entered(parts) == people
    assert newcomer not in await entered(parts)
    assert await next_at(parts) == datetime(2026, 3, 16, 8, tzinfo=UTC)


async def test_an_audience_can_be_a_list(parts: Parts) -> None:
    people = await parts.contacts(4, country="DE")
    eve = await parts.contact("eve@example.com", country="US")
    await parts.put_on("news", people[0], people[2], eve)
    await parts.publish(WEEKLY.replace("{filter:", "{list: news, filter:"))
    await parts.publish(WEEKLY.replace("filter: 'country = DE'", "list: news"), "all")
    await parts.pass_time(7 * DAY)
    assert await entered(parts) == [people[0], people[2]]
    assert len(await parts.enrolled("all")) == 3


async def test_a_missed_schedule_fires_once_late(parts: Parts) -> None:
    await parts.contacts(2, country="DE")
    await parts.publish(f"reentry: after_exit\n{WEEKLY}\nsteps: [{{id: x, kind: exit}}]")
    await parts.pass_time(40 * DAY)
    assert len(await parts.enrolled()) == 2


async def pause(parts: Parts) -> None:
    async with parts.database.write(ORG) as tx:
        assert await pausing.pause(tx, ORG, "w", "holidays", "key_1")


async def resume(parts: Parts, policy: ResumePolicy = "run_overdue") -> list[tuple[int, datetime]]:
    """Let it go on, and return how often its schedules came round meanwhile and when they fire next."""
    async with parts.database.write(ORG) as tx:
        row: Any = await workflows.get(tx, "w", lock=True)
        version = await parts.versions.load(tx, ORG, "w", row.published_version)
        missed = await missed_firings.of(tx, version, policy, row.paused_at, lock=True)
        await pausing.resume(tx, row, policy)
        await missed_firings.resolve(tx, "w", missed, policy)
    return [(one.missed.count, one.next_at) for one in missed]


@pytest.mark.parametrize(
    ("policy", "fires", "then"),
    [
        ("run_overdue", datetime(2026, 3, 17, 9, tzinfo=UTC), datetime(2026, 3, 23, 8, tzinfo=UTC)),
        # A pause of 15 days moves Monday the 9th to Tuesday the 24th; Monday the 23rd comes before that.
        ("shift", datetime(2026, 3, 23, 8, tzinfo=UTC), datetime(2026, 3, 30, 7, tzinfo=UTC)),
        ("skip_overdue", datetime(2026, 3, 23, 8, tzinfo=UTC), datetime(2026, 3, 30, 7, tzinfo=UTC)),
    ],
)
async def test_what_falls_into_a_pause_is_kept_and_the_policy_says_what_becomes_of_it(
    parts: Parts, policy: ResumePolicy, fires: datetime, then: datetime
) -> None:
    people = await parts.contacts(2, country="DE")
    await parts.publish(f"reentry: after_exit\n{WEEKLY}\nsteps: [{{id: x, kind: exit}}]")
    await pause(parts)
    for _ in range(15):
        await parts.pass_time(DAY)
    assert await resume(parts, policy) == [(2, fires)]  # two Mondays, and it fires once
    async with parts.database.read(ORG) as tx:
        left_out = 2 if policy == "skip_overdue" else None
        last = (await schedules.standing(tx, "w"))[0].last
    assert (None if last is None else last.left_out) == left_out
    assert await next_at(parts) == fires
    await parts.pass_time(fires - parts.clock.now())
    assert await entered(parts) == people
    assert await next_at(parts) == then
    async with parts.database.read(ORG) as tx:
        standing = (await schedules.standing(tx, "w"))[0]
    assert (standing.missed, standing.last) == (None, Last(fires, 2))


async def test_a_missed_firing_that_is_moved_keeps_its_time_of_day(parts: Parts) -> None:
    people = await parts.contacts(2, country="DE")
    await parts.publish(WEEKLY)
    parts.clock.advance(6 * DAY)  # Sunday, 10:00
    await pause(parts)
    await parts.pass_time(2 * DAY + 3 * HOUR)
    # Monday, 09:00, is moved to Wednesday, 12:00, and 09:00 comes on Thursday.
    assert await resume(parts, "shift") == [(1, datetime(2026, 3, 12, 8, tzinfo=UTC))]
    await parts.pass_time(DAY + 19 * HOUR)
    assert await entered(parts) == []
    await parts.pass_time(HOUR)
    assert await entered(parts) == people


async def test_a_pause_that_ends_while_the_engine_looks_loses_nothing(parts: Parts) -> None:
    people = await parts.contacts(2, country="DE")
    await parts.publish(WEEKLY)
    parts.clock.advance(7 * DAY)
    async with parts.database.system() as tx:
        due = await schedules.claim_due(tx, tx.now)
        assert due is not None
        assert not await schedules.is_paused(tx, replace(due, workflow_state="paused"))
    await pause(parts)
    async with parts.database.system() as tx:
        assert await schedules.is_paused(tx, due)
    await resume(parts)
    await parts.settle()
    assert await entered(parts) == people


async def test_a_firing_that_a_pause_interrupts_goes_on_afterwards(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.engine.starter.PAGE", 2)
    people = await parts.contacts(5, country="DE")
    await parts.publish(WEEKLY)
    parts.clock.advance(7 * DAY)
    await parts.starter.turn()
    await pause(parts)
    await parts.settle()
    assert await entered(parts) == people[:2]
    assert await resume(parts) == []
    await parts.settle()
    assert await entered(parts) == people


async def test_a_new_version_takes_over_what_is_written_as_before(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.engine.starter.PAGE", 2)
    people = await parts.contacts(5, country="DE")
    await parts.publish(WEEKLY)
    parts.clock.advance(7 * DAY)
    await parts.starter.turn()
    await parts.publish(f"title: New\n{WEEKLY}")
    await parts.settle()
    assert await entered(parts) == people
    assert [one.version for one in sorted(await parts.enrolled(), key=lambda one: one.contact_id)] == [1, 1, 2, 2, 2]
    await parts.publish(WEEKLY.replace("mon", "tue"))
    assert await next_at(parts) == datetime(2026, 3, 10, 8, tzinfo=UTC)
    async with parts.database.write(ORG) as tx:
        await workflows.archive(tx, "w")
    assert await next_at(parts) is None


async def test_a_pool_takes_some_a_day_oldest_first_and_says_once_when_it_is_empty(parts: Parts) -> None:
    people = await parts.contacts(5, country="DE")
    await parts.publish(POOL)
    taken = []
    told = []
    for _ in range(4):  # Tuesday to Friday
        await parts.pass_time(DAY)
        taken.append(await entered(parts))
        told.append(await parts.told("automation.out_of_leads"))
    assert taken == [people[:3], people, people, people]
    assert told == [0, 0, 1, 1]
    more = await parts.contact("more@example.com", country="DE")
    await parts.pass_time(DAY)  # Saturday
    assert more not in await entered(parts)
    await parts.pass_time(2 * DAY)
    assert more in await entered(parts)
    await parts.pass_time(DAY)
    assert await parts.told("automation.out_of_leads") == 2


async def test_a_pool_passes_over_whom_it_may_not_enroll(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.engine.starter.PAGE", 2)
    people = await parts.contacts(6, country="DE")
    for contact in people[:3]:
        await parts.change(contact, unsubscribed=True)
    await parts.publish(POOL)
    await parts.pass_time(DAY)
    assert await entered(parts) == people[3:]
    await parts.pass_time(DAY)
    assert await parts.told("automation.out_of_leads") == 1


async def test_a_pool_never_takes_who_was_there_before(parts: Parts) -> None:
    people = await parts.contacts(4, country="DE")
    text = "reentry: after_exit\ntriggers: [{event: start}" + POOL.removeprefix("triggers: [").join([", ", ""])
    await parts.publish(text + "\nsteps: [{id: x, kind: exit}]")
    await parts.send("start", "c0@example.com")
    await parts.settle()
    (there,) = await entered(parts)
    await parts.pass_time(DAY)
    assert await entered(parts) == people
    assert there in people
    assert len(await parts.enrolled()) == 4


async def test_who_enters_again_under_another_key_is_known_to_have_been_there(parts: Parts) -> None:
    split = "{id: ab, kind: split, by: contact, ways: {a: 1, b: 1}, exits: {a: end, b: end}}"
    await parts.publish(
        f"key: event.fields.order\nreentry: concurrent_by_key\ntriggers: [{{event: ordered}}]\nsteps: [{split}]"
    )
    await parts.contact("ada@example.com")
    for order in ("1", "2", "3"):
        await parts.send("ordered", "ada@example.com", order=order)
        await parts.settle()
    assert sorted((one.key, one.again) for one in await parts.enrolled()) == [("1", False), ("2", True), ("3", True)]
    async with parts.database.read(ORG) as tx:
        drawn = [one.count for one in await statistics.figures(tx, ORG, "w") if one.outcome == statistics.DRAWN]
    assert drawn == [1]


async def test_one_schedule_that_cannot_fire_stops_no_other(parts: Parts) -> None:
    await parts.contacts(1, country="DE")
    await parts.publish(WEEKLY, "a_broken")
    await parts.publish(WEEKLY)
    async with parts.database.write(ORG) as tx:
        table = workflows.workflow_versions
        await tx.run(update(table).where(table.c.workflow_id == "a_broken").values(document={"steps": []}))
    parts.versions = workflows.VersionCache()
    await parts.pass_time(7 * DAY)
    assert len(await entered(parts)) == 1
    assert await parts.enrolled("a_broken") == []


async def test_processes_at_once_fire_a_schedule_once(postgresql_database: Database, clock: ManualClock) -> None:
    parts = Parts(postgresql_database, clock)
    await parts.begin()
    await parts.contacts(20, country="DE")
    await parts.publish(WEEKLY)
    clock.advance(7 * DAY)
    turns = await asyncio.gather(*(parts.starter.turn() for _ in range(4)))
    assert sum(turns) >= 1
    await parts.settle()
    assert len(await parts.enrolled()) == 20
