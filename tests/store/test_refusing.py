"""Refusals, complaints and bounces on both databases: stored, told and stopped once, however often said."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.domain.messaging import addresses
from core.domain.messaging.consent import Cause
from core.store.database import Database
from core.store.events import refusing
from core.store.events.events import events
from core.store.events.refusing import Said
from core.store.merging import merging
from core.store.messages import consent, outgoing, outgoing_due, suppressions
from core.store.messages.outgoing import outgoing_messages
from core.store.organizations.organizations import organizations
from core.store.records import records
from core.store.transaction import EVERY_ORGANIZATION
from tests.announcements import announced, listen
from tests.conftest import START
from tests.somebody import somebody
from tests.store.test_outgoing import LEASE, ORG, message

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
SAID = Said("one_click", "message:msg_1", "cnt_1", ADA, "email", "marketing", "clicked", "msg_1", "enr_1", "nurture")
OTHER = "org_b"


@dataclass
class House:
    """An organization with a contact, and what became of it."""

    database: Database
    clock: ManualClock

    async def unsubscribe(self, said: Said = SAID, **about: Any) -> bool:
        async with self.database.write(ORG) as tx:
            return await refusing.unsubscribe(tx, said, **about)

    async def complain(self, said: Said = SAID) -> bool:
        async with self.database.write(ORG) as tx:
            return await refusing.complain(tx, said)

    async def bounce(self, said: Said = SAID, *, hard: bool = True) -> bool:
        async with self.database.write(ORG) as tx:
            return await refusing.bounce(tx, said, hard=hard)

    async def answers(self) -> dict[tuple[str, str], tuple[bool, str]]:
        async with self.database.read(ORG) as tx:
            rows = await consent.answers_of(tx, "cnt_1")
        return {(row.channel, row.purpose): (row.granted, row.actor) for row in rows}

    async def stopped(self) -> set[tuple[str, str, str, str]]:
        async with self.database.read(ORG) as tx:
            rows, _ = await suppressions.page(tx, 100, "")
        return {(row.channel, row.address, row.purpose, row.reason) for row in rows}

    async def told(self) -> list[dict[str, Any]]:
        return [{"type": one["type"], **one["data"]} for one in await announced(self.database, ORG)]

    async def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        async with self.database.read(ORG) as tx:
            rows = await tx.all(select(events).order_by(events.c.id))
        return [(row.event_name, row.contact_id, row.fields) for row in rows if row.event_type != "record"]

    async def contact(self) -> Any:
        async with self.database.read(ORG) as tx:
            return await records.get(tx, "cnt_1")

    async def written(self, *new: outgoing.NewMessage) -> None:
        async with self.database.system() as tx:
            await outgoing.create_many(tx, new)

    async def due(self) -> dict[str, datetime | None]:
        async with self.database.read(ORG) as tx:
            rows = await tx.all(select(outgoing_messages.c.id, outgoing_messages.c.due_at))
        return {row.id: row.due_at for row in rows}

    async def unwanted(self) -> dict[str, str]:
        """Return what the mailer would not send of what is due."""
        async with self.database.system() as tx:
            claimed = await outgoing_due.claim(tx, limit=20, lease=LEASE, token="lse_1")
            found = await outgoing_due.unwanted(tx, claimed)
            await outgoing.release(tx, claimed)
        return found


@pytest.fixture
async def house(database: Database, clock: ManualClock) -> House:
    async with database.system() as tx:
        there = [{"org_id": org, "display_name": org, "timezone": "UTC", "created_at": tx.now} for org in (ORG, OTHER)]
        await tx.insert(organizations, there)
        for org in (ORG, OTHER):
            await somebody(tx, org, "cnt_1", "enr_1", email=ADA)
    await listen(database, ORG)
    return House(database, clock)


ABOUT = {
    "channel": "email",
    "purpose": "marketing",
    "reason": "clicked",
    "message_id": "msg_1",
    "enrollment_id": "enr_1",
    "workflow_id": "nurture",
    "actor": "one_click",
    "cause": "message:msg_1",
}


async def test_unsubscribing_is_stored_with_its_address_told_and_seen_by_workflows(house: House) -> None:
    assert await house.unsubscribe()
    assert await house.answers() == {("email", "marketing"): (False, "one_click")}
    assert await house.stopped() == {("email", ADA, "marketing", "unsubscribed")}
    (told,) = await house.told()
    assert told == {
        "type": "contact.unsubscribed",
        "contact_id": "cnt_1",
        "address": ADA,
        "everything": False,
        **ABOUT,
    }
    assert await house.events() == [("contact.unsubscribed", "cnt_1", {**ABOUT, "everything": False})]


async def test_saying_it_again_changes_nothing_and_tells_nobody(house: House) -> None:
    assert await house.unsubscribe()
    house.clock.advance(timedelta(days=1))
    assert not await house.unsubscribe(replace(SAID, actor="unsubscribe_page", message_id="msg_2"))
    assert (len(await house.told()), len(await house.events())) == (1, 1)
    async with house.database.read(ORG) as tx:
        assert len(await consent.changes_of(tx, "cnt_1")) == 1


async def test_everything_sets_the_contact_s_field_too(house: House) -> None:
    assert await house.unsubscribe(everything=True)
    assert not await house.unsubscribe(everything=True)
    assert (await house.contact()).fields["unsubscribed"] is True
    assert await house.answers() == {("*", "*"): (False, "one_click")}
    assert await house.stopped() == {("email", ADA, "*", "unsubscribed")}
    (told,) = [one for one in await house.told() if one["type"] == "contact.unsubscribed"]
    assert (told["everything"], told["channel"], told["purpose"]) == (True, "*", "*")


async def test_wanting_it_again_lifts_what_the_person_had_said_and_nothing_else(house: House) -> None:
    await house.unsubscribe(everything=True)
    await house.complain(replace(SAID, address="other@example.com"))
    house.clock.advance(timedelta(minutes=1))
    async with house.database.write(ORG) as tx:
        await refusing.resubscribe(tx, SAID)
    assert (await house.contact()).fields.get("unsubscribed") is None
    assert await house.stopped() == {("email", "other@example.com", "*", "complained")}
    answers = await house.answers()
    assert (answers["*", "*"][0], answers["email", "marketing"][0]) == (False, True)
    await house.written(message("msg_a"), message("msg_b", purpose="news"))
    assert await house.unwanted() == {"msg_b": "skipped: the contact refused everything on 2026-03-02 (one_click)"}
    house.clock.advance(timedelta(minutes=1))
    assert await house.unsubscribe()  # and once more: it is news again
    async with house.database.read(ORG) as tx:
        changes = await consent.changes_of(tx, "cnt_1")
    assert [(one.purpose, one.granted) for one in changes if one.purpose == "marketing"] == [
        ("marketing", True),
        ("marketing", False),
    ]


async def test_a_complaint_stops_every_purpose_but_what_is_needed(house: House) -> None:
    assert await house.complain()
    assert not await house.complain()
    assert await house.stopped() == {("email", ADA, "*", "complained")}
    assert [one["type"] for one in await house.told()] == ["contact.spam_complaint"]
    assert [one[0] for one in await house.events()] == ["contact.spam_complaint"]
    await house.written(
        message("msg_a"),
        message("msg_b", purpose="news"),
        message("msg_c", purpose="transactional"),
        message("msg_d", channel="dm", to="@ada"),
    )
    assert set(await house.unwanted()) == {"msg_a", "msg_b"}


async def test_a_hard_bounce_stops_the_whole_channel_and_a_soft_one_nothing(house: House) -> None:
    assert await house.bounce(hard=False)
    assert await house.stopped() == set()
    house.clock.advance(timedelta(seconds=1))
    assert await house.bounce()
    assert not await house.bounce()
    assert await house.stopped() == {("email", ADA, "*", "bounced")}
    assert [(one["type"], one["kind"]) for one in await house.told()] == [
        ("message.bounced", "soft"),
        ("message.bounced", "hard"),
    ]
    await house.written(
        message("msg_a", purpose="transactional"), message("msg_b", to="Ada@Example.com"), message("msg_c", to="x@y.zz")
    )
    assert await house.unwanted() == dict.fromkeys(("msg_a", "msg_b"), "skipped: the address is suppressed: it bounced")


async def test_an_address_that_belongs_to_nobody_known_is_suppressed_all_the_same(house: House) -> None:
    unknown = replace(SAID, contact_id="cnt_gone", address="gone@example.com")
    assert await house.unsubscribe(unknown)
    assert await house.bounce(unknown)
    assert {one[3] for one in await house.stopped()} == {"unsubscribed", "bounced"}
    assert [one["type"] for one in await house.told()] == ["message.bounced"]
    assert await house.events() == []


async def test_what_is_on_its_way_is_stopped_at_once(house: House) -> None:
    await house.written(
        message("msg_a"),
        message("msg_b", purpose="transactional"),
        message("msg_c", channel="dm", to="@ada"),
        message("msg_d", contact_id="cnt_2", to="bob@example.com"),
    )
    later = START + timedelta(hours=5)
    async with house.database.system() as tx:
        await tx.run(outgoing_messages.update().values(due_at=later))
    await house.unsubscribe()
    assert await house.due() == {"msg_a": START, "msg_b": later, "msg_c": later, "msg_d": later}
    assert set(await house.unwanted()) == {"msg_a"}
    await house.bounce()
    assert (await house.due())["msg_b"] == START


async def test_what_was_granted_since_goes_before_what_is_told_late(house: House) -> None:
    yesterday = START - timedelta(days=1)
    async with house.database.write(ORG) as tx:
        await consent.answer(tx, "cnt_1", "email", "marketing", True, actor="mem_1", reason="fair", cause="call:1")
    assert not await house.unsubscribe(at=yesterday)
    house.clock.advance(timedelta(hours=1))
    assert await house.unsubscribe(at=START + timedelta(minutes=30))


async def test_two_at_once_are_one(postgresql_database: Database, clock: ManualClock) -> None:
    async with postgresql_database.system() as tx:
        row = {"org_id": ORG, "display_name": ORG, "timezone": "UTC", "created_at": tx.now}
        await tx.insert(organizations, [row])
        await somebody(tx, ORG, "cnt_1", "enr_1", email=ADA)
    await listen(postgresql_database, ORG)
    house = House(postgresql_database, clock)
    assert sum(await asyncio.gather(*(house.unsubscribe() for _ in range(6)))) == 1
    assert sum(await asyncio.gather(*(house.unsubscribe(everything=True) for _ in range(6)))) == 1
    assert sum(await asyncio.gather(*(house.bounce() for _ in range(6)))) == 1
    assert sum(await asyncio.gather(*(house.complain(replace(SAID, contact_id="")) for _ in range(6)))) == 1
    assert sorted(one["type"] for one in await house.told() if one["type"] != "record.updated") == [
        *["contact.unsubscribed"] * 2,
        "message.bounced",
    ]


async def test_one_organization_s_refusals_are_not_another_s(house: House) -> None:
    await house.unsubscribe(everything=True)
    await house.bounce()
    await house.written(message("msg_a", OTHER))
    assert await house.unwanted() == {}
    async with house.database.read(OTHER) as tx:
        assert (await suppressions.page(tx, 10, ""))[0] == []


async def test_of_an_erased_person_a_hash_is_left_and_nothing_is_sent_there(house: House) -> None:
    await house.unsubscribe()
    async with house.database.write(ORG) as tx:
        await suppressions.forget_person(tx, "cnt_1", [("email", ADA)], actor="mem_1")
    assert await house.stopped() == {("email", "", "marketing", "unsubscribed"), ("email", "", "*", "erased")}
    async with house.database.read(ORG) as tx:
        known = [("email", "Ada@Example.com"), ("email", "bob@example.com")]
        assert await suppressions.erased(tx, known) == {("email", "Ada@Example.com")}
        found = await tx.all(select(suppressions.suppressions))
    assert not any("ada" in str(value) for row in found for value in row)
    await house.written(message("msg_a", purpose="transactional"))
    assert await house.unwanted() == {"msg_a": "skipped: the address is suppressed: its owner was erased"}


async def test_a_lifted_suppression_stays_in_the_books_and_can_come_again(house: House) -> None:
    await house.bounce()
    async with house.database.write(ORG) as tx:
        (row,) = (await suppressions.page(tx, 10, ""))[0]
        assert await suppressions.lift(tx, [row.id], actor="mem_1", reason="mailbox is back") == 1
        assert await suppressions.lift(tx, [row.id], actor="mem_2", reason="again") == 0
        lifted = await suppressions.get(tx, row.id)
    assert lifted is not None
    assert (lifted.lifted_at, lifted.lifted_by, lifted.lift_reason) == (START, "mem_1", "mailbox is back")
    assert await house.stopped() == set()
    assert await house.bounce()
    assert len(await house.stopped()) == 1


async def test_decisions_see_answers_and_addresses_of_many_contacts_in_one_look(house: House) -> None:
    await house.unsubscribe()
    async with house.database.system() as tx:
        await somebody(tx, ORG, "cnt_2", "enr_2", email="Ada@Example.com")  # another contact, the same address
        bob = (ORG, "cnt_3")
        wanted = {
            (ORG, "cnt_1"): [addresses.key(ORG, "email", ADA)],
            (ORG, "cnt_2"): [addresses.key(ORG, "email", "Ada@Example.com")],
            bob: [addresses.key(ORG, "email", "bob@example.com")],
            (OTHER, "cnt_1"): [addresses.key(OTHER, "email", ADA)],
        }
        found = await consent.of_contacts(tx, wanted)
        assert await consent.of_contacts(tx, {}) == {}
    assert sorted(found) == [(ORG, "cnt_1"), (ORG, "cnt_2")]
    assert [one.granted for one in found[ORG, "cnt_1"].answers] == [False]
    assert found[ORG, "cnt_2"].answers == ()
    for one in found.values():
        (stopped,) = one.suppressions
        assert (stopped.cause, stopped.purpose) == (Cause.UNSUBSCRIBED, "marketing")


async def test_links_are_signed_by_one_secret_an_organization_for_ever(house: House) -> None:
    async with house.database.system() as tx:
        first = await consent.secrets(tx, [ORG, OTHER])
    async with house.database.system() as tx:
        assert await consent.secrets(tx, [OTHER, ORG]) == first
        assert await consent.secrets(tx, []) == {}
    assert len(set(first.values())) == 2
    async with house.database.read(EVERY_ORGANIZATION) as tx:
        assert await consent.secrets_there(tx, [ORG, "org_none"]) == {ORG: first[ORG]}


async def test_what_is_said_to_a_merged_contact_is_the_kept_one_s(house: House) -> None:
    async with house.database.write(ORG) as tx:
        await somebody(tx, ORG, "cnt_2", "enr_2", email="ada@work.example")
        await merging.merge(tx, "cnt_2", "cnt_1", actor="key_1", cause="call:1")
    assert await house.unsubscribe(everything=True)  # by a link from before the merge
    assert await house.complain(replace(SAID, channel="sms", address="+15550100"))
    assert await house.bounce()
    async with house.database.read(ORG) as tx:
        answers = {(one.channel, one.purpose): one.granted for one in await consent.answers_of(tx, "cnt_2")}
        kept = await records.get(tx, "cnt_2")
        stopped, _ = await suppressions.page(tx, 10, "")
    assert answers == {("*", "*"): False, ("sms", "*"): False}
    assert kept is not None
    assert kept.fields["unsubscribed"] is True
    assert {row.contact_id for row in stopped} == {"cnt_2"}
    told = [one for one in await house.told() if one["type"] not in ("record.updated", "enrollment.exited")]
    assert {one["type"]: one["contact_id"] for one in told} == dict.fromkeys(
        ("contact.unsubscribed", "contact.spam_complaint", "message.bounced"), "cnt_2"
    )
    assert {contact for _, contact, _ in await house.events()} == {"cnt_2"}
