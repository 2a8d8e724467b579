"""What is written of enrollments that move: all of it, whatever they stood in before and stand in now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import select, update

from core.clock import ManualClock
from core.domain.enrollment import Enrollment, State, Waiting
from core.domain.frozen import copied
from core.domain.trace import TraceEntry, Transition
from core.store.database import Database
from core.store.transaction import StaleEnrollment, Transaction
from core.store.workflows import claims
from core.store.workflows.apply import apply
from core.store.workflows.enrollments import HELD, SKIP, enrollments, to_domain, trace
from tests.conftest import START
from tests.store.people import enrolled

pytestmark = pytest.mark.anyio

ORG = "org_a"
SINCE = START - timedelta(hours=1)

STANDS: Mapping[str, Mapping[str, Any]] = {
    "for a time": {"waiting": Waiting("timer", "", SINCE), "due_at": START + timedelta(hours=1)},
    "for an event": {"waiting": Waiting("event", "reply.received", SINCE, "cnt_0")},
    "for another's event": {"waiting": Waiting("event", "reply.received", SINCE, "order_id=7")},
    "for a condition": {"waiting": Waiting("condition", "tier", SINCE, "cnt_0")},
    "at a step": {"waiting": None, "due_at": START},
    "for an approval": {"state": State.AWAITING_APPROVAL, "waiting": Waiting("approval", "apr_1", SINCE)},
    "no more": {"state": State.COMPLETED, "waiting": None, "end_reason": "completed", "ended_at": START},
}
PARKED = (None, HELD, SKIP)


async def held(tx: Transaction, count: int) -> list[Enrollment]:
    """Write enrollments that wait for a time, and claim them."""
    ids = [await enrolled(tx, "cnt_0", f"w{number}") for number in range(count)]
    found = {one.id: one for one in await claims.claim_by_id(tx, [(ORG, id_) for id_ in ids])}
    return [found[id_] for id_ in ids]


async def moved(tx: Transaction, before: Enrollment, paused: bool = False, **changed: Any) -> Enrollment:
    there = {"state": State.ACTIVE, "due_at": None, "end_reason": "", "ended_at": None} | changed
    after = copied(before, rev=before.rev + 1, trace_count=before.trace_count + 1, moved_at=tx.now, **there)
    await apply(tx, [Transition(after, (), (), before=before)], frozenset({after.id} if paused else ()))
    return after


async def test_an_enrollment_is_found_where_it_stands_now_wherever_it_stood(
    database: Database, clock: ManualClock
) -> None:
    ways = list(product(STANDS, STANDS, PARKED, ("goes on", "passes over", "paused")))
    expected = []
    async with database.write(ORG) as tx:
        for one, (was, now, parked, how) in zip(await held(tx, len(ways)), ways, strict=True):
            before = await moved(tx, one, **STANDS[was], skipping=parked == SKIP)
            await tx.run(update(enrollments).where(enrollments.c.id == one.id).values(parked=parked))
            after = await moved(tx, before, how == "paused", **STANDS[now], skipping=how == "passes over")
            expected.append((now, how, after))
    async with database.read(ORG) as tx:
        stored = {row.id: row for row in await tx.all(select(enrollments))}
        for now, how, after in expected:
            row = stored[after.id]
            stands = how == "paused" and now == "at a step"
            assert row.parked == (HELD if stands else SKIP if how == "passes over" else None)
            assert to_domain(row) == after
    async with database.system() as tx:
        for key in ("cnt_0", "order_id=7"):
            waiting = await claims.claim_event_waits(tx, [(ORG, key)])
            wanted = {e.id for _, _, e in expected if e.waiting and (e.waiting.kind, e.waiting.key) == ("event", key)}
            assert {one.id for one in waiting.enrollments} == wanted


@pytest.mark.parametrize("stale", [0, 1, 2, 3])
async def test_nothing_is_written_where_one_of_them_has_moved_on(database: Database, stale: int) -> None:
    async with database.write(ORG) as tx:
        standing = await held(tx, 4)
        await tx.run(update(enrollments).where(enrollments.c.id == standing[stale].id).values(rev=9))
    ways = ("for a time", "for an event", "for a time", "no more")

    async def move_all() -> None:
        async with database.write(ORG) as tx:
            afters = [copied(one, rev=4, **STANDS[now]) for one, now in zip(standing, ways, strict=True)]
            both = zip(afters, standing, strict=True)
            await apply(tx, [Transition(after, (), (), before=before) for after, before in both])

    with pytest.raises(StaleEnrollment, match="one at least"):
        await move_all()
    async with database.read(ORG) as tx:
        revs = {row.id: row.rev for row in await tx.all(select(enrollments))}
    assert revs == {one.id: 9 if position == stale else 3 for position, one in enumerate(standing)}


@pytest.mark.parametrize("count", [1, 7, 63, 64, 71, 150])
async def test_every_entry_of_a_trace_is_written_however_many_there_are(database: Database, count: int) -> None:
    entries = tuple(
        TraceEntry(
            2 + number, f"s{number}", "wait", "ok", START, "next", "r", {"n": number} if number % 2 else {}, ("x",)
        )
        for number in range(count)
    )
    async with database.write(ORG) as tx:
        (one,) = await held(tx, 1)
        after = copied(one, rev=4, trace_count=1 + count)
        await apply(tx, [Transition(after, entries, (), before=one)])
        assert await trace(tx, one.id) == list(entries)
