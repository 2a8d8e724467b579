"""Records are found by words and by filters, in any order, the same on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.errors import Invalid
from core.domain.records.values import instant_text
from core.rpc.records import finding
from core.store.database import Database
from dripstone.v1 import record_pb2
from tests.rpc.qualifying_calls import ORG
from tests.rpc.record_calls import Records

pytestmark = pytest.mark.anyio


@pytest.fixture
def crm(database: Database, clock: ManualClock) -> Records:
    return Records(database, clock)


async def test_records_are_found_by_their_words_best_first(crm: Records, clock: ManualClock) -> None:
    ada = await crm.upsert("contact", email="ada@engine.example", first_name="Ada", last_name="Kéng")
    clock.advance(timedelta(seconds=1))
    await crm.upsert("company", name="Adamas Ltd", domain="adamas.example", phone="+44 20 7946 0000")
    await crm.upsert("note", text="Ada asked for the engine twice", contact_id=ada.id)
    assert await crm.find("ada") == ["Ada Kéng", "Adamas Ltd", "Ada asked for the engine twice"]
    assert await crm.find("ada", "company") == ["Adamas Ltd"]
    assert await crm.find("ada keng") == ["Ada Kéng"]
    assert await crm.find("ada@engine") == ["Ada Kéng"]
    assert await crm.find("020 7946 0000") == ["Adamas Ltd"]
    assert await crm.find("engine ada ") == ["Ada Kéng", "Ada asked for the engine twice"]
    assert await crm.find("nobody") == []
    await crm.update(ada.id, {"last_name": "Lovelace"})
    assert (await crm.find("lovelace"), await crm.find("keng")) == (["Ada Lovelace"], [])
    await crm.delete(ada.id)
    assert await crm.find("lovelace") == []
    with pytest.raises(Invalid, match="no letters"):
        await crm.find("...")
    with pytest.raises(Invalid, match="is no type"):
        await crm.find("ada", "contcat")


async def test_another_organizations_words_find_nothing(crm: Records) -> None:
    await crm.upsert("contact", email="ada@engine.example")
    answer = await crm(finding.find_records, record_pb2.FindRecordsRequest(query="ada"), org="org_other")
    assert not answer.results


async def test_lists_have_an_order_that_pages_keep(crm: Records, clock: ManualClock) -> None:
    for number, employees in enumerate((30, None, 7, 30, 100)):
        clock.advance(timedelta(seconds=1))
        await crm.upsert("company", name=f"C{number}", employees=employees, country="DE" if number % 2 else "at")
    assert await crm.listed("company", page_size=2) == ["C4", "C3", "C2", "C1", "C0"]
    assert await crm.listed("company", page_size=2, order_by="employees desc") == ["C4", "C0", "C3", "C2", "C1"]
    assert await crm.listed("company", page_size=1, order_by="employees") == ["C2", "C0", "C3", "C4", "C1"]
    assert await crm.listed("company", page_size=2, order_by="country desc") == ["C0", "C2", "C4", "C1", "C3"]
    assert await crm.listed("company", page_size=2, order_by="create_time") == ["C0", "C1", "C2", "C3", "C4"]
    with pytest.raises(Invalid, match="orders nothing"):
        await crm.listed("company", order_by="emplyees")
    with pytest.raises(Invalid, match="sideways"):
        await crm.listed("company", order_by="employees sideways")


async def test_what_changed_since_an_instant_is_found(crm: Records, clock: ManualClock) -> None:
    first = await crm.upsert("company", name="First")
    await crm.upsert("company", name="Second")
    clock.advance(timedelta(hours=1))
    since = instant_text(clock.now())
    await crm.update(first.id, {"city": "Rome"})
    assert await crm.listed("company", filter=f'update_time >= "{since}"') == ["First"]
    await crm.delete(first.id)
    assert sorted(await crm.listed("company", show_deleted=True)) == ["First", "Second"]


async def test_frequent_filters_use_an_index_under_row_level_security(
    postgresql_database: Database, clock: ManualClock
) -> None:
    crm = Records(postgresql_database, clock)
    await crm.upsert("company", name="First")
    async with postgresql_database.workers.engine.begin() as connection:
        row = "'org_' || n % 50, 'lead_' || n, 'lead', '{}'::jsonb, 1, 0, 0, 'T' || n, 'S' || n, 'mem_' || n"
        await connection.exec_driver_sql(
            "INSERT INTO records (org_id, id, type, fields, rev, created_at, updated_at, tier, status, owner_id) "
            f"SELECT {row} FROM generate_series(1, 20000) n"
        )
        await connection.exec_driver_sql("ANALYZE records")
    async with postgresql_database.read(ORG) as tx:
        for column in ("tier", "status", "owner_id"):
            sql = f"EXPLAIN SELECT * FROM records WHERE org_id = 'org_7' AND type = 'lead' AND {column} = 'T57'"
            plan = "\n".join(str(one[0]) for one in await tx.fetch(sql))
            assert f"records_{column.removesuffix('_id')}" in plan, plan
