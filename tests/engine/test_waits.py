"""Waits see what happens around them: what came in before they began, and dates that change while they last."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.enrollment import State
from core.engine.ticker import Ticker
from core.store.database import Database
from tests.engine.parts import Parts

pytestmark = pytest.mark.anyio

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GAP = """
triggers: [{event: trial.started}]
quiet_hours: {from: "00:00", to: "24:00", days: [monday]}
steps:
  - {id: nudge, kind: message, purpose: transactional, subject: Use it, text: Please}
  - id: used
    kind: wait_for_event
    event: feature.used
    timeout: 2d
    exits: {matched: paid, timeout: end}
  - id: paid
    kind: wait_for_event
    event: order.paid
    match: {order: {cel: vars.order}}
    since: entry
    timeout: 2d
    exits: {matched: done, timeout: end}
  - {id: done, kind: exit, reason: done}
""".replace("{cel: vars.order}", "o-1")
DATES = """
triggers: [{event: trial.started}]
steps:
  - {id: a, kind: wait, until: "{{ contact.custom.day }}", exits: {missing: end}}
  - {id: b, kind: wait, until: {cel: moment(company.custom.day)}, exits: {missing: end}}
"""


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    return made


async def test_what_came_in_while_a_message_was_held_ends_the_wait_after_it(parts: Parts) -> None:
    await parts.publish(GAP)
    await parts.send("trial.started", "ada@example.com")
    await parts.pass_time(HOUR)
    (held,) = await parts.enrolled()
    assert (held.step_id, set(held.begun)) == ("nudge", {"nudge"})
    await parts.send("order.paid", order="o-1")
    await parts.send("feature.used", "ada@example.com")
    await parts.settle()
    assert held.due_at is not None
    await parts.pass_time(held.due_at - parts.clock.now())
    (over,) = await parts.enrolled()
    assert (over.state, over.end_reason) == (State.EXITED, "done")


@pytest.mark.parametrize("order", ["o-1", 7, 0.5, "ü"])
async def test_what_came_in_is_found_among_the_events_of_thousands_of_others(parts: Parts, order: object) -> None:
    await parts.publish(GAP.replace("o-1", str(order)))
    await parts.send("trial.started", "ada@example.com")
    await parts.pass_time(HOUR)
    await parts.send_many("order.paid", ({"order": f"other {n}"} for n in range(2_100)))
    await parts.send("order.paid", order=order)
    await parts.send("feature.used", "ada@example.com")
    await parts.settle()
    (held,) = await parts.enrolled()
    assert held.due_at is not None
    await parts.pass_time(held.due_at - parts.clock.now())
    (over,) = await parts.enrolled()
    assert (over.state, over.end_reason) == (State.EXITED, "done")


async def test_what_came_in_time_counts_at_the_timeout_also_where_the_matcher_is_thousands_behind(parts: Parts) -> None:
    await parts.publish(GAP.replace("since: entry", ""))
    await parts.send("trial.started", "ada@example.com")
    await parts.pass_time(DAY)
    await parts.send("feature.used", "ada@example.com")
    await parts.settle()
    (waits,) = await parts.enrolled()
    assert waits.step_id == "paid"
    await parts.send_many("order.paid", ({"order": f"other {n}"} for n in range(2_100)))
    await parts.send("order.paid", order="o-1")
    parts.clock.advance(3 * DAY)
    await Ticker(parts.database, parts.driver).turn()
    (over,) = await parts.enrolled()
    assert (over.state, over.end_reason) == (State.EXITED, "done")


async def test_a_date_that_moves_takes_the_wait_with_it_earlier_and_later(parts: Parts) -> None:
    await parts.publish(DATES)
    company = await parts.company(name="Example", domain="example.com", custom={"day": "2026-09-01T00:00:00Z"})
    ada = await parts.contact("ada@example.com", company, custom={"day": "2026-05-01T00:00:00Z"})
    await parts.send("trial.started", "ada@example.com")
    await parts.settle()

    async def due() -> str:
        await parts.settle()
        (one,) = await parts.enrolled()
        return "" if one.due_at is None else f"{one.step_id} {one.due_at:%m-%d}"

    assert await due() == "a 05-01"
    await parts.change(ada, first_name="Ada")
    assert (await due(), (await parts.enrolled())[0].rev) == ("a 05-01", 1)
    await parts.change(ada, custom={"day": "2026-06-01T00:00:00Z"})
    assert await due() == "a 06-01"
    await parts.change(ada, custom={"day": "2026-04-01T00:00:00Z"})
    assert await due() == "a 04-01"
    await parts.change(ada, custom={"day": "2026-01-01T00:00:00Z"})  # long past: it goes on at once
    assert await due() == "b 09-01"
    await parts.change(company, custom={"day": "2026-08-01T00:00:00Z"})
    assert await due() == "b 08-01"
