"""Messages on their way out, on both databases: leases, turns of organizations, what frequency caps count."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.effects import SendMessage, WithdrawMessages
from core.domain.enrollment import Sent
from core.store.database import Database
from core.store.messages import outgoing, outgoing_due
from core.store.messages.outgoing import ClaimedMessage, Completion, MessageState, NewMessage
from core.store.organizations.organizations import organizations
from core.store.records.records import records
from tests.conftest import START
from tests.domain.machine_cases import compiled, entered

pytestmark = pytest.mark.anyio

ORG = "org_a"
LEASE = timedelta(seconds=90)
IN_UTC = {"zone": ["UTC", "default"]}


def message(message_id: str, org: str = ORG, **changed: Any) -> NewMessage:
    values = {"purpose": "marketing", "contact_id": "cnt_1", "to": "ada@example.com", "subject": "Hi", "text": "x"}
    effect = SendMessage(**{"id": message_id, "channel": "email", **values, **changed})
    return NewMessage(org, "enr_1", "nurture", "mail", effect)


async def write(database: Database, *new: NewMessage) -> None:
    async with database.system() as tx:
        there = [
            {"org_id": org, "display_name": org, "timezone": "UTC", "created_at": tx.now} for org in (ORG, "org_b")
        ]
        await tx.insert(organizations, there, on_conflict="ignore")
        await outgoing.create_many(tx, new)


async def claim(database: Database, token: str = "lse_1", limit: int = 10, offset: int = 0) -> list[ClaimedMessage]:
    async with database.system() as tx:
        return await outgoing_due.claim(tx, limit=limit, lease=LEASE, token=token, offset=offset)


async def complete(database: Database, *completions: Completion) -> int:
    async with database.system() as tx:
        held = await outgoing.still_leased(tx, [one.message for one in completions])
        kept = [one for one in completions if (one.message.org_id, one.message.id) in held]
        await outgoing.complete(tx, kept)
    return len(kept)


async def rows(database: Database) -> dict[str, tuple[Any, ...]]:
    async with database.read(ORG) as tx:
        found = await tx.all(outgoing.listing(contact_id="cnt_1"))
    return {row.id: (row.state, row.attempts, row.outcome, row.due_at, row.ended_at) for row in found}


async def test_a_message_is_claimed_once_with_all_that_sending_needs(database: Database) -> None:
    await write(database, message("msg_1", html="<p>x</p>", ordinal=2, awaited=True, terms=IN_UTC))
    (claimed,) = await claim(database)
    assert claimed == ClaimedMessage(
        ORG, "msg_1", "enr_1", "nurture", "mail", "cnt_1", "email", "marketing", "ada@example.com", "Hi", "x",
        "<p>x</p>", 2, True, IN_UTC, 0, "", START, "lse_1",
    )  # fmt: skip
    assert await claim(database) == []


async def test_a_message_knows_the_step_that_sends_it() -> None:
    text = "steps: [{id: mail, kind: message, subject: s, text: t}, {id: later, kind: wait, for: 1d}]"
    transition = entered(compiled(text))
    (effect,) = (one for one in transition.effects if isinstance(one, SendMessage))
    assert transition.enrollment.step_id == "later"
    assert NewMessage.of(transition, effect) == NewMessage("org_1", "enr_1", "nurture", "mail", effect)


async def test_a_lost_lease_changes_nothing_and_the_message_goes_again(database: Database, clock: ManualClock) -> None:
    await write(database, message("msg_1"))
    (first,) = await claim(database)
    clock.advance(LEASE)
    (second,) = await claim(database, "lse_2")
    assert await complete(database, Completion(first, MessageState.FAILED, "550 no")) == 0
    assert await complete(database, Completion(second, MessageState.SENT, "250 ok")) == 1
    assert await complete(database, Completion(second, MessageState.SENT, "250 ok")) == 0
    assert await rows(database) == {"msg_1": ("sent", 1, "250 ok", None, START + LEASE)}


async def test_a_message_to_be_tried_again_waits_for_its_time(database: Database, clock: ManualClock) -> None:
    await write(database, message("msg_1"))
    (first,) = await claim(database)
    later = START + timedelta(minutes=5)
    await complete(database, Completion(first, MessageState.PENDING, "451 later", later))
    assert await rows(database) == {"msg_1": ("pending", 1, "451 later", later, None)}
    assert await claim(database) == []
    clock.advance(timedelta(minutes=5))
    (again,) = await claim(database)
    assert again.attempts == 1


async def test_organizations_share_a_claim(database: Database) -> None:
    await write(database, *(message(f"msg_{n}") for n in range(20)), message("msg_b", "org_b"))
    assert "org_b" in {one.org_id for one in await claim(database, limit=4)}
    assert len(await claim(database, limit=4)) == 4
    assert await claim(database, limit=0) == []


async def test_with_less_room_than_organizations_they_take_turns(database: Database) -> None:
    await write(database, *(message(f"msg_{n}", org) for n in range(3) for org in (ORG, "org_b")))
    found = [one.org_id for turn in range(4) for one in await claim(database, limit=1, offset=turn)]
    assert sorted(found) == [ORG, ORG, "org_b", "org_b"]


async def test_leases_are_given_back(database: Database) -> None:
    await write(database, message("msg_1"), message("msg_2"))
    claimed = await claim(database)
    async with database.system() as tx:
        assert await outgoing.release(tx, [claimed[0], replace(claimed[1], lease_token="lse_other")]) == 1
        assert await outgoing.release(tx, []) == 0
    assert [one.id for one in await claim(database, "lse_2")] == ["msg_1"]
    async with database.system() as tx:
        assert await outgoing.release_all(tx) == 2


async def test_what_was_sent_lately_is_what_frequency_caps_count(database: Database, clock: ManualClock) -> None:
    await write(database, message("msg_0"))
    clock.advance(timedelta(hours=1))
    since = clock.now()
    await write(
        database,
        *(message(f"msg_{state}") for state in ("sent", "failed", "skipped")),
        message("msg_other", contact_id="cnt_2"),
        message("msg_b", "org_b"),
    )
    claimed = [one for one in await claim(database) if one.org_id == ORG and one.contact_id == "cnt_1"]
    outcomes = [Completion(one, MessageState(one.id.removeprefix("msg_")), "") for one in claimed if one.id != "msg_0"]
    assert await complete(database, *outcomes) == 3
    clock.advance(timedelta(hours=1))
    await write(database, message("msg_dm", channel="dm"))
    async with database.system() as tx:
        found = await outgoing.sent_lately(tx, [(ORG, "cnt_1"), (ORG, "cnt_9")], since)
        assert await outgoing.sent_lately(tx, [], since) == {}
    assert found == {
        (ORG, "cnt_1"): (Sent("email", since, "nurture"), Sent("dm", since + timedelta(hours=1), "nurture")),
        (ORG, "cnt_9"): (),
    }


async def test_what_an_ended_enrollment_had_not_sent_yet_is_withdrawn_with_the_reason(database: Database) -> None:
    await write(database, message("msg_1"), message("msg_other", "org_b"))
    (held,) = [one for one in await claim(database) if one.org_id == ORG]
    later = START + timedelta(days=1)
    await complete(database, Completion(held, MessageState.PENDING, "held: daily_message_limit_reached", later))
    over = replace(entered(compiled("steps: [{id: done, kind: exit}]")).enrollment, org_id=ORG, id="enr_1")
    async with database.system() as tx:
        await outgoing.withdraw(tx, [(over, WithdrawMessages("enr_1", "Exit rule replied: reply.received came in."))])
    (withdrawn,) = [one for one in await claim(database, "lse_2") if one.org_id == ORG]
    async with database.system() as tx:
        contact = {"org_id": ORG, "id": "cnt_1", "type": "contact", "fields": {}, "rev": 1}
        await tx.insert(records, [{**contact, "created_at": tx.now, "updated_at": tx.now}])
        unwanted = await outgoing_due.unwanted(tx, [withdrawn])
    assert unwanted == {"msg_1": "skipped: Exit rule replied: reply.received came in."}
