"""Erasing a person: nothing of theirs is left in any table, and nothing brings them back."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from grpc.aio import AioRpcError
from sqlalchemy import LargeBinary, select

from core.store.erasing import erasing_search
from core.store.metadata import dump_json, metadata
from dripstone.v1 import (
    agent_pb2,
    approval_pb2,
    enrollment_pb2,
    event_pb2,
    qualification_pb2,
    record_pb2,
    transfer_pb2,
    webhook_pb2,
)
from dripstone.v1.client import Client
from tests.receiver import Receiver
from tests.running import RunningCore
from tests.story import tell

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

EMAIL, PHONE, NAME = "vera@example.com", "+49 170 1234567", ("Wilhelmina", "Oberhuber")
FORMS = re.compile(
    r"(?<![a-z0-9.-])(vera@example\.com|\+491701234567|\+49 170 1234567)|wilhelmina|oberhuber", re.IGNORECASE
)


async def _upsert(client: Client, record_type: str, fields: dict[str, Any], key: str = "") -> record_pb2.Record:
    request = record_pb2.UpsertRecordRequest(type=record_type, request_id=key)
    request.fields.update(fields)
    return (await client.records.UpsertRecord(request)).record


async def _mentions(core: RunningCore) -> set[str]:
    """Return where the person still stands, as `table.column`."""
    found = set()
    async with core.core.database.system() as tx:
        for table in metadata.sorted_tables:
            if table.name == "record_words":  # words are parts: `h-vera@example.com` has hers in it
                continue
            for row in await tx.all(select(table)):
                for column in table.columns:
                    value = row._mapping[column]
                    text = (
                        bytes(value).decode("latin-1")
                        if isinstance(column.type, LargeBinary) and value is not None
                        else value
                        if isinstance(value, str)
                        else dump_json(value)
                    )
                    if FORMS.search(text):
                        found.add(f"{table.name}.{column.name}: {text[:300]}")
    return found


async def test_nothing_of_an_erased_person_is_left_in_any_table(core: RunningCore, receiver: Receiver) -> None:
    await tell(core, receiver.url, "vera")
    async with core.client() as client, core.http() as http:
        person = await _upsert(
            client,
            "contact",
            {
                "email": EMAIL,
                "phone": PHONE,
                "first_name": NAME[0],
                "last_name": NAME[1],
                "custom": {"shoe": "Oberhuber"},
            },
            "key-1",
        )
        await _upsert(client, "note", {"contact_id": person.id, "text": f"{NAME[0]} called from {PHONE}"})
        other = await _upsert(client, "contact", {"email": "bvera@example.com", "job_title": f"Boss of {EMAIL}"})
        firm = await _upsert(client, "company", {"name": "Acme", "source": " ".join(NAME)})
        await http.post("/v2/event", json={"event_type": "lead", "fields": {"email": EMAIL}, "source_id": "nobody"})
        content = f"email,first_name\n{EMAIL},{NAME[0]}\nq@example.com,Q\n".encode()
        request = transfer_pb2.CreateImportRequest(
            format=transfer_pb2.IMPORT_FORMAT_CSV,
            content=content,
            type="contact",
            trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_ALL,
            start=True,
        )
        await client.records.CreateImport(request)
        await core.settle()
        assert await _mentions(core)
        erased = await client.records.EraseContact(
            record_pb2.EraseContactRequest(record_id=person.id, reason="Their request of today", request_id="key-2")
        )
        assert erased.complete
        assert erased.record_count >= 2
        assert await _mentions(core) == set()
        await core.settle()
        await core.pass_time(timedelta(minutes=2))
        assert await _mentions(core) == set()

        with pytest.raises(AioRpcError):
            await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=person.id))
        kept = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=other.id))
        assert kept.fields["email"] == "bvera@example.com"
        assert kept.fields["job_title"] == "Boss of [erased]"
        firm = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=firm.id))
        assert firm.fields["source"] == "[erased]"
        enrollments = await client.enrollments.ListEnrollments(
            enrollment_pb2.ListEnrollmentsRequest(filter=f'contact_id="{person.id}"')
        )
        assert enrollments.enrollments
        assert not any(one.state == enrollment_pb2.ENROLLMENT_STATE_ACTIVE for one in enrollments.enrollments)
        listed = await client.records.ListErasures(record_pb2.ListErasuresRequest())
        assert erased.id in [one.id for one in listed.erasures]
        with pytest.raises(AioRpcError, match="was erased"):
            await client.records.EraseContact(record_pb2.EraseContactRequest(record_id=person.id, reason="again"))
        await _read_all(client, [one.id for one in enrollments.enrollments])


async def _read_all(client: Client, enrollment_ids: list[str]) -> None:
    """Read every list, and the traces of enrollments: what erasing leaves behind is what whoever reads it expects."""
    for module, service in (
        (agent_pb2, client.agents), (approval_pb2, client.approvals), (enrollment_pb2, client.enrollments),
        (event_pb2, client.events), (qualification_pb2, client.qualification), (record_pb2, client.records),
        (webhook_pb2, client.webhooks),
    ):  # fmt: skip
        for method in next(iter(module.DESCRIPTOR.services_by_name.values())).methods:
            if method.name.startswith("List"):
                try:
                    await getattr(service, method.name)(GetMessageClass(method.input_type)())
                except AioRpcError as error:
                    assert error.code() is StatusCode.INVALID_ARGUMENT, error  # noqa: PT017 -- it asks for more
    for one in enrollment_ids:
        explained = await client.enrollments.ExplainEnrollment(
            enrollment_pb2.ExplainEnrollmentRequest(enrollment_id=one)
        )
        assert explained.why.endswith("[erased]."), explained.why
        trace = await client.enrollments.ListTraceEntries(enrollment_pb2.ListTraceEntriesRequest(enrollment_id=one))
        assert not any(entry.inputs or entry.reason for entry in trace.entries)


async def test_nothing_brings_an_erased_person_back(core: RunningCore) -> None:
    async with core.client() as client:
        named = record_pb2.UpsertRecordRequest(
            type="contact", external_ref=record_pb2.ExternalRef(system="hubspot", id="hs-1")
        )
        named.fields.update({"email": EMAIL, "phone": PHONE})
        person = (await client.records.UpsertRecord(named)).record
        await client.records.EraseContact(record_pb2.EraseContactRequest(record_id=person.id, reason="asked"))
        for fields in ({"email": EMAIL.upper()}, {"email": "new@example.com", "phone": "+49 (170) 123-4567"}):
            with pytest.raises(AioRpcError, match="was erased"):
                await _upsert(client, "contact", fields)
        named.ClearField("fields")
        named.fields.update({"email": "changed-there@example.com"})
        with pytest.raises(AioRpcError, match="was erased"):
            await client.records.UpsertRecord(named)
        named.external_ref.id = "HS-1"  # ids differ by case
        assert (await client.records.UpsertRecord(named)).created
        source = await client.events.CreateSource(
            event_pb2.CreateSourceRequest(display_name="Web", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        )
        event = event_pb2.EventInput(event_type="lead", event_name="signed.up", source_id=source.id)
        event.fields.update({"email": EMAIL})
        answer = await client.events.IngestEvent(event_pb2.IngestEventRequest(event=event))
        assert not answer.contact_id
        request = transfer_pb2.CreateImportRequest(
            format=transfer_pb2.IMPORT_FORMAT_NDJSON,
            content="\n".join(map(json.dumps, [{"email": EMAIL}, {"external_id": "hs-1", "last_name": "X"}])).encode(),
            type="contact",
            system="hubspot",
            trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
        )
        made = await client.records.CreateImport(request)
        assert (made.created_count, made.bad_count) == (0, 2)
        rows = await client.records.ListImportRows(transfer_pb2.ListImportRowsRequest(import_id=made.id))
        assert [row.outcome for row in rows.rows] == ["erased", "erased"]
        assert await _mentions(core) == set()
        (suppression,) = [
            one
            for one in (await client.records.ListSuppressions(record_pb2.ListSuppressionsRequest())).suppressions
            if one.channel == "email"
        ]
        await client.records.LiftSuppression(
            record_pb2.LiftSuppressionRequest(suppression_id=suppression.id, reason="Signed up again.")
        )
        assert (await _upsert(client, "contact", {"email": EMAIL})).id != person.id


async def test_what_others_have_too_stays_theirs_and_what_hangs_on_a_lead_goes(
    core: RunningCore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing_search, "IDS_AT_ONCE", 1)
    desk = "+49 30 1234567"
    async with core.client() as client:
        person = await _upsert(
            client, "contact", {"email": EMAIL, "phone": desk, "first_name": "John", "last_name": "Smith"}
        )
        lead = await _upsert(client, "lead", {"contact_id": person.id})
        note = await _upsert(client, "note", {"lead_id": lead.id, "text": "Told us about a divorce"})
        firm = await _upsert(client, "company", {"name": "Acme", "phone": "+49301234567", "source": f"{EMAIL}, 2020"})
        moved = await _upsert(client, "contact", {"email": "info@acme.example"})
        gave_up = record_pb2.UpdateRecordRequest(record_id=moved.id)
        gave_up.fields.update({"email": "moved@acme.example"})
        await client.records.UpdateRecord(gave_up)
        follower = await _upsert(client, "contact", {"email": "info@acme.example", "phone": desk})
        await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(url=receiver.url, event_types=["record.created", "contact.erased"])
        )
        called = await _upsert(client, "task", {"title": "Call back", "lead_id": lead.id})
        namesake = await _upsert(client, "note", {"text": "Lunch with John Smith, the other one"}, "key-9")
        for gone in (person, moved):
            erase = record_pb2.EraseContactRequest(record_id=gone.id, reason=f"{EMAIL} asked")
            erasure = await client.records.EraseContact(erase)
            assert erasure.complete
            assert EMAIL not in erasure.reason or gone is moved

        async def fields_of(record: record_pb2.Record) -> dict[str, Any]:
            found = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=record.id))
            return {**found.fields}

        assert await fields_of(firm) == {"name": "Acme", "phone": "+49301234567", "source": "[erased], 2020"}
        assert await fields_of(follower) == {"email": "info@acme.example", "phone": desk}
        with pytest.raises(AioRpcError):
            await fields_of(note)
        request = record_pb2.ListRecordChangesRequest(record_id=firm.id)
        newest = (await client.records.ListRecordChanges(request)).changes[0]
        assert newest.field == "source"
        assert newest.cause.startswith("erasure:era_")
        again = await _upsert(client, "note", {"text": "Lunch with John Smith, the other one"}, "key-9")
        assert again.id == namesake.id
        assert "John Smith" not in again.fields["text"]
        suppressed = (await client.records.ListSuppressions(record_pb2.ListSuppressionsRequest())).suppressions
        assert [one.channel for one in suppressed] == ["email", "email"]  # their own, and where the other moved
        await core.settle()
        (told,) = [one for one in receiver.received if namesake.id.encode() in one.body]
        assert b"John Smith" not in told.body
        assert not [one for one in receiver.received if called.id.encode() in one.body]
        told_of = [one.json()["data"] for one in receiver.received if b"contact.erased" in one.body]
        assert (told_of[-1]["record_id"], told_of[-1]["erasure_id"]) == (moved.id, erasure.id)
    async with core.core.database.system() as tx:
        found = await tx.all(select(metadata.tables["records"]))
        assert "divorce" not in dump_json([dict(row._mapping["fields"]) for row in found])
