"""Quiet hours and frequency caps at the moment of sending, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.messaging import terms
from core.domain.messaging.terms import Terms
from core.domain.workflow.findings import Findings
from core.domain.workflow.frequency import FrequencyCap
from core.domain.workflow.quiet_hours import QuietHours
from core.domain.workflow.time_notation import read_opening
from core.domain.workflow.zones import Zone
from core.store.database import Database
from core.store.messages import message_terms, outgoing_due
from core.store.messages.outgoing import Completion, MessageState, NewMessage
from tests.store.test_outgoing import LEASE, complete, message, write

pytestmark = pytest.mark.anyio

BERLIN = Zone("Europe/Berlin", "contact")
HOUR = timedelta(hours=1)


def bound(message_id: str, *, quiet: str = "", caps: tuple[FrequencyCap, ...] = (), **changed: Any) -> NewMessage:
    window = read_opening(quiet, Findings(), "") if quiet else None
    hours = QuietHours(window.start, window.end) if window else None
    return message(message_id, terms=terms.to_data(Terms(BERLIN, hours, caps)), **changed)


async def early(database: Database, token: str = "lse_1") -> dict[str, tuple[str, datetime, bool]]:
    """Return which of the messages that are due must not leave now; those that may are sent."""
    async with database.system() as tx:
        claimed = await outgoing_due.claim(tx, limit=10, lease=LEASE, token=token)
        found = await message_terms.early(tx, claimed)
    await complete(database, *(Completion(one, MessageState.SENT, "250 ok") for one in claimed if one.id not in found))
    held = [one for one in claimed if one.id in found]
    await complete(
        database,
        *(Completion(one, MessageState.PENDING, "held", found[one.id].until, tried=False) for one in held),
    )
    return {one: (why.reason, why.until, why.skip) for one, why in found.items()}


async def test_a_message_that_comes_to_its_turn_in_quiet_hours_waits_for_their_end_in_the_zone_it_was_written_for(
    database: Database, clock: ManualClock
) -> None:
    assert clock.now() == datetime(2026, 3, 2, 9, tzinfo=UTC)
    await write(
        database, bound("msg_held", quiet="20:00-08:00"), bound("msg_day", quiet="11:00-12:00"), message("msg_1")
    )
    clock.advance(10 * HOUR)  # a pause, a server that says later, a budget that was used up
    until = datetime(2026, 3, 3, 7, tzinfo=UTC)
    told = "quiet hours, until 2026-03-03 08:00 (Europe/Berlin, the contact's zone)"
    assert await early(database) == {"msg_held": (told, until, False)}
    clock.advance(12 * HOUR)
    assert await early(database) == {}


@pytest.mark.parametrize(
    ("cap", "waits"),
    [
        (FrequencyCap(1, "day"), timedelta(hours=14)),
        (FrequencyCap(1, timedelta(hours=30)), timedelta(hours=30)),
        (FrequencyCap(2, "day"), None),
        (FrequencyCap(1, "day", "dm"), None),
    ],
)
async def test_a_cap_counts_when_messages_left_and_of_two_that_are_due_together_the_older_one_goes(
    database: Database, clock: ManualClock, cap: FrequencyCap, waits: timedelta | None
) -> None:
    await write(database, bound("msg_old", caps=(cap,)))
    clock.advance(timedelta(days=1))
    await write(database, bound("msg_new", caps=(cap,)), bound("msg_b", caps=(cap,), contact_id="cnt_2"))
    now = clock.now()
    found = await early(database)
    assert {one: why[1] for one, why in found.items()} == ({} if waits is None else {"msg_new": now + waits})
    if waits is not None:
        assert found["msg_new"][0].startswith(f"{cap.spoken}, and 1 has gone out")
        clock.advance(waits)
        assert await early(database, "lse_2") == {}


async def test_a_cap_may_skip_and_sees_what_another_process_sends_this_moment(database: Database) -> None:
    await write(database, message("msg_1"))
    async with database.system() as tx:
        assert len(await outgoing_due.claim(tx, limit=10, lease=LEASE, token="lse_other")) == 1
    await write(database, bound("msg_2", caps=(FrequencyCap(1, "day", "", "skip"),)))
    ((reason, _, skip),) = (await early(database)).values()
    assert (skip, reason[:22]) == (True, "at most 1 message a da")
