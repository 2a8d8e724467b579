"""The field `unsubscribed` on both databases: whoever sets it says what SetConsent says, with all that follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.domain.errors import Invalid
from core.store.events import refusing
from core.store.events.events import events
from core.store.events.refusing import Said
from core.store.messages import consent, outgoing_due
from core.store.records import identifiers, records
from core.store.records.records import ContactCandidate, RecordUpdate
from core.store.transaction import Transaction
from core.store.workflows import created
from core.store.workflows.created import NewRecord
from tests.store.test_outgoing import LEASE, ORG, message
from tests.store.test_refusing import ADA, OTHER, House
from tests.store.test_refusing import house as house_without_identifiers

pytestmark = pytest.mark.anyio
__all__ = ["house_without_identifiers"]


@pytest.fixture(name="house")
async def house_with_identifiers(house_without_identifiers: House) -> House:
    async with house_without_identifiers.database.system() as tx:
        await identifiers.claim(tx, [(ORG, "contact", "email", ADA, "cnt_1")])
    return house_without_identifiers


Setter = Callable[[Transaction, Any], Awaitable[Any]]


async def _update(tx: Transaction, value: Any) -> None:
    await records.update(tx, "cnt_1", {"unsubscribed": value}, actor="key_1", cause="call:1")


async def _upsert(tx: Transaction, value: Any) -> None:
    await records.upsert(tx, "contact", {"email": ADA, "unsubscribed": value}, actor="key_1", cause="call:1")


async def _step(tx: Transaction, value: Any) -> None:
    await records.apply_updates(tx, [RecordUpdate(ORG, "cnt_1", {"unsubscribed": value}, "key_1", "call:1")])


async def _call(tx: Transaction, value: Any) -> None:
    contact = (await records.hold(tx, [(ORG, "cnt_1")]))[ORG, "cnt_1"]
    said = Said("key_1", "call:1", "cnt_1", reason="The field unsubscribed was set.")
    await (refusing.withdraw if value else refusing.grant)(tx, contact, "*", "*", said)


FIELD = [_update, _upsert, _step]
EVERYWHERE = pytest.mark.parametrize("setter", [*FIELD, _call])


async def _set(house: House, setter: Setter, value: Any) -> None:
    async with house.database.system() if setter is _step else house.database.write(ORG) as tx:
        await setter(tx, value)


async def _field(house: House) -> Any:
    return (await house.contact()).fields.get("unsubscribed")


async def _changes(house: House) -> list[tuple[Any, ...]]:
    async with house.database.read(ORG) as tx:
        rows = await consent.changes_of(tx, "cnt_1")
    return [(row.channel, row.purpose, row.granted, row.actor, row.cause, row.reason) for row in rows]


TOLD = {
    "channel": "*",
    "purpose": "*",
    "reason": "The field unsubscribed was set.",
    "actor": "key_1",
    "cause": "call:1",
    "everything": True,
}


@EVERYWHERE
async def test_setting_it_is_a_refusal_of_everything(house: House, setter: Setter) -> None:
    await house.written(message("msg_1"))
    await _set(house, setter, True)
    assert (await house.answers(), await _field(house)) == ({("*", "*"): (False, "key_1")}, True)
    assert await _changes(house) == [("*", "*", False, "key_1", "call:1", TOLD["reason"])]
    assert await house.events() == [("contact.unsubscribed", "cnt_1", TOLD)]
    told = [one for one in await house.told() if one["type"] == "contact.unsubscribed"]
    assert told == [{"type": "contact.unsubscribed", "contact_id": "cnt_1", **TOLD}]
    assert "msg_1" in await house.unwanted()


@EVERYWHERE
async def test_what_stands_already_tells_nobody_again(house: House, setter: Setter) -> None:
    for one in (setter, _update, _call, setter):
        await _set(house, one, True)
    assert len(await house.events()) == len(await _changes(house)) == 1


@EVERYWHERE
async def test_clearing_it_is_a_grant(house: House, clock: ManualClock, setter: Setter) -> None:
    await _set(house, _update, True)
    clock.advance(LEASE)
    await _set(house, setter, False)
    assert (await house.answers(), bool(await _field(house))) == ({("*", "*"): (True, "key_1")}, False)
    assert [change[2] for change in await _changes(house)] == [False, True]


@pytest.mark.parametrize("setter", FIELD)
async def test_what_was_never_set_is_not_granted_by_clearing_it(house: House, setter: Setter) -> None:
    await _set(house, setter, False)
    assert (await house.answers(), await _changes(house), await house.events()) == ({}, [], [])


async def _refused_themself(house: House, clock: ManualClock) -> None:
    await house.unsubscribe(everything=True)
    clock.advance(LEASE)


@pytest.mark.parametrize(("setter", "path"), [(_update, "fields.unsubscribed"), (_upsert, "fields.unsubscribed")])
async def test_what_a_contact_refused_themself_is_not_overridden_by_the_field(
    house: House, clock: ManualClock, setter: Setter, path: str
) -> None:
    await _refused_themself(house, clock)
    with pytest.raises(Invalid) as refused:
        await _set(house, setter, False)
    (told,) = refused.value.violations
    assert (told.field, told.reason) == (path, "REFUSED_BY_CONTACT")
    assert "SetConsent" in told.hint
    assert (await _field(house), (await house.answers())["*", "*"]) == (True, (False, "one_click"))


async def test_a_workflow_leaves_it_as_it_was_and_sets_the_rest(house: House, clock: ManualClock) -> None:
    await _refused_themself(house, clock)
    update = RecordUpdate(ORG, "cnt_1", {"unsubscribed": False, "city": "Paris"}, "workflow:nurture", "enr_1")
    async with house.database.system() as tx:
        await records.apply_updates(tx, [update])
    assert (await _field(house), (await house.contact()).fields["city"]) == (True, "Paris")
    assert (await house.answers())["*", "*"] == (False, "one_click")


async def test_of_a_batch_only_the_item_that_overrides_is_refused(house: House, clock: ManualClock) -> None:
    await _refused_themself(house, clock)
    given = [
        ContactCandidate({"email": "new@example.com", "unsubscribed": True}, path="contacts[0]"),
        ContactCandidate({"email": ADA, "unsubscribed": False, "city": "Paris"}, path="contacts[1]"),
    ]
    async with house.database.write(ORG) as tx:
        new, ada = await records.resolve_contacts(tx, given, actor="key_1", cause="call:1")
    assert ada.violation is not None
    assert (ada.violation.field, ada.violation.reason) == ("contacts[1].unsubscribed", "REFUSED_BY_CONTACT")
    assert "city" not in (await house.contact()).fields
    async with house.database.read(ORG) as tx:
        (answer,) = await consent.answers_of(tx, new.contact_id)
    assert (answer.channel, answer.purpose, answer.granted) == ("*", "*", False)


async def test_a_contact_that_a_workflow_makes_unsubscribed_has_refused(house: House) -> None:
    new = NewRecord(OTHER, "cnt_new", "contact", {"email": "new@example.com", "unsubscribed": True}, "workflow:x", "e")
    async with house.database.system() as tx:
        await created.create_many(tx, [new])
    async with house.database.read(OTHER) as tx:
        assert [row.granted for row in await consent.answers_of(tx, "cnt_new")] == [False]
        stored = await tx.all(select(events.c.event_name).where(events.c.event_type != "record"))
    assert [row.event_name for row in stored] == ["contact.unsubscribed"]
    assert (await house.answers(), await house.told()) == ({}, [])


async def test_one_organization_s_field_is_no_answer_in_another(house: House, clock: ManualClock) -> None:
    """Ids are the same in both here: a workflow's batch is of many organizations."""
    await _refused_themself(house, clock)
    updates = [RecordUpdate(org, "cnt_1", {"unsubscribed": True}, "workflow:x", "e") for org in (ORG, OTHER)]
    async with house.database.system() as tx:
        await records.apply_updates(tx, updates)
    clock.advance(LEASE)
    async with house.database.system() as tx:
        await records.apply_updates(tx, [RecordUpdate(OTHER, "cnt_1", {"unsubscribed": None}, "workflow:x", "e")])
    async with house.database.read(OTHER) as tx:
        assert [row.granted for row in await consent.answers_of(tx, "cnt_1")] == [True]
    assert (await house.answers())["*", "*"] == (False, "one_click")


async def test_a_mail_under_way_is_stopped_by_the_field(house: House) -> None:
    await house.written(message("msg_1"))
    async with house.database.system() as tx:
        held = await outgoing_due.claim(tx, limit=20, lease=LEASE, token="lse_2")
        await _step(tx, True)
        assert set(await outgoing_due.unwanted(tx, held)) == {"msg_1"}
