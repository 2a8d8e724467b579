"""Records on both databases: one contact an e-mail, exact history, filters that mean the same everywhere."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, select

from core.clock import ManualClock
from core.domain import filters
from core.domain.errors import EmailTaken, EtagMismatch, Invalid, NotFound
from core.domain.filters import Expression
from core.domain.records.changes import Change
from core.store.database import Database
from core.store.filtering import JsonPath, to_sql
from core.store.metadata import Json, Name, org_id
from core.store.records import identifiers, records
from core.store.records.records import ContactCandidate, RecordUpdate, Resolved
from tests.domain.test_filters import FIELDS, expressions, holds

pytestmark = pytest.mark.anyio

WHO = {"actor": "key_1", "cause": "call:1"}


def candidate(email: str = "", *, path: str = "", **fields: Any) -> ContactCandidate:
    return ContactCandidate({"email": email, **fields} if email else fields, path=path)


async def resolve(database: Database, *candidates: ContactCandidate, org: str = "org_a") -> list[Resolved]:
    async with database.write(org) as tx:
        return await records.resolve_contacts(tx, candidates, **WHO)


async def history(database: Database, record_id: str) -> list[tuple[str, Any, Any, str]]:
    async with database.read("org_a") as tx:
        rows, _ = await records.changes_page(tx, record_id, 500, "")
    return [(row.field, row.old_value, row.new_value, row.actor) for row in rows]


async def test_an_upsert_creates_then_updates_and_tells_what_changed(database: Database) -> None:
    async with database.write("org_a") as tx:
        first = await records.upsert(tx, "contact", {"email": "Ada@Example.com", "city": "London"}, **WHO)
    async with database.write("org_a") as tx:
        second = await records.upsert(tx, "contact", {"email": "ada@example.com", "city": "Paris"}, **WHO)
    assert (first.created, second.created) == (True, False)
    assert second.record.id == first.record.id
    assert second.record.rev == 2
    assert [change for change in second.changes if change.field == "city"] == [Change("city", "London", "Paris")]
    async with database.read("org_a") as tx:
        assert await records.get(tx, first.record.id) == second.record
        assert await records.get_with_names(tx, first.record.id) == (second.record, [])
    assert await history(database, first.record.id) == [
        ("city", "London", "Paris", "key_1"),
        ("email", "Ada@Example.com", "ada@example.com", "key_1"),
        ("city", None, "London", "key_1"),
        ("email", None, "Ada@Example.com", "key_1"),
    ]


async def test_an_upsert_of_what_is_there_writes_nothing(database: Database) -> None:
    await resolve(database, candidate("ada@example.com", city="London"))
    (again,) = await resolve(database, candidate("ada@example.com", city="London"))
    assert again.record is not None
    assert (again.created, again.changes, again.record.rev) == (False, (), 1)


async def test_another_organization_has_its_own_contact(database: Database) -> None:
    (ours,) = await resolve(database, candidate("ada@example.com"))
    (theirs,) = await resolve(database, candidate("ada@example.com"), org="org_b")
    assert theirs.created
    async with database.read("org_b") as tx:
        assert await records.get(tx, ours.contact_id) is None
        assert await identifiers.owner(tx, "contact", ("email", "ada@example.com")) == theirs.contact_id


async def test_an_external_reference_is_matched_before_the_email(database: Database) -> None:
    reference = (("ext:crm", "42"),)
    async with database.write("org_a") as tx:
        first = await records.upsert(tx, "contact", {"email": "old@example.com"}, reference, **WHO)
        second = await records.upsert(tx, "contact", {"email": "new@example.com"}, reference, **WHO)
        assert second.record.id == first.record.id
        assert await identifiers.owner(tx, "contact", ("email", "old@example.com")) is None
        assert await identifiers.owner(tx, "contact", ("email", "new@example.com")) == first.record.id
        assert await identifiers.external_refs(tx, [first.record.id]) == {first.record.id: [("crm", "42")]}


async def test_a_taken_email_is_refused_and_names_its_owner(database: Database) -> None:
    ada, bob = await resolve(database, candidate("ada@example.com"), candidate("bob@example.com"))
    with pytest.raises(EmailTaken) as caught:
        async with database.write("org_a") as tx:
            await records.update(tx, bob.contact_id, {"email": "ADA@example.com"}, **WHO)
    assert caught.value.variables == {"owner": ada.contact_id}
    async with database.write("org_a") as tx:
        await records.upsert(tx, "contact", {"email": "crm@example.com"}, [("ext:crm", "1")], **WHO)
        with pytest.raises(EmailTaken):
            await records.upsert(tx, "contact", {"email": "ada@example.com"}, [("ext:crm", "1")], **WHO)


async def test_changing_an_email_moves_its_identifier(database: Database) -> None:
    (ada,) = await resolve(database, candidate("ada@example.com", phone="+44 20 7946 0000"))
    async with database.write("org_a") as tx:
        await records.update(tx, ada.contact_id, {"email": "ada@new.example", "phone": None}, **WHO)
        assert await identifiers.owner(tx, "contact", ("phone", "+442079460000")) is None
    (other,) = await resolve(database, candidate("ada@example.com"))
    (same,) = await resolve(database, candidate("ada@new.example"))
    assert other.created
    assert same.contact_id == ada.contact_id


async def test_an_update_for_another_version_is_refused(database: Database) -> None:
    (ada,) = await resolve(database, candidate("ada@example.com"))
    async with database.write("org_a") as tx:
        written = await records.update(tx, ada.contact_id, {"city": "Rome"}, expected_etag='"1"', **WHO)
    assert written.record.etag == '"2"'
    with pytest.raises(EtagMismatch):
        async with database.write("org_a") as tx:
            await records.update(tx, ada.contact_id, {"city": "Bonn"}, expected_etag='"1"', **WHO)
    with pytest.raises(NotFound):
        async with database.write("org_b") as tx:
            await records.update(tx, ada.contact_id, {"city": "Bonn"}, **WHO)


async def test_each_candidate_gets_its_own_answer(database: Database) -> None:
    ada, bob = await resolve(database, candidate("ada@example.com"), candidate("bob@example.com"))
    answers = await resolve(
        database,
        candidate("ada@example.com", city="Rome", path="contacts[0]"),
        candidate("new@example.com", path="contacts[1]"),
        candidate("NEW@example.com", first_name="New", path="contacts[2]"),
        candidate(city="Nowhere", path="contacts[3]"),
        ContactCandidate({}, contact_id="cnt_missing", path="contacts[4]"),
        ContactCandidate({"email": "bob@example.com"}, contact_id=ada.contact_id, path="contacts[5]"),
        ContactCandidate({"first_name": "Bob"}, (("ext:lead_ref", "L1"),), contact_id=bob.contact_id),
        ContactCandidate({}, (("ext:lead_ref", "L1"),)),
    )
    assert [answer.created for answer in answers] == [False, True, False, False, False, False, False, False]
    assert answers[0].contact_id == ada.contact_id
    assert answers[1].contact_id == answers[2].contact_id != ""
    assert [(a.violation.field, a.violation.reason) for a in answers if a.violation is not None] == [
        ("contacts[3].email", "NO_IDENTIFIER"),
        ("contacts[4].contact_id", "NOT_FOUND"),
        ("contacts[5].email", "EMAIL_TAKEN"),
    ]
    assert answers[6].contact_id == answers[7].contact_id == bob.contact_id
    async with database.read("org_a") as tx:
        found = await records.get_many(tx, [answer.contact_id for answer in answers])
    assert {record.fields.get("first_name") for record in found.values()} == {None, "New", "Bob"}


async def test_a_shared_phone_joins_an_anonymous_contact_but_never_two_known_ones(database: Database) -> None:
    (anonymous,) = await resolve(database, candidate(phone="+442079460000"))
    (ada,) = await resolve(database, candidate("ada@example.com", phone="+44 20 7946 0000"))
    (bob,) = await resolve(database, candidate("bob@example.com", phone="+44 20 7946 0000"))
    assert ada.contact_id == anonymous.contact_id
    assert bob.created


async def test_a_thousand_contacts_take_as_many_statements_as_one(database: Database) -> None:
    async def statements(count: int, start: int) -> int:
        async with database.write("org_a") as tx:
            session, seen = type(tx._session), 0
            originals = {name: getattr(session, name) for name in ("rows", "count", "count_many", "driver")}

            def counted(name: str) -> Any:
                async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
                    nonlocal seen
                    seen += 1
                    return await originals[name](self, *args, **kwargs)

                return call

            with pytest.MonkeyPatch.context() as patch:
                for name in originals:
                    patch.setattr(session, name, counted(name))
                people = [candidate(f"p{n}@example.com", first_name="P") for n in range(start, start + count)]
                answers = await records.resolve_contacts(tx, people, **WHO)
            assert all(answer.created for answer in answers)
        return seen

    await statements(1, 0)  # which may learn the organization's fields anew
    assert await statements(1000, 10) == await statements(1, 1)


async def test_concurrent_upserts_of_one_email_make_one_contact(database: Database) -> None:
    async def one(number: int) -> Resolved:
        person = ContactCandidate(
            {"email": "ada@example.com", f"custom.n{number}": number}, (("ext:crm", f"{number}"),)
        )
        return (await resolve(database, person))[0]

    answers = await asyncio.gather(*(one(number) for number in range(8)))
    assert len({answer.contact_id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    async with database.read("org_a") as tx:
        record = await records.get(tx, answers[0].contact_id)
        assert record is not None
        assert record.fields["custom"] == {f"n{number}": number for number in range(8)}
        references = (await identifiers.external_refs(tx, [record.id]))[record.id]
        assert len(references) == 8
        assert await records.get_with_names(tx, record.id) == (record, references)
    async with database.read("org_b") as tx:
        assert await records.get_with_names(tx, record.id) is None


async def test_the_engine_updates_records_of_many_organizations_at_once(database: Database) -> None:
    (ada,) = await resolve(database, candidate("ada@example.com"))
    (eve,) = await resolve(database, candidate("eve@example.com"), org="org_b")
    await resolve(database, candidate("taken@example.com"))
    async with database.system() as tx:
        await records.apply_updates(
            tx,
            [
                RecordUpdate("org_a", ada.contact_id, {"lifecycle_stage": "mql", "custom.plan": "pro"}, "w1", "e1"),
                RecordUpdate("org_a", ada.contact_id, {"lifecycle_stage": "sql"}, "w2", "e2"),
                RecordUpdate("org_a", ada.contact_id, {"email": "taken@example.com"}, "w2", "e2"),
                RecordUpdate("org_b", eve.contact_id, {"email": "eve@new.example"}, "w1", "e3"),
                RecordUpdate("org_b", ada.contact_id, {"city": "Rome"}, "w1", "e4"),
            ],
        )
    async with database.read("org_a") as tx:
        record = await records.get(tx, ada.contact_id)
    assert record is not None
    assert (record.fields, record.rev) == (
        {"email": "ada@example.com", "lifecycle_stage": "sql", "custom": {"plan": "pro"}},
        2,
    )
    assert (await history(database, ada.contact_id))[:3] == [
        ("lifecycle_stage", "mql", "sql", "w2"),
        ("custom.plan", None, "pro", "w1"),
        ("lifecycle_stage", None, "mql", "w1"),
    ]
    async with database.read("org_b") as tx:
        assert await identifiers.owner(tx, "contact", ("email", "eve@new.example")) == eve.contact_id


async def test_the_newest_lead_of_a_contact_is_found(database: Database, clock: ManualClock) -> None:
    (ada,) = await resolve(database, candidate("ada@example.com"))
    for status in ("closed", "new"):
        clock.advance(timedelta(seconds=1))
        async with database.write("org_a") as tx:
            fields = {"contact_id": ada.contact_id, "status": status}
            lead = await records.upsert(tx, "lead", fields, **WHO)
    async with database.read("org_a") as tx:
        assert await records.newest_leads(tx, [ada.contact_id, "cnt_x"]) == {ada.contact_id: lead.record}
    async with database.system() as tx:
        assert await records.newest_leads(tx, [ada.contact_id], "org_b") == {}
    with pytest.raises(Invalid):
        async with database.write("org_a") as tx:
            await records.upsert(tx, "lead", {"status": "new"}, **WHO)


async def test_a_record_is_seen_as_it_was(database: Database, clock: ManualClock) -> None:
    (ada,) = await resolve(database, candidate("ada@example.com", city="London"))
    seen_at = [clock.now()]
    for city in ("Paris", "Rome"):
        clock.advance(timedelta(minutes=1))
        async with database.write("org_a") as tx:
            await records.update(tx, ada.contact_id, {"city": city, "custom.moved": True}, **WHO)
        seen_at.append(clock.now())
    async with database.read("org_a") as tx:
        record = await records.get(tx, ada.contact_id)
        assert record is not None
        cities = [(await records.as_of(tx, record, at)).fields["city"] for at in seen_at]
        before = await records.as_of(tx, record, seen_at[0] - timedelta(seconds=1))
    assert cities == ["London", "Paris", "Rome"]
    assert before.fields == {}


async def test_records_are_listed_newest_first_by_filter_and_in_pages(database: Database, clock: ManualClock) -> None:
    for number in range(5):
        clock.advance(timedelta(seconds=1))
        await resolve(
            database, candidate(f"p{number}@example.com", employees=number, **{"custom.odd": number % 2 == 1})
        )
    where = filters.parse("employees >= 1 AND custom.odd = true", {"employees": "integer", "custom.*": "any"})
    seen: list[int] = []
    token = ""
    async with database.read("org_a") as tx:
        while True:
            found, token = await records.page(tx, "contact", 1, token, filter_text="f", where=where)
            seen += [record.fields["employees"] for record in found]
            if not token:
                break
    assert seen == [3, 1]


rows_to_filter = Table(
    "rows_to_filter", MetaData(), org_id(), Column("id", Name, primary_key=True), Column("fields", Json)
)

_CUSTOM = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "A", "ab", "3", "é%"])
_ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "tier": st.text(st.sampled_from("Aab%_'\"\\é 0"), max_size=4),
            "score": st.integers(-3, 3),
            "revenue": st.sampled_from([0.5, -1.5, 2.0**40, 1, 0]),
            "unsubscribed": st.booleans(),
            "custom.x": _CUSTOM.filter(lambda value: value is not None)
            | st.lists(_CUSTOM.filter(lambda value: value is not None), max_size=3),
            "custom.a.b": st.integers(0, 1),
        },
    ),
    min_size=1,
    max_size=5,
)


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for path, value in row.items():
        inner = fields
        *above, name = path.split(".")
        for step in above:
            inner = inner.setdefault(step, {})
        inner[name] = value
    return fields


def test_a_filter_means_in_sql_what_it_means_in_python(database_url: str, clock: ManualClock) -> None:
    with asyncio.Runner() as runner:
        database = runner.run(Database.open(database_url, clock))

        async def create() -> None:
            async with database.workers.engine.begin() as connection:
                await connection.run_sync(rows_to_filter.create)

        async def chosen(rows: list[dict[str, Any]], expression: Expression) -> list[int]:
            columns: dict[str, Any] = {name: JsonPath(rows_to_filter.c.fields, (name,)) for name in FIELDS}
            columns["custom.*"] = JsonPath(rows_to_filter.c.fields, ("custom",))
            async with database.system() as tx:
                await tx.run(rows_to_filter.delete())
                stored = [{"org_id": "o", "id": str(n), "fields": _nested(row)} for n, row in enumerate(rows)]
                await tx.insert(rows_to_filter, stored)
                found = select(rows_to_filter.c.id).where(to_sql(expression, columns, tx.dialect))
                return sorted(int(row.id) for row in await tx.all(found))

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(rows=_ROWS, expression=expressions)
        def check(rows: list[dict[str, Any]], expression: Expression) -> None:
            wanted = [number for number, row in enumerate(rows) if holds(expression, row)]
            assert runner.run(chosen(rows, expression)) == wanted

        runner.run(create())
        try:
            check()
        finally:
            runner.run(database.close())


async def test_who_waited_for_a_record_stands_after_who_was_first(database: Database, clock: ManualClock) -> None:
    async with database.write("org_a") as tx:
        made = (await records.upsert(tx, "contact", {"email": "ada@example.com", "city": "Rome"}, **WHO)).record
    for seconds, city in ((5, "Oslo"), (-1, "Bari")):  # the one who waited began earlier
        clock.advance(timedelta(seconds=seconds))
        async with database.write("org_a") as tx:
            await records.update(tx, made.id, {"city": city}, **WHO)
    assert [new for _, _, new, _ in await history(database, made.id)][:2] == ["Bari", "Oslo"]
