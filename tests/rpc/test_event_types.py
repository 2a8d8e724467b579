"""Event types of organizations' own: declared in versions, listed, exported, checked when published and when sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from core import provisioning
from core.domain.effects import Emit
from core.domain.webhooks.event_types import CATALOGUE
from core.rpc.convert import to_struct
from core.rpc.webhooks import event_types as handlers
from core.store import paging
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission
from dripstone.v1 import webhook_pb2 as pb
from dripstone.v1 import workflow_pb2
from dripstone.v1.client import ApiError, Client
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

DEAL: dict[str, Any] = {
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"$ref": "#/$defs/money"}, "stage": {"enum": ["won", "lost"]}},
    "$defs": {"money": {"type": "integer", "minimum": 0}},
}


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        yield opened


def declaring(schema: dict[str, Any], name: str = "deal.won", **more: Any) -> pb.CreateEventTypeRequest:
    return pb.CreateEventTypeRequest(name=name, description="A deal was won.", schema=to_struct(schema), **more)


async def own(client: Client) -> list[tuple[str, int]]:
    listed = await client.webhooks.ListEventTypes(pb.ListEventTypesRequest(page_size=500))
    return [(one.name, one.version) for one in listed.event_types if one.custom]


async def exported(client: Client) -> dict[str, Any]:
    answer = await client.webhooks.ExportEventTypes(pb.ExportEventTypesRequest())
    document = MessageToDict(answer.document)
    assert isinstance(document, dict)
    return document


async def test_a_type_is_declared_once_and_then_in_further_versions(client: Client) -> None:
    first = await client.webhooks.CreateEventType(declaring(DEAL))
    assert (first.name, first.version, first.custom) == ("deal.won", 1, True)
    assert MessageToDict(first.schema) == DEAL
    assert not first.breaking_changes
    second = await client.webhooks.CreateEventType(declaring({**DEAL, "required": []}))
    assert second.version == 2
    assert list(second.breaking_changes) == ["data.amount may now be missing."]
    await client.webhooks.CreateEventType(declaring({}, "deal.lost"))
    assert await own(client) == [("deal.lost", 1), ("deal.won", 2)]
    listed = (await client.webhooks.ListEventTypes(pb.ListEventTypesRequest())).event_types
    assert [one.name for one in listed[: len(CATALOGUE)]] == list(CATALOGUE)
    assert not any(one.custom for one in listed[: len(CATALOGUE)])


@pytest.mark.both_databases
async def test_types_come_in_pages_that_together_are_all_of_them(client: Client) -> None:
    declared = [f"deal.stage_{number}" for number in range(7)]
    for name in declared:
        await client.webhooks.CreateEventType(declaring(DEAL, name))
    everything = [*CATALOGUE, *declared]
    for size in (1, 3, len(CATALOGUE), len(CATALOGUE) + 3, len(everything), 500):
        listed: list[str] = []
        exported: list[str] = []
        token = shown = ""
        while True:
            page = await client.webhooks.ListEventTypes(pb.ListEventTypesRequest(page_size=size, page_token=token))
            told = await client.webhooks.ExportEventTypes(pb.ExportEventTypesRequest(page_size=size, page_token=shown))
            assert 0 < len(page.event_types) <= size
            listed += [one.name for one in page.event_types]
            exported += list(MessageToDict(told.document)["webhooks"])
            assert bool(page.next_page_token) == bool(told.next_page_token)
            token, shown = page.next_page_token, told.next_page_token
            if not token:
                break
        assert listed == everything
        assert sorted(exported) == sorted(everything)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_page_of_large_schemas_is_shorter(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "MOST_BYTES", 5_000)
    large = {**DEAL, "description": "x" * 2_000}
    for number in range(5):
        await client.webhooks.CreateEventType(declaring(large, f"deal.stage_{number}"))
    sizes, token = [], ""
    while True:
        page = await client.webhooks.ListEventTypes(pb.ListEventTypesRequest(page_size=500, page_token=token))
        sizes.append(sum(one.custom for one in page.event_types))
        token = page.next_page_token
        if not token:
            break
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_token_of_another_list_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.webhooks.ListEventTypes(pb.ListEventTypesRequest(page_token=paging.encode_token("deal.won")))
    assert [one.reason for one in ApiError.of(refused.value).violations] == ["PAGE_TOKEN_MISMATCH"]


@pytest.mark.both_databases
async def test_versions_that_are_declared_at_once_follow_each_other(client: Client) -> None:
    made = await asyncio.gather(*(client.webhooks.CreateEventType(declaring(DEAL)) for _ in range(8)))
    assert sorted(one.version for one in made) == list(range(1, 9))


async def test_a_dry_run_and_a_replay_make_no_version(client: Client) -> None:
    assert (await client.webhooks.CreateEventType(declaring(DEAL, validate_only=True))).version == 1
    assert await own(client) == []
    for _ in range(2):
        assert (await client.webhooks.CreateEventType(declaring(DEAL, request_id="k1"))).version == 1
    assert await own(client) == [("deal.won", 1)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_everything_wrong_with_a_declaration_is_told_at_once(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.webhooks.CreateEventType(declaring({"type": "objekt"}, "lead.qualified"))
    told = {(one.field, one.reason) for one in ApiError.of(refused.value).violations}
    assert told == {("name", "RESERVED_NAME"), ("schema.type", "NOT_A_SCHEMA")}


async def test_what_another_organization_declares_is_its_own(core: RunningCore, client: Client) -> None:
    await client.webhooks.CreateEventType(declaring(DEAL))
    other = await provisioning.create_organization(core.core.database, "Other")
    async with core.client(other.api_key) as stranger:
        assert await own(stranger) == []
        assert (await stranger.webhooks.CreateEventType(declaring({}))).version == 1


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_export_is_an_openapi_document_whose_references_all_lead_somewhere(client: Client) -> None:
    await client.webhooks.CreateEventType(declaring(DEAL))
    await client.webhooks.CreateEventType(declaring({**DEAL, "required": []}))
    document = await exported(client)
    assert document["openapi"] == "3.1.0"
    assert set(document["webhooks"]) == {*CATALOGUE, "deal.won"}
    for reference in _references(document):
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    operations = [item["post"] for item in document["webhooks"].values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["requestBody"]["required"] is True
        assert set(operation["responses"]) == {"2XX", "410", "default"}
        assert all(response["description"] for response in operation["responses"].values())
        named = [reference["$ref"].rpartition("/")[2] for reference in operation["parameters"]]
        assert named[:3] == ["webhook-id", "webhook-timestamp", "webhook-signature"]
    for name, parameter in document["components"]["parameters"].items():
        assert (parameter["name"], parameter["in"]) == (name, "header")
    deal = document["webhooks"]["deal.won"]["post"]
    assert deal["x-event-type-version"] == 2
    assert deal["x-breaking-changes"] == ["data.amount may now be missing."]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_body_as_it_is_sent_fits_the_exported_schema(core: RunningCore, client: Client) -> None:
    await client.webhooks.CreateEventType(declaring(DEAL))
    document = await exported(client)
    registry: Registry[Any] = Registry().with_resource("urn:export", DRAFT202012.create_resource(document))
    path = "urn:export#/webhooks/deal.won/post/requestBody/content/application~1json/schema"
    validator = Draft202012Validator({"$ref": path}, registry=registry)
    body = {"type": "deal.won", "timestamp": "2026-03-02T09:00:00Z", "data": {"amount": 3}}
    assert list(validator.iter_errors(body)) == []
    assert list(validator.iter_errors({**body, "data": {"amount": -3}}))
    assert list(validator.iter_errors({**body, "type": "deal.lost"}))
    async with core.http() as http:
        served = (await http.get("/api/v1/event_types/openapi")).json()
    assert served["document"] == json.loads(json.dumps(document))


WORKFLOW = """
title: Tells of deals
steps:
  - {id: tell, kind: webhook, event_type: deal.won, data: {amount: "{{ contact.email }}", stage: open}}
