"""Types, fields and pipelines of an organization's own, and how every write of a record heeds them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.errors import FieldContradicted, Invalid, NotFound, StageInUse, ValueTaken
from core.rpc.records import pipelines, record_types
from core.store.database import Database
from core.store.records import record_schema, records
from core.store.records.records import ContactCandidate, RecordUpdate
from dripstone.v1 import record_type_pb2 as types
from tests.rpc.qualifying_calls import ORG
from tests.rpc.record_calls import Records

pytestmark = pytest.mark.anyio


@pytest.fixture
def crm(database: Database, clock: ManualClock) -> Records:
    return Records(database, clock)


async def _types(crm: Records) -> dict[str, types.RecordType]:
    found: dict[str, types.RecordType] = {}
    token = ""
    while True:
        asked = types.ListRecordTypesRequest(page_size=3, page_token=token)
        page = await crm(record_types.list_record_types, asked)
        found |= {one.type: one for one in page.record_types}
        token = page.next_page_token
        if not token:
            return found


async def test_a_type_of_its_own_takes_what_was_defined_for_it(crm: Records) -> None:
    define = types.DefineRecordTypeRequest(type="subscription", display_name="Subscription")
    await crm(record_types.define_record_type, define)
    for taken in ("lead", "steps", "import"):  # as conditions of workflows could not name it
        with pytest.raises(Invalid):
            await crm(record_types.define_record_type, types.DefineRecordTypeRequest(type=taken, display_name="X"))
    await crm.field("subscription", "plan", "CHOICE", choices=["free", "pro"], required=True)
    await crm.field("subscription", "holder", "REFERENCE", reference_type="contact")
    contact = await crm.upsert("contact", email="ada@example.com", first_name="Ada")
    made = await crm.upsert("subscription", name="S-1", custom={"plan": "pro", "holder": contact.id})
    assert (made.id.partition("_")[0], made.title, made.type) == ("obj", "S-1", "subscription")
    with pytest.raises(Invalid) as refused:
        await crm.upsert("subscription", custom={"plan": "prp", "other": 1, "holder": "cnt_0"}, colour="red")
    assert [one.field for one in refused.value.violations] == [
        "fields.colour",
        "fields.custom.other",
        "fields.custom.plan",
    ]
    with pytest.raises(Invalid) as refused:
        await crm.upsert("subscription", name="S-2")
    assert [one.field for one in refused.value.violations] == ["fields.custom.plan"]
    with pytest.raises(Invalid, match="there is no cmp_1 of the type"):
        await crm.update(made.id, {"custom": {"holder": "cmp_1"}})
    there = await _types(crm)
    assert list(there)[-2:] == ["note", "subscription"]
    assert [one.name for one in there["subscription"].fields if one.custom] == ["plan", "holder"]
    assert await crm.listed("subscription", filter='custom.plan = "pro" AND name:"S-"') == ["S-1"]


async def test_a_definition_that_stored_values_contradict_is_refused_with_samples(crm: Records) -> None:
    odd = await crm.upsert("contact", email="odd@example.com", custom={"seats": "many"})
    await crm.upsert("contact", email="ok@example.com", custom={"seats": 3})
    with pytest.raises(FieldContradicted) as refused:
        await crm.field("contact", "seats", "INTEGER")
    assert f"1 contact records have values that do not fit the field custom.seats: {odd.id} has `many`" in str(
        refused.value
    )
    await crm.update(odd.id, {"custom.seats": None})
    await crm.field("contact", "seats", "INTEGER", minimum=1)
    with pytest.raises(Invalid, match="is less than 1"):
        await crm.update(odd.id, {"custom.seats": 0})
    assert await crm.listed("contact", filter="custom.seats >= 3") == ["ok@example.com"]
    archive = types.ArchiveFieldRequest(type="contact", name="seats")
    assert (await crm(record_types.archive_field, archive)).archived
    with pytest.raises(Invalid, match="is out of use"):
        await crm.update(odd.id, {"custom.seats": 4})


async def test_a_unique_value_is_one_records_alone_also_of_two_calls_at_once(crm: Records) -> None:
    await crm.field("company", "number", "STRING", unique=True)
    made = await asyncio.gather(
        *(crm.upsert("company", name=f"C{one}", custom={"number": "N-1"}) for one in range(3)), return_exceptions=True
    )
    taken = [one for one in made if isinstance(one, ValueTaken)]
    (winner,) = [one for one in made if not isinstance(one, BaseException)]
    assert len(taken) == 2
    assert all(winner.id in str(one) for one in taken)
    other = await crm.upsert("company", name="Other", custom={"number": "N-2"})
    with pytest.raises(ValueTaken):
        await crm.update(other.id, {"custom.number": "n-1"})
    await crm.update(winner.id, {"custom.number": "N-3"})
    await crm.update(other.id, {"custom.number": "N-1"})
    await crm.delete(other.id)
    await crm.update(winner.id, {"custom.number": "N-1"})
    with pytest.raises(ValueTaken):
        await crm.restore(other.id)
    await crm.upsert("company", name="Twice", custom={"code": "x"})
    await crm.upsert("company", name="Again", custom={"code": "X"})
    with pytest.raises(FieldContradicted, match="has as well"):
        await crm.field("company", "code", "STRING", unique=True)


async def test_what_events_and_workflows_bring_that_does_not_fit_is_left_out(crm: Records, database: Database) -> None:
    await crm.field("contact", "plan", "CHOICE", choices=["free", "pro"])
    await crm.field("contact", "code", "STRING", unique=True)
    ada = await crm.upsert("contact", email="ada@example.com", custom={"code": "A"})
    bob = await crm.upsert("contact", email="bob@example.com")
    async with database.system() as tx:
        fields: dict[str, Any] = {"custom.plan": "gold", "custom.code": "A", "city": "Rome"}
        await records.apply_updates(tx, [RecordUpdate(ORG, bob.id, fields, "workflow:w", "enrollment:e/1")])
    assert await crm.get(bob.id) == {"email": "bob@example.com", "city": "Rome"}
    async with database.write(ORG) as tx:
        candidate = ContactCandidate({"email": "eve@example.com", "custom.plan": "gold"}, observed=True)
        (eve,) = await records.resolve_contacts(tx, [candidate], actor="source:s", cause="event:e")
        told = ContactCandidate({"email": "ida@example.com", "custom.plan": "gold", "custom.code": "A"}, path="rows[1]")
        (ida,) = await records.resolve_contacts(tx, [told], actor="key_1", cause="call:1")
    assert eve.record is not None
    assert dict(eve.record.fields) == {"email": "eve@example.com"}
    assert [(one.field, one.reason) for one in ida.violations] == [("rows[1].custom.plan", "UNKNOWN_VALUE")]
    assert (await crm.get(ada.id))["custom"] == {"code": "A"}


async def test_a_schema_holds_in_another_process_at_once(crm: Records, database: Database) -> None:
    async with database.read(ORG) as tx:
        assert (await record_schema.of(tx)).version == 0
    await crm.field("contact", "plan", "STRING", description="What they pay for.")
    await crm.field("contact", "plan", "STRING", description="What they pay for.", max_characters=3)
    async with database.read(ORG) as tx:
        schema = await record_schema.of(tx)
        assert (schema.version, schema.of("contact").custom["plan"].max_characters) == (2, 3)
    async with database.read("org_other") as tx:
        assert (await record_schema.of(tx)).version == 0


async def test_an_opportunity_goes_through_its_pipeline(crm: Records, clock: ManualClock) -> None:
    await crm.pipeline("sales", new=0.1, offer=0.5, won=1, lost=0)
    clock.advance(timedelta(minutes=1))
    await crm.pipeline("renewals", due=0.9)
    made = await crm.upsert("opportunity", name="Forty seats", amount="1000.10 EUR")
    await crm.upsert("opportunity", name="Ten seats", amount="250 EUR", stage_id="offer")
    await crm.upsert("opportunity", name="Abroad", amount="10 USD", stage_id="offer")
    assert await crm.get(made.id) == {
        **{"name": "Forty seats", "amount": "1000.10 EUR", "pipeline_id": "sales", "stage_id": "new"},
        **{"probability": 0.1, "status": "open"},
    }
    await crm.update(made.id, {"stage_id": "won"})
    assert (await crm.get(made.id))["status"] == "won"
    await crm.update(made.id, {"pipeline_id": "renewals"})
    assert (await crm.get(made.id))["stage_id"] == "due"
    with pytest.raises(Invalid, match="no such stage"):
        await crm.update(made.id, {"stage_id": "won"})
    with pytest.raises(Invalid, match="follows the stage"):
        await crm.update(made.id, {"probability": 0.4})
    with pytest.raises(StageInUse, match="2 opportunities stand in the stage offer"):
        await crm.pipeline("sales", new=0.1)
    board = await crm(pipelines.get_pipeline_board, types.GetPipelineBoardRequest(pipeline_id="sales"))
    assert [(one.stage_id, one.count, list(one.amounts), list(one.weighted_amounts)) for one in board.columns] == [
        ("new", 0, [], []),
        ("offer", 2, ["250 EUR", "10 USD"], ["125 EUR", "5 USD"]),
        ("won", 0, [], []),
        ("lost", 0, [], []),
    ]
    assert await crm.listed("opportunity", filter="status = open", order_by="name") == [
        "Abroad",
        "Forty seats",
        "Ten seats",
    ]
    with pytest.raises(NotFound):
        await crm(pipelines.get_pipeline_board, types.GetPipelineBoardRequest(pipeline_id="nope"))
