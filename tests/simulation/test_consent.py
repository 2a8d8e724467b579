"""A simulation over stored contacts knows what they may be sent, as the engine does."""

from __future__ import annotations

import pytest

from core.clock import ManualClock
from core.domain.messaging.consent import Cause
from core.simulation import stored
from core.store.database import Database
from core.store.messages import consent, suppressions
from core.store.messages.suppressions import NewSuppression
from tests.engine.parts import ORG, Parts
from tests.simulation.cases import step, tried

pytestmark = pytest.mark.anyio

FLOW = """
steps:
  - {id: news, kind: message, purpose: news, subject: News, text: Here they are.}
  - {id: receipt, kind: message, purpose: transactional, subject: Receipt, text: Thank you.}
"""


async def test_who_refused_or_cannot_be_reached_gets_nothing_in_a_simulation_either(
    database: Database, clock: ManualClock
) -> None:
    parts = Parts(database, clock)
    await parts.begin()
    emails = ("ada@example.com", "bob@example.com", "cyd@example.com")
    ada, bob, cyd = [await parts.contact(email) for email in emails]
    async with database.write(ORG) as tx:
        await consent.answer(tx, ada, "email", "news", False, actor="key_1", reason="", cause="call:1")
        await suppressions.add(tx, NewSuppression("email", "Bob@Example.com", "*", Cause.BOUNCED, "event:1", "key_1"))
    async with database.read(ORG) as tx:
        subjects = await stored.by_id(tx, [ada, bob, cyd])
    found = tried(FLOW, subjects)
    assert (step(found, "news").skipped, step(found, "receipt").skipped) == (2, 1)
    assert found.messages_sent == 3
