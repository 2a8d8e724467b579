"""The pipeline's promises, seen through real gRPC and HTTP: idempotency, dry runs, limits, errors that leak nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from dripstone.v1 import audit_pb2, organization_pb2, record_pb2, webhook_pb2
from dripstone.v1.client import ApiError, Client, replayed
from tests.rpc.control_calls import new_key, refused
from tests.running import RunningCore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        yield opened


def _upsert(email: str, key: str = "", **more: Any) -> record_pb2.UpsertRecordRequest:
    return record_pb2.UpsertRecordRequest(type="contact", fields={"email": email}, request_id=key, **more)


async def _contacts(client: Client) -> int:
    listed = await client.records.ListRecords(record_pb2.ListRecordsRequest(type="contact", page_size=500))
    return len(listed.records)


async def test_the_same_key_and_request_give_the_first_answer_marked_as_a_replay(client: Client) -> None:
    first = client.records.UpsertRecord(_upsert("a@example.com", "k1"))
    answer = await first
    again = client.records.UpsertRecord(_upsert("a@example.com", "k1"))
    assert await again == answer
    assert (await replayed(first), await replayed(again)) == (False, True)
    assert await _contacts(client) == 1


async def test_a_replay_survives_a_week(core: RunningCore, client: Client) -> None:
    answer = await client.records.UpsertRecord(_upsert("a@example.com", "k1"))
    await core.pass_time(timedelta(days=7))
    assert await client.records.UpsertRecord(_upsert("a@example.com", "k1")) == answer


async def test_the_same_key_for_another_request_is_refused(client: Client) -> None:
    await client.records.UpsertRecord(_upsert("a@example.com", "k1"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.records.UpsertRecord(_upsert("b@example.com", "k1"))
    error = ApiError.of(refused.value)
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "IDEMPOTENCY_CONFLICT")
    assert "new key" in error.hint
    past = await client.audit.GetCall(audit_pb2.GetCallRequest(key="k1"))
    told = ("RecordService.UpsertRecord", past.create_time.ToDatetime().isoformat() + "Z", past.request_hash[:16])
    assert [part for part in told if part not in error.message] == []
    assert await _contacts(client) == 1


async def test_what_became_of_a_call_is_told_as_far_as_a_key_may_see_it(core: RunningCore, client: Client) -> None:
    made = await client.records.UpsertRecord(_upsert("a@example.com", "k1"))
    mine = audit_pb2.GetCallRequest(key="k1")
    past = await client.audit.GetCall(mine)
    assert past.answer["record"]["id"] == made.record.id
    with refused("NOT_FOUND"):
        await client.audit.GetCall(audit_pb2.GetCallRequest(key="k2"))
    theirs = audit_pb2.GetCallRequest(key="k1", principal_id=past.principal_id)
    keys = {
        "reader": await new_key(client, scopes=["audit:read"]),
        "writer": await new_key(client, scopes=["records:write"]),
        "blind": await new_key(
            client,
            scopes=["audit:read", "records:write"],
            limits=organization_pb2.KeyLimits(hidden_fields=["contact.email"]),
        ),
    }
    async with core.client(keys["reader"].secret) as reader:
        with refused("NOT_FOUND"):  # it made no such call itself
            await reader.audit.GetCall(mine)
        seen = await reader.audit.GetCall(theirs)
        assert (seen.method, seen.HasField("answer")) == ("RecordService.UpsertRecord", False)
    async with core.client(keys["writer"].secret) as writer:
        with refused("SCOPE_MISSING"):
            await writer.audit.GetCall(theirs)
    async with core.client(keys["blind"].secret) as blind:
        answer = (await blind.audit.GetCall(theirs)).answer
        assert answer["record"]["id"] == made.record.id
        assert "a@example.com" not in str(answer)
    undo = record_pb2.RevertChangesRequest(cause="call:k1")
    async with core.client(keys["writer"].secret) as writer:
        with refused("NOT_FOUND"):  # a key names its own principal's call, however alike the keys are
            await writer.records.RevertChanges(undo)
        await writer.records.UpsertRecord(_upsert("b@example.com", "k1"))
        await writer.records.UpsertRecord(_upsert("c@example.com", "k2"))
        own = await writer.records.RevertChanges(undo)
        assert [(one.change_count, one.is_caller) for one in own.authors] == [(1, True)]
        named = record_pb2.RevertChangesRequest(cause=past.cause, preview=True)
        other = await writer.records.RevertChanges(named)
        told = [(one.actor, one.change_count, one.is_caller) for one in other.authors]
        assert told == [(past.principal_id, 1, False)]
    await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=made.record.id))
    assert await _contacts(client) == 2
    await core.pass_time(timedelta(days=9))  # the key is forgotten and used again: it means the later call alone
    await client.records.UpsertRecord(_upsert("d@example.com", "k1"))
    again = await client.records.RevertChanges(undo)
    assert (again.change_count, await _contacts(client)) == (1, 2)


@pytest.mark.both_databases
async def test_two_calls_at_once_with_one_key_do_it_once_and_get_one_answer(client: Client) -> None:
    answers = await asyncio.gather(*(client.records.UpsertRecord(_upsert("a@example.com", "k1")) for _ in range(12)))
    assert len({answer.record.id for answer in answers}) == 1
    assert await _contacts(client) == 1


@pytest.mark.both_databases
async def test_a_failed_call_does_not_use_its_key_up(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await client.records.UpsertRecord(_upsert("no e-mail", "k1"))
    assert (await client.records.UpsertRecord(_upsert("a@example.com", "k1"))).created


async def test_a_dry_run_answers_like_the_real_call_and_leaves_nothing(client: Client) -> None:
    dry = await client.records.UpsertRecord(_upsert("a@example.com", "k1", validate_only=True))
    assert dry.created
    assert await _contacts(client) == 0
    assert (await client.records.UpsertRecord(_upsert("a@example.com", "k1"))).created
    with pytest.raises(grpc.aio.AioRpcError) as dry_refusal:
        await client.records.UpsertRecord(_upsert("no e-mail", validate_only=True))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await client.records.UpsertRecord(_upsert("no e-mail"))
    assert ApiError.of(dry_refusal.value) == ApiError.of(refusal.value)


async def test_a_secret_is_told_once_and_never_stored(core: RunningCore, client: Client) -> None:
    request = webhook_pb2.CreateEndpointRequest(url="https://example.com/hooks", request_id="k1")
    first = await client.webhooks.CreateEndpoint(request)
    again = await client.webhooks.CreateEndpoint(request)
    assert first.secret.startswith("whsec_")
    assert (again.secret, again.endpoint) == ("", first.endpoint)


async def test_every_violation_is_told_at_once_with_its_path(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.organization.CreateMember(
            organization_pb2.CreateMemberRequest(email="x" * 321, role=99)  # type: ignore[arg-type]
        )
    error = ApiError.of(refused.value)
    assert error.code == "INVALID_ARGUMENT"
    assert {(v.field, v.reason) for v in error.violations} == {
        ("email", "TOO_LONG"),
        ("display_name", "REQUIRED"),
        ("role", "UNKNOWN_VALUE"),
    }


async def test_an_unforeseen_failure_says_nothing_but_its_reference(core: RunningCore) -> None:
    async def broken(request: Any, call: Any) -> Any:
        raise ValueError("SELECT secret FROM somewhere")

    (method,) = [m for m in core.core.outward.methods if m.name == "OrganizationService.GetCaller"]
    with pytest.raises(Exception, match="reference") as failure:
        await core.core.outward.pipeline.unary(
            replace(method, handler=broken),
            method.request_class(),
            {"authorization": f"Bearer {core.api_key}", "x-request-id": "req-77"},
        )
    assert "SELECT" not in str(failure.value)
    assert "req-77" in str(failure.value)


async def test_a_revoked_key_stops_working_within_30_seconds(core: RunningCore, client: Client) -> None:
    made = await client.organization.CreateApiKey(
        organization_pb2.CreateApiKeyRequest(
            display_name="Short-lived",
            principal_kind=organization_pb2.PRINCIPAL_KIND_SERVICE,
            scopes=["records:read"],
        )
    )
    async with core.client(made.secret) as short_lived:
        await short_lived.organization.GetCaller(organization_pb2.GetCallerRequest())
        await client.organization.RevokeApiKey(organization_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.id))
        core.clock.advance(timedelta(seconds=30))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await short_lived.organization.GetCaller(organization_pb2.GetCallerRequest())
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_key_can_grant_only_what_it_holds(core: RunningCore) -> None:
    async with core.client(core.agent_key) as agent:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await agent.organization.CreateApiKey(
                organization_pb2.CreateApiKeyRequest(
                    display_name="More",
                    principal_kind=organization_pb2.PRINCIPAL_KIND_AGENT,
                    scopes=["approvals:decide"],
                )
            )
    assert ApiError.of(refused.value).reason == "SCOPE_MISSING"


async def test_health_and_reflection_answer_without_a_key(core: RunningCore) -> None:
    async with grpc.aio.insecure_channel(core.grpc_target) as channel:
        health = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="dripstone.v1.WorkflowService")
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
    services = await asyncio.to_thread(_reflected, core.grpc_target)
    assert {name for name in services if name.startswith("dripstone")} == {
        f"dripstone.v1.{noun}Service"
        for noun in (
            "Agent",
            "Approval",
            "Audit",
            "Connection",
            "Enrollment",
            "Event",
            "Organization",
            "Qualification",
            "Record",
            "Webhook",
            "Workflow",
        )
    }


def _reflected(target: str) -> list[str]:
    with grpc.insecure_channel(target) as channel:
        return list(ProtoReflectionDescriptorDatabase(channel).get_services())


async def test_the_idempotency_key_header_is_honoured_durably(core: RunningCore) -> None:
    body = {"type": "contact", "fields": {"email": "a@example.com"}}
    async with core.http() as http:
        first = await http.post("/api/v1/crm/records", json=body, headers={"Idempotency-Key": "h1"})
        again = await http.post("/api/v1/crm/records", json=body, headers={"Idempotency-Key": "h1"})
        other = await http.post(
            "/api/v1/crm/records", json={**body, "reason": "another"}, headers={"Idempotency-Key": "h1"}
        )
    assert first.status_code == again.status_code == 200
    assert json.loads(first.text) == json.loads(again.text)
    assert again.headers["idempotent-replayed"] == "true"
    assert (other.status_code, other.json()["error"]["reason"]) == (409, "IDEMPOTENCY_CONFLICT")


@pytest.mark.both_databases
async def test_calls_that_deadlock_are_carried_out_all_the_same(core: RunningCore, client: Client) -> None:
    """Pairs of bulk calls bring the same new people in opposite order: on PostgreSQL they lock each other out."""
    from dripstone.v1 import enrollment_pb2, workflow_pb2

    source = "title: Pause\nsteps:\n  - {id: pause, kind: wait, for: 1h}\n"
    await client.workflows.CreateWorkflow(
        workflow_pb2.CreateWorkflowRequest(workflow_id="pause", source=source, publish=True)
    )
    people = [{"email": f"p{n}@example.com", "lead_ref": f"r-{n}"} for n in range(40)]

    async def enroll(contacts: list[Any]) -> int:
        request = enrollment_pb2.EnrollContactsRequest(workflow_id="pause", contacts=contacts)
        return (await client.enrollments.EnrollContacts(request, timeout=30)).created_count

    created = await asyncio.gather(*(enroll(people[:: 1 if n % 2 else -1]) for n in range(8)))
    assert sum(created) == len(people)
    assert await _contacts(client) == len(people)


@pytest.mark.both_databases
async def test_a_call_given_up_halfway_leaves_nothing_and_the_next_one_works(core: RunningCore, client: Client) -> None:
    calls = [
        client.records.UpsertRecord(_upsert(f"p{number}@example.com"), timeout=0.0005 * (number % 12 + 1))
        for number in range(40)
    ]
    codes = {await call.code() for call in calls}
    assert grpc.StatusCode.DEADLINE_EXCEEDED in codes
    assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK}
    await client.records.UpsertRecord(_upsert("last@example.com"))
    listed = await client.records.ListRecords(record_pb2.ListRecordsRequest(type="contact", page_size=500))
    for record in listed.records:
        changes = await client.records.ListRecordChanges(record_pb2.ListRecordChangesRequest(record_id=record.id))
        assert changes.changes, "a record without its history was half written"
