"""What one decision records at one instant takes effect in the order in which it did so."""

from __future__ import annotations

import pytest

from core.clock import ManualClock
from core.store.database import Database
from tests.engine.parts import Parts

pytestmark = pytest.mark.anyio

TWO_AT_ONCE = """
triggers: [{event: begun}]
steps:
  - {id: first, kind: emit_event, event: first.went}
  - {id: second, kind: emit_event, event: second.went}
  - id: which
    kind: wait_for_event
    any_of: [{event: second.went, exit: second}, {event: first.went, exit: first}]
    exits: {first: right, second: wrong}
  - {id: right, kind: exit, reason: in order}
  - {id: wrong, kind: exit, reason: out of order}
"""
PEOPLE = [f"c{number}@example.com" for number in range(12)]


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    return made


async def test_events_of_steps_come_in_the_order_of_the_steps(parts: Parts) -> None:
    await parts.publish(TWO_AT_ONCE)
    for email in PEOPLE:
        await parts.send("begun", email)
    await parts.settle()
    assert [one.end_reason for one in await parts.enrolled()] == ["in order"] * len(PEOPLE)