"""


async def test_data_that_can_never_fit_is_told_when_a_workflow_is_published(client: Client) -> None:
    def creating(source: str) -> workflow_pb2.CreateWorkflowRequest:
        return workflow_pb2.CreateWorkflowRequest(source=source, publish=True)

    await client.workflows.CreateWorkflow(creating(WORKFLOW))  # nobody has declared the type
    await client.webhooks.CreateEventType(declaring(DEAL))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.workflows.CreateWorkflow(creating(WORKFLOW))
    hint = " See the schema of deal.won in the event types, or declare a new version of it."
    told = [(one.field, one.reason, one.message.removesuffix(hint)) for one in ApiError.of(refused.value).violations]
    assert told == [
        ("steps[0].data.amount", "SCHEMA_MISFIT", "deal.won: is text, and the schema wants integer"),
        ("steps[0].data.stage", "SCHEMA_MISFIT", "deal.won: 'open' is not one of ['won', 'lost']"),
    ]
    mended = WORKFLOW.replace('"{{ contact.email }}"', "{cel: 2 + 2}").replace("open", "won")
    assert (await client.workflows.CreateWorkflow(creating(mended))).published_version == 1


async def test_what_is_sent_must_fit_the_newest_version(core: RunningCore, client: Client) -> None:
    await client.webhooks.CreateEndpoint(pb.CreateEndpointRequest(url="http://127.0.0.1:9/hook"))
    org = core.organization.org_id

    async def emitted(number: int, data: dict[str, Any]) -> int:
        async with core.core.database.write(org) as tx:
            message = f"msg_{number:026d}"
            return (await deliveries.emit(tx, [Emission(org, Emit(message, "deal.won", data))]))[message].sent

    assert await emitted(1, {"amount": "many"}) == 1  # nobody has declared the type
    await client.webhooks.CreateEventType(declaring(DEAL))
    assert await emitted(2, {"amount": "many"}) == 0
    assert await emitted(3, {"amount": 3}) == 1
    await client.webhooks.CreateEventType(declaring({}))
    assert await emitted(4, {"amount": "many"}) == 1
