"""Exports are whole files, can be gone on with at any place, and an import of one gives the same records again."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from grpc.aio import AioRpcError

from core import provisioning
from core.commands import bundles
from core.rpc.records import exporting
from dripstone.v1 import record_pb2, record_type_pb2, transfer_pb2
from dripstone.v1.client import Client
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]


async def _upsert(client: Client, record_type: str, fields: dict[str, Any], **more: Any) -> str:
    request = record_pb2.UpsertRecordRequest(type=record_type, **more)
    request.fields.update(fields)
    return (await client.records.UpsertRecord(request)).record.id


async def _fill(client: Client) -> None:
    firm = await _upsert(client, "company", {"name": "Acme", "domain": "acme.io"})
    for number in range(7):
        contact = await _upsert(
            client,
            "contact",
            {
                "email": f"p{number}@acme.io",
                "first_name": "=1+1" if number else 'Zoë, "the\nfirst"',
                "phone": f"+49301234{number:03}",
                "company_id": firm,
                "custom": {"plan": "pro", "seats": number, "on": {"trial": True}},
            },
            external_ref=record_pb2.ExternalRef(system="hubspot", id=f"h{number}"),
        )
        await _upsert(client, "lead", {"contact_id": contact, "status": "new", "lead_ref": f"L{number}"})
    await _upsert(client, "note", {"contact_id": contact, "text": "Called."})


async def _fill_beside(client: Client) -> None:
    """Define a type, a field of contacts and a pipeline; put somebody on a list who refused one purpose."""
    records, field = client.records, record_type_pb2.FieldDefinition
    await records.DefineRecordType(record_type_pb2.DefineRecordTypeRequest(type="visit", display_name="Visit"))
    choice = field(name="how", kind=record_type_pb2.FIELD_KIND_CHOICE, choices=["walk", "ride"], required=True)
    await records.DefineField(record_type_pb2.DefineFieldRequest(type="visit", field=choice))
    seats = field(name="seats", kind=record_type_pb2.FIELD_KIND_INTEGER, minimum=0)
    await records.DefineField(record_type_pb2.DefineFieldRequest(type="contact", field=seats))
    stages = [record_type_pb2.PipelineStage(id="won", display_name="Won", probability=1, kind=2)]
    pipeline = record_type_pb2.Pipeline(id="sales", display_name="Sales", stages=stages)
    await records.PutPipeline(record_type_pb2.PutPipelineRequest(pipeline=pipeline))
    await _upsert(client, "visit", {"name": "First", "custom": {"how": "ride"}})
    someone = await _upsert(client, "contact", {"email": "p3@acme.io"})
    await records.ChangeListMembers(record_pb2.ChangeListMembersRequest(list="vip", add_contact_ids=[someone]))
    for purpose, granted in (("marketing", False), ("", True)):
        said = record_pb2.SetConsentRequest(contact_id=someone, channel="email", purpose=purpose, granted=granted)
        said.reason = "asked on the phone"
        await records.SetConsent(said)


async def _export(client: Client, **more: Any) -> tuple[bytes, list[transfer_pb2.ExportRecordsResponse]]:
    parts = [part async for part in client.records.ExportRecords(transfer_pb2.ExportRecordsRequest(**more))]
    return b"".join(part.content for part in parts), parts


def _same(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return a bundle with ids as places and without instants."""
    places = {
        record["id"]: f"{part}-{number}"
        for part, records in bundle.items()
        if isinstance(records, list) and part != "members"
        for number, record in enumerate(
            sorted(
                records, key=lambda one: json.dumps(one["fields"].get("email") or one["fields"].get("lead_ref") or "")
            )
        )
    }

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without(item) for name, item in value.items() if not name.endswith(("_time", "actor"))}
        if isinstance(value, list):
            return [without(item) for item in value]
        return places.get(value, value) if isinstance(value, str) else value

    return {
        part: sorted(without(records), key=lambda one: one["id"])
        for part, records in bundle.items()
        if isinstance(records, list) and part != "members"
    }


