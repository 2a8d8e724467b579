"""Merges on both databases: what the kept record gains, what stays, and that undoing puts everything back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Row, select, update

from core.domain.errors import (
    DripstoneError,
    Invalid,
    NotFound,
    RecordMerged,
    TooManyIdentifiers,
    TooMuchToMerge,
    WrongState,
)
from core.domain.records.identity import MOST_IDENTIFIERS
from core.store.database import Database
from core.store.events import events
from core.store.merging import merging, unmerging
from core.store.messages.consent import consents
from core.store.records import identifiers, lists, record_rows, records
from core.store.records.lists import ListChange, list_members
from core.store.records.record_rows import Record, Written
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments, trace_entries
from tests.announcements import announced, listen
from tests.store.people import Life, live, standing

pytestmark = pytest.mark.anyio

ORG = "org_a"
WHO = {"actor": "key_1", "cause": "call:1"}

ADA = Life(
    {"email": "ada@example.com", "city": "London", "custom.plan": "pro"},
    [("person_id", "P1")],
    frozenset({"vip"}),
    [("nurture", "", "active", "event"), ("trial", "", "completed", "timer")],
    {("email", "marketing"): True},
)
ADA_TOO = Life(
    {"phone": "+44 20 7946 0000", "city": "Paris", "first_name": "Ada", "unsubscribed": True, "custom.seats": 3},
    [("ext:crm", "7"), ("event_id", "E7")],
    frozenset({"vip", "beta"}),
    [
        ("nurture", "", "active", "timer"),
        ("trial", "", "completed", "timer"),
        ("care", "", "active", "event"),
        ("care", "order-7", "active", "order"),
    ],
    {("email", "marketing"): False, ("sms", "*"): False, ("email", "news"): True},
    leads=2,
    events=3,
    messages=2,
)


async def two(database: Database, one: Life = ADA, other: Life = ADA_TOO, org: str = ORG) -> tuple[str, str]:
    async with database.write(org) as tx:
        return await live(tx, one, 1), await live(tx, other, 2)


async def _upsert(tx: Transaction, record_type: str, fields: dict[str, str]) -> Written:
    return await records.upsert(tx, record_type, fields, actor="key_1", cause="call:1")


async def merge_of(database: Database, kept: str, merged: str, org: str = ORG) -> Row[Any]:
    async with database.write(org) as tx:
        return await merging.merge(tx, kept, merged, **WHO)


async def undo_of(database: Database, merge_id: str, org: str = ORG) -> Row[Any]:
    async with database.write(org) as tx:
        return await unmerging.undo(tx, merge_id, actor="key_2")


async def _get(database: Database, record_id: str) -> Record | None:
    async with database.read(ORG) as tx:
        return await records.get(tx, record_id)


async def _rows(database: Database, statement: Any) -> Sequence[Row[Any]]:
    async with database.read(ORG) as tx:
        return await tx.all(statement)


async def _names(database: Database, contact: str) -> set[tuple[str, str]]:
    async with database.read(ORG) as tx:
        return (await identifiers.of_records(tx, [contact]))[contact]


async def test_the_kept_record_gains_what_it_lacks_and_keeps_the_rest(database: Database) -> None:
    kept, merged = await two(database)
    row = await merge_of(database, kept, merged)
    record = await _get(database, kept)
    assert record is not None
    assert record.fields == {
        "email": "ada@example.com",
        "phone": "+44 20 7946 0000",
        "city": "London",
        "first_name": "Ada",
        "unsubscribed": True,
        "custom": {"plan": "pro", "seats": 3},
    }
    assert (row.kept_id, row.merged_id, row.actor, row.cause) == (kept, merged, "key_1", "call:1")
    assert row.filled_fields == ["custom.seats", "first_name", "phone", "unsubscribed"]
    assert row.differing_fields == ["city"]
    assert row.moved_counts == {
        "identifiers": 3,
        "leads": 2,
        "lists": 1,
        "enrollments": 2,
        "events": 4,  # contact.unsubscribed among them
        "messages": 2,
        "suppressions": 1,
        "consents": 4,
    }
    assert await _get(database, merged) is None
    assert {kind for kind, _ in await _names(database, kept)} == {"email", "phone", "person_id", "ext:crm", "event_id"}


async def test_leads_lists_events_and_messages_follow(database: Database) -> None:
    kept, merged = await two(database)
    await merge_of(database, kept, merged)
    async with database.read(ORG) as tx:
        assert [lead.fields["contact_id"] for lead in await records.leads_of(tx, [kept])] == [kept, kept]
        assert await lists.of_contacts(tx, [(ORG, kept)]) == {(ORG, kept): {"vip", "beta"}}
        assert await lists.names(tx) == {"beta": 1, "vip": 1}
        assert {row.contact_id for row in await tx.all(select(events.events))} == {kept}


async def test_enrollments_move_where_the_kept_contact_never_was_and_end_where_it_is(database: Database) -> None:
    kept, merged = await two(database)
    row = await merge_of(database, kept, merged)
    c = enrollments.c
    found = await _rows(database, select(enrollments).order_by(c.workflow_id, c.key, c.contact_id != kept))
    assert [(one.workflow_id, one.key, one.contact_id == kept, one.state, one.wait_key) for one in found] == [
        ("care", "", True, "active", kept),
        ("care", "order-7", True, "active", "order_id=7"),
        ("nurture", "", True, "active", kept),
        ("nurture", "", False, "cancelled", None),
        ("trial", "", True, "completed", None),
        ("trial", "", False, "completed", None),
    ]
    ended = found[3]
    assert (ended.end_reason, ended.due_at) == (f"Merged into {kept}, which is in this workflow already.", None)
    told = {entry.enrollment_id: entry.reason for entry in await _rows(database, select(trace_entries))}
    assert told[found[0].id] == f"{merged} was merged into {kept} ({row.id}); this goes on as {kept}'s."
    assert told[ended.id] == ended.end_reason


async def test_the_stricter_answer_about_messages_holds(database: Database) -> None:
    kept, merged = await two(database)
    await merge_of(database, kept, merged)
    found = await _rows(database, select(consents).where(consents.c.contact_id == kept))
    assert {(one.channel, one.purpose): one.granted for one in found} == {
        ("email", "marketing"): False,
        ("email", "news"): True,
        ("sms", "*"): False,
        ("*", "*"): False,  # by the field
    }


async def test_a_grant_does_not_pass_over_a_refusal_of_the_kept_contact(database: Database) -> None:
    one, other = Life(consents={("*", "*"): False}), Life(consents={("email", "news"): True})
    kept, merged = await two(database, one, other)
    await merge_of(database, kept, merged)
    found = await _rows(database, select(consents).where(consents.c.contact_id == kept))
    assert [(row.channel, row.granted) for row in found] == [("*", False)]


async def test_the_history_names_the_merge_and_versions_go_on(database: Database) -> None:
    kept, merged = await two(database)
    row = await merge_of(database, kept, merged)
    record = await _get(database, kept)
    assert record is not None
    assert record.rev == 2
    async with database.read(ORG) as tx:
        changes, _ = await records.changes_page(tx, kept, 10, "")
        gone, _ = await records.changes_page(tx, merged, 1, "")
    by_merge = {one.field for one in changes if one.cause == f"merge:{row.id}" and one.actor == "key_1"}
    assert by_merge == {"phone", "first_name", "unsubscribed", "custom.seats"}
    assert [(one.field, one.old_value, one.new_value) for one in gone] == [("merged_into", None, kept)]


async def test_a_merged_id_names_the_kept_one_through_any_number_of_merges(database: Database) -> None:
    first, second = await two(database)
    async with database.write(ORG) as tx:
        third = await live(tx, Life({"email": "third@example.com"}))
    await merge_of(database, second, first)
    await merge_of(database, third, second)
    async with database.write(ORG) as tx:
        with pytest.raises(RecordMerged, match=rf"{first} is part of {third} now"):
            await records.update(tx, first, {"city": "Rome"}, **WHO)
        (refused,) = await records.resolve_contacts(tx, [records.ContactCandidate({}, contact_id=first)], **WHO)
    assert refused.violation is not None
    assert (refused.violation.reason, third in refused.violation.message) == ("MERGED", True)


async def test_either_e_mail_finds_the_kept_contact_and_its_own_stays(database: Database) -> None:
    one, other = Life({"email": "ada@example.com"}), Life({"email": "ada@work.example"})
    kept, merged = await two(database, one, other)
    await merge_of(database, kept, merged)
    for observed in (True, False):
        candidate = records.ContactCandidate({"email": "ada@work.example", "city": "Rome"}, observed=observed)
        async with database.write(ORG) as tx:
            (found,) = await records.resolve_contacts(tx, [candidate], **WHO)
        assert (found.contact_id, found.conflicts) == (kept, ())
        assert found.record is not None
        assert found.record.fields == {"email": "ada@example.com", "city": "Rome"}
    async with database.write(ORG) as tx:  # who means it can make it the main one
        written = await records.update(tx, kept, {"email": "ada@work.example"}, **WHO)
    assert written.record.fields["email"] == "ada@work.example"


async def _company_of(database: Database, contact: str) -> str:
    c = record_rows.records.c
    (row,) = await _rows(database, select(c.company_id).where(c.id == contact))
    return str(row.company_id)


async def test_companies_merge_with_their_contacts_and_leads_alone(database: Database) -> None:
    async with database.write(ORG) as tx:
        acme, acme_too = [
            (await _upsert(tx, "company", {"name": name, **more})).record.id
            for name, more in (("Acme", {}), ("Acme Ltd", {"domain": "acme.example"}))
        ]
        ada = (await _upsert(tx, "contact", {"email": "ada@acme.example", "company_id": acme_too})).record
        found = [
            (await _upsert(tx, "lead", {"contact_id": ada.id, "status": status})).record.id
            for status in ("new", "working")
        ]
    row = await merge_of(database, acme, acme_too)
    assert (row.filled_fields, row.differing_fields, row.moved_counts) == (["domain"], ["name"], {"contacts": 1})
    copied = (
        await _rows(database, select(record_rows.records.c.company_id).where(record_rows.records.c.id == ada.id))
    )[0]
    assert copied.company_id == acme
    assert (await merge_of(database, found[0], found[1])).differing_fields == ["status"]
    await undo_of(database, row.id)
    copied = (
        await _rows(database, select(record_rows.records.c.company_id).where(record_rows.records.c.id == ada.id))
    )[0]
    assert copied.company_id == acme_too


async def test_workflows_are_told_nothing_and_endpoints_are(database: Database) -> None:
    await listen(database, ORG)
    kept, merged = await two(database)
    before = await _rows(database, select(events.events.c.id))
    told = len(await announced(database, ORG))
    row = await merge_of(database, kept, merged)
    await undo_of(database, row.id)
    assert await _rows(database, select(events.events.c.id)) == before
    new = [one for one in (await announced(database, ORG))[told:] if one["type"] == "record.updated"]
    assert {one["data"]["cause"] for one in new} == {f"merge:{row.id}"}


async def test_what_cannot_be_merged_is_refused(database: Database) -> None:
    kept, merged = await two(database)
    async with database.write(ORG) as tx:
        company = (await _upsert(tx, "company", {"name": "Acme"})).record.id
    cases: list[tuple[str, str, type[DripstoneError], str]] = [
        (kept, kept, Invalid, "is the record that stays"),
        (kept, company, Invalid, "is a company, and"),
        (kept, "cnt_nobody", NotFound, "cnt_nobody"),
    ]
    for one, other, error, words in cases:
        with pytest.raises(error, match=words):
            await merge_of(database, one, other)
    row = await merge_of(database, kept, merged)
    with pytest.raises(RecordMerged):
        await merge_of(database, merged, kept)
    await undo_of(database, row.id)
    with pytest.raises(WrongState):
        await undo_of(database, row.id)
    with pytest.raises(NotFound):
        await undo_of(database, "mrg_none")


async def test_a_merge_below_another_one_waits_for_it(database: Database) -> None:
    first, second = await two(database)
    async with database.write(ORG) as tx:
        third = await live(tx, Life({"email": "third@example.com"}))
    inner = await merge_of(database, second, first)
    outer = await merge_of(database, third, second)
    with pytest.raises(RecordMerged, match=f"is part of {third}"):
        await undo_of(database, inner.id)
    await undo_of(database, outer.id)
    assert (await undo_of(database, inner.id)).conflicts == []


async def test_nobody_gets_more_identifiers_than_there_may_be(database: Database) -> None:
    many = [("ext:crm", str(number)) for number in range(MOST_IDENTIFIERS)]
    kept, merged = await two(database, Life(identifiers=many[:60]), Life(identifiers=many[60:]))
    async with database.write(ORG) as tx:
        more = [("ext:shop", str(number)) for number in range(60)]
        full = await records.resolve_contacts(tx, [records.ContactCandidate({}, tuple(more), contact_id=kept)], **WHO)
    assert full[0].violation is not None
    assert full[0].violation.reason == "TOO_MANY_IDENTIFIERS"
    await merge_of(database, kept, merged)
    seen = records.ContactCandidate({}, (many[0], ("event_id", "E1")), observed=True)
    async with database.write(ORG) as tx:
        (found,) = await records.resolve_contacts(tx, [seen], **WHO)
        another = await live(tx, Life())
    assert (found.contact_id, found.unclaimed) == (kept, (("event_id", "E1"),))
    assert len(await _names(database, kept)) == MOST_IDENTIFIERS
    with pytest.raises(TooManyIdentifiers, match="would have 101"):
        await merge_of(database, kept, another)


async def test_no_more_follows_than_one_transaction_should_take(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, merged = await two(database)
    monkeypatch.setattr(merging, "MOST_FOLLOWING", 8)
    with pytest.raises(TooMuchToMerge) as caught:
        await merge_of(database, kept, merged)
    assert caught.value.message.startswith(f"More than 8 events, messages and other rows belong to {merged};")
    row = await merge_of(database, merged, kept)
    assert sum(row.moved_counts.values()) <= 8


async def test_undoing_puts_everything_back(database: Database) -> None:
    kept, merged = await two(database)
    before = await standing(database, ORG)
    row = await merge_of(database, kept, merged)
    assert await standing(database, ORG) != before
    undone = await undo_of(database, row.id)
    assert (undone.conflicts, undone.undone_by, undone.undone_at is None) == ([], "key_2", False)
    assert await standing(database, ORG) == before


async def test_what_has_changed_since_stays_and_is_told(database: Database) -> None:
    kept, merged = await two(database)
    row = await merge_of(database, kept, merged)
    async with database.write(ORG) as tx:
        await records.update(tx, kept, {"phone": "+44 20 7946 0001", "first_name": "Augusta"}, **WHO)
        await lists.change(tx, [ListChange(ORG, "beta", kept, False, "key_1")])
        c = enrollments.c
        care = await tx.first(select(c.id).where(c.workflow_id == "care", c.key == "order-7"))
        assert care is not None
        await tx.run(update(enrollments).where(c.id == care.id).values(contact_id="cnt_other"))
    undone = await undo_of(database, row.id)
    told = "has changed or gone since the merge: it stays as it is and does not go back to"
    assert undone.conflicts == [
        f"Enrollment {care.id} {told} {merged}.",
        f"The phone `+442079460000` {told} {merged}.",
        f"The place on the list beta {told} {merged}.",
        f"first_name of {kept} was changed since the merge to `Augusta`: it stays so.",
        f"phone of {kept} was changed since the merge to `+44 20 7946 0001`: it stays so.",
    ]
    record, back = await _get(database, kept), await _get(database, merged)
    assert record is not None
    assert back is not None
    assert (record.fields["first_name"], "unsubscribed" in record.fields) == ("Augusta", False)
    assert back.fields["phone"] == "+44 20 7946 0000"
    assert ("phone", "+442079460000") in await _names(database, merged)
    members = await _rows(database, select(list_members.c.list_name).where(list_members.c.contact_id == merged))
    assert [one.list_name for one in members] == ["vip"]
