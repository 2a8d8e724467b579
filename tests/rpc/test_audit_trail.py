"""Every call that changes something leaves one entry, with it or not at all, and nobody's data in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import grpc
import httpx2
import pytest
from mcp import Client as McpClient
from mcp.client.streamable_http import streamable_http_client
from sqlalchemy import Row, select, update

from core import provisioning
from core.domain.control.audit import Checker, parse_seal
from core.domain.control.digest import digest
from core.store.control.audit import audit_entries
from dripstone.v1 import audit_pb2, event_pb2, organization_pb2, record_pb2, webhook_pb2
from dripstone.v1.client import Client
from tests.receiver import Receiver
from tests.running import NO_ROOTS, RunningCore

pytestmark = pytest.mark.anyio


BEFORE = 5
"""Entries of an organization with its first keys and the member who decides approvals."""


async def entries(core: RunningCore, method: str = "") -> Sequence[Row[Any]]:
    async with core.core.database.read(core.organization.org_id) as tx:
        statement = select(audit_entries).order_by(audit_entries.c.create_time, audit_entries.c.id)
        return await tx.all(statement.where(audit_entries.c.method == method) if method else statement)


def contact(email: str, **more: Any) -> record_pb2.UpsertRecordRequest:
    request = record_pb2.UpsertRecordRequest(type="contact", **more)
    request.fields.update({"email": email})
    return request


async def test_a_change_tells_who_did_what_to_whom_and_why_without_their_data(core: RunningCore) -> None:
    on_behalf = (("x-on-behalf-of", "mem_ada"),)
    async with Client(core.grpc_target, core.agent_key, metadata=on_behalf) as client:
        made = await client.records.UpsertRecord(contact("ada@example.com", request_id="first", reason="met\nthem"))
        request = record_pb2.UpdateRecordRequest(record_id=made.record.id, reason="asked by ada@example.com")
        request.fields.update({"first_name": "Ada"})
        request.update_mask.paths.append("first_name")
        await client.records.UpdateRecord(request, metadata=(("x-dripstone-surface", "mcp"),))
        reason = (("x-dripstone-reason", "no%00longer%20used"),)  # PostgreSQL keeps no NUL
        await client.records.DeleteRecord(record_pb2.DeleteRecordRequest(record_id=made.record.id), metadata=reason)
    (deleted,) = await entries(core, "RecordService.DeleteRecord")
    assert deleted.reason == "nolonger used"
    (upserted,) = await entries(core, "RecordService.UpsertRecord")
    (updated,) = await entries(core, "RecordService.UpdateRecord")
    async with core.client(core.agent_key) as client:
        agent = (await client.organization.GetCaller(organization_pb2.GetCallerRequest())).principal_id
    assert (upserted.principal_id, upserted.principal_kind, upserted.on_behalf_of) == (agent, "agent", "mem_ada")
    assert (upserted.request_id, upserted.subject_id, upserted.reason) == ("first", made.record.id, "met them")
    assert (upserted.surface, upserted.before_digest) == ("grpc", "")
    assert upserted.after_digest == updated.before_digest != updated.after_digest
    assert (updated.surface, updated.reason) == ("mcp", "asked by [address]")
    assert updated.summary == f"update record {made.record.id} (first_name)"
    stored = json.dumps([dict(row._mapping) for row in await entries(core)], default=str)
    assert "ada@example" not in stored
    assert "Ada" not in stored


async def test_dry_runs_replays_reads_and_refusals_leave_nothing(core: RunningCore) -> None:
    async with core.client() as client:
        before = len(await entries(core))
        await client.records.UpsertRecord(contact("a@example.com", validate_only=True))
        await client.records.ListRecords(record_pb2.ListRecordsRequest(type="contact"))
        with pytest.raises(grpc.aio.AioRpcError):
            await client.records.UpsertRecord(record_pb2.UpsertRecordRequest(type="contact", request_id="bad"))
        assert len(await entries(core)) == before
        for _ in range(3):
            await client.records.UpsertRecord(contact("a@example.com", request_id="once"))
        assert len(await entries(core)) == before + 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_http_inbound_urls_streams_and_links_are_in_it_too(core: RunningCore) -> None:
    async with core.client() as client, core.http() as http:
        headers = {"X-On-Behalf-Of": "Ada Lovelace", "Idempotency-Key": "ada@example.com"}
        body = {"type": "contact", "fields": {"email": "ada@example.com"}}
        assert (await http.post("/api/v1/crm/records", json=body, headers=headers)).is_success
        source = await client.events.CreateSource(
            event_pb2.CreateSourceRequest(source_id="in", display_name="In", kind=event_pb2.SOURCE_KIND_INBOUND)
        )
        assert (await http.post(source.inbound_path, json={"says": "hello"})).status_code < 300
        request = event_pb2.StreamEventsRequest(
            event=event_pb2.EventInput(event_type="action", event_name="seen", source_id="in")
        )
        request.event.fields.update({"email": "ada@example.com"})

        async def sent() -> Any:
            yield request

        async for _ in client.events.StreamEvents(sent()):
            pass
    (upserted,) = await entries(core, "RecordService.UpsertRecord")
    named = (digest("Ada Lovelace"), digest("ada@example.com"))  # a key may be an address, and stays for ever
    assert (upserted.surface, (upserted.on_behalf_of, upserted.request_id)) == ("http", named)
    (inbound,) = await entries(core, "System.TakeInbound")
    assert (inbound.principal_id, inbound.surface, inbound.subject_id) == ("source:in", "http", "in")
    (streamed,) = await entries(core, "EventService.StreamEvents")
    assert streamed.summary == "stream events (1 events)"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_an_agent_does_through_mcp_is_told_from_other_calls(core: RunningCore) -> None:
    async with core.client() as client:
        record_id = (await client.records.UpsertRecord(contact("ada@example.com"))).record.id
    headers = {"Authorization": f"Bearer {core.agent_key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=10, verify=NO_ROOTS) as http,
        McpClient(streamable_http_client(core.mcp_url, http_client=http)) as agent,
    ):
        arguments = {"record_id": record_id, "fields": {"job_title": "CEO"}, "idempotency_key": "tool-1"}
        await agent.call_tool("update-record", arguments)  # a preview
        result = await agent.call_tool("update-record", {**arguments, "mode": "commit"})
        assert not result.is_error, result.content
    (updated,) = await entries(core, "RecordService.UpdateRecord")
    assert (updated.surface, updated.principal_kind, updated.request_id) == ("mcp", "agent", "tool-1")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_secrets_are_not_part_of_what_is_hashed_and_a_change_of_them_shows(
    core: RunningCore, receiver: Receiver
) -> None:
    async with core.client() as client:
        made = await client.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url=receiver.url))
        await client.webhooks.RotateSecret(webhook_pb2.RotateSecretRequest(endpoint_id=made.endpoint.id))
        verified = webhook_pb2.VerifyEndpointRequest(endpoint_id=made.endpoint.id)
        await client.webhooks.TestEndpoint(webhook_pb2.TestEndpointRequest(endpoint_id=made.endpoint.id))
        await client.webhooks.VerifyEndpoint(verified)
    (rotated,) = await entries(core, "WebhookService.RotateSecret")
    assert rotated.subject_id == made.endpoint.id
    (tested,) = await entries(core, "WebhookService.TestEndpoint")
    assert tested.subject_id == made.endpoint.id
    stored = json.dumps([dict(row._mapping) for row in await entries(core)], default=str)
    assert made.secret not in stored


@pytest.mark.both_databases
async def test_the_log_can_be_listed_taken_out_and_checked(core: RunningCore) -> None:
    async with core.client() as client, core.http() as http:
        for number in range(3):
            await client.records.UpsertRecord(contact(f"a{number}@example.com", request_id=f"call-{number}"))
        ahead = await client.audit.GetAuditHead(audit_pb2.GetAuditHeadRequest())
        assert (ahead.sequence, ahead.unsealed_count) == (0, BEFORE + 3)
        await core.core.outward.sealer.turn()
        head = await client.audit.GetAuditHead(audit_pb2.GetAuditHeadRequest())
        assert (head.sequence, head.unsealed_count) == (BEFORE + 3, 0)
        listed = await client.audit.ListAuditEntries(
            audit_pb2.ListAuditEntriesRequest(filter='request_id = "call-1"', page_size=2)
        )
        (one,) = listed.entries
        assert await client.audit.GetAuditEntry(audit_pb2.GetAuditEntryRequest(entry_id=one.id)) == one
        parts = [part async for part in client.audit.ExportAudit(audit_pb2.ExportAuditRequest())]
        exported = b"".join(part.content for part in parts)
        answer = await http.get("/api/v1/audit/export")
        assert (answer.content, answer.headers["content-type"]) == (exported, "application/x-ndjson")
        checker = Checker(head=parse_seal(f"{head.sequence}:{head.hash}"))
        for raw in exported.splitlines(keepends=True):
            checker.take(raw)
        checker.finish()
        assert (checker.faults, checker.count) == ([], BEFORE + 3)
        rest = (await http.get("/api/v1/audit/export", params={"after_sequence": BEFORE + 2})).content
        assert rest == exported.splitlines(keepends=True)[-1]
        verified = await client.audit.GetAuditVerification(audit_pb2.GetAuditVerificationRequest())
        assert (verified.intact, verified.checked_count, verified.next_sequence) == (True, BEFORE + 3, 0)
        later = await client.audit.GetAuditVerification(audit_pb2.GetAuditVerificationRequest(from_sequence=BEFORE + 3))
        assert (later.intact, later.checked_count) == (True, 1)


@pytest.mark.both_databases
async def test_another_organization_sees_nothing_of_it(core: RunningCore) -> None:
    other = await provisioning.create_organization(core.core.database, "Other")
    async with core.client() as client:
        await client.records.UpsertRecord(contact("a@example.com"))
    await core.core.outward.sealer.turn()
    async with core.client(other.api_key) as client:
        listed = (await client.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest())).entries
        assert {one.principal_id for one in listed} == {"system"}  # its own first keys
        assert (await client.audit.GetAuditHead(audit_pb2.GetAuditHeadRequest())).sequence == BEFORE


TRIGGERS = {
    "sqlite": ("DROP TRIGGER audit_entries_fixed", "DROP TRIGGER audit_entries_stay"),
    "postgresql": ("DROP TRIGGER audit_entries_stay ON audit_entries",),
}


@pytest.mark.both_databases
async def test_who_gets_past_the_database_is_still_found(core: RunningCore) -> None:
    async with core.client() as client:
        for number in range(4):
            await client.records.UpsertRecord(contact(f"a{number}@example.com"))
        await core.core.outward.sealer.turn()
        async with core.core.database.system() as tx:
            for statement in TRIGGERS[tx.dialect]:
                await tx.fetch(statement)
            forged = update(audit_entries).where(audit_entries.c.sequence == 2)
            await tx.run(forged.values(principal_id="somebody else"))
        found = await client.audit.GetAuditVerification(audit_pb2.GetAuditVerificationRequest())
        assert (found.intact, found.broken_sequence, found.checked_count) == (False, 2, 1)
        async with core.core.database.system() as tx:
            await tx.fetch("DELETE FROM audit_entries WHERE sequence >= 3")
        gone = await client.audit.GetAuditVerification(audit_pb2.GetAuditVerificationRequest(from_sequence=3))
        assert (gone.intact, gone.broken_sequence) == (False, 3)