async def test_an_export_taken_in_elsewhere_gives_the_same_records(core: RunningCore) -> None:
    elsewhere = await provisioning.create_organization(core.core.database, "Other", "UTC")
    async with core.client() as client, core.client(elsewhere.api_key) as other:
        await _fill(client)
        await _fill_beside(client)
        content, _ = await _export(client)
        bundle = json.loads(content)
        assert await bundles.define(other, bundle) == {"types": 1, "fields": 2, "pipelines": 1}
        assert not await bundles.define(other, bundle)
        made = await other.records.CreateImport(
            transfer_pb2.CreateImportRequest(
                format=transfer_pb2.IMPORT_FORMAT_JSON,
                content=content,
                trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
                start=True,
            )
        )
        await core.settle()
        rows = await other.records.ListImportRows(transfer_pb2.ListImportRowsRequest(import_id=made.id, outcome="bad"))
        assert not rows.rows
        back, _ = await _export(other)
        assert await bundles.attach(other, bundle, made.id, bundles.PARTS) == {"memberships": 1, "consents": 2}
        back, _ = await _export(other)
        assert json.loads(back)["definitions"] == bundle["definitions"]
        assert _same(json.loads(back)) == _same(bundle)
        again = await other.records.CreateImport(
            transfer_pb2.CreateImportRequest(
                format=transfer_pb2.IMPORT_FORMAT_JSON,
                content=back,
                trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
            )
        )
        assert (again.created_count, again.updated_count, again.unchanged_count) == (0, 0, 17)


@pytest.mark.parametrize("form", ["json", "csv"])
async def test_an_export_gone_on_with_at_any_place_is_the_same_file(
    core: RunningCore, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "RECORDS_AT_ONCE", 3)
    given = {"format": getattr(transfer_pb2, f"EXPORT_FORMAT_{form.upper()}")}
    if form == "csv":
        given["types"] = ["contact"]
    async with core.client() as client, core.http() as http:
        await _fill(client)
        whole, parts = await _export(client, **given)
        for number in range(len(parts)):
            begun = b"".join(part.content for part in parts[: number + 1])
            rest, _ = await _export(client, **given, cursor=parts[number].cursor)
            assert begun + rest == whole
        answer = await http.get(f"/api/v1/crm/export?format={form}{'&types=contact' if form == 'csv' else ''}")
        assert answer.content == whole
        assert answer.headers["content-type"].startswith(parts[0].content_type.partition(";")[0])
        if form == "csv":
            rows = list(csv.DictReader(io.StringIO(whole.decode(), newline="")))
            found = {row["email"]: (row["first_name"], row["custom.seats"]) for row in rows}
            assert found["p0@acme.io"] == ('Zoë, "the\nfirst"', "0")
            assert found["p3@acme.io"] == ("'=1+1", "3")
            made = await client.records.CreateImport(
                transfer_pb2.CreateImportRequest(
                    format=transfer_pb2.IMPORT_FORMAT_CSV,
                    content=whole,
                    type="contact",
                    trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
                )
            )
            assert (made.bad_count, made.created_count) == (0, 0)


async def test_what_no_export_can_be_is_refused(core: RunningCore) -> None:
    async with core.client() as client:
        for given in ({"types": ["contcat"]}, {"format": transfer_pb2.EXPORT_FORMAT_CSV}, {"cursor": "nothing"}):
            with pytest.raises(AioRpcError) as refused:
                await _export(client, **given)
            assert refused.value.code().name == "INVALID_ARGUMENT"


async def test_history_goes_along_where_it_is_asked_for(core: RunningCore, tmp_path: Path) -> None:
    async with core.client() as client:
        await _fill(client)
        content, _ = await _export(client, include_changes=True, types=["company"])
        (firm,) = json.loads(content)["companies"]
        assert {change["field"] for change in firm["changes"]} == {"name", "domain"}
