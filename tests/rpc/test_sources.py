"""Sources: what can be set is checked with its place, what is secret is never shown, a mapping can be tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from sqlalchemy import select

from core.store import idempotency
from core.store.events import sources
from dripstone.v1 import event_pb2 as pb
from tests.posting import SECRET, Poster, posting
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

CHECKED = pb.Verifier(kind=pb.VERIFIER_KIND_STANDARD_WEBHOOKS, secrets=[SECRET])


@pytest.fixture
async def shop(core: RunningCore) -> AsyncIterator[Poster]:
    async with posting(core) as poster:
        yield poster


async def refused(call: Any) -> list[tuple[str, str]]:
    """Return field and reason of everything a call is refused for."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    status = rpc_status.from_call(raised.value)  # type: ignore[arg-type]
    assert status is not None
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(bad)
    assert SECRET not in str(status)
    return [(one.field, one.reason) for one in bad.field_violations]


async def test_a_source_comes_back_as_it_was_set_without_its_secrets(shop: Poster) -> None:
    mapping = pb.Mapping(event_name='"a"', fields={"email": "body.mail"}, when="has(body.mail)")
    schema = {"type": "object", "required": ["email"]}
    made = await shop.begin(
        verifier=pb.Verifier(
            kind=pb.VERIFIER_KIND_HMAC,
            secrets=["s3cret"],
            hmac=pb.HmacForm(header="X-Sig", template="{timestamp}.{body}", timestamp_header="X-Time"),
            challenge_token="t0ken",
        ),
        mapping=mapping,
        schema=schema,
    )
    assert made.inbound_path.startswith("/in/")
    got = await shop.client.events.GetSource(pb.GetSourceRequest(source_id="shop"))
    assert got.verifier == pb.Verifier(
        kind=pb.VERIFIER_KIND_HMAC,
        hmac=pb.HmacForm(
            header="X-Sig", algorithm="sha256", encoding="hex", template="{timestamp}.{body}", timestamp_header="X-Time"
        ),
    )
    assert (got.mapping, dict(got.schema), got.etag, got.inbound_path) == (
        mapping,
        schema | {"required": got.schema["required"]},
        '"1"',
        "",
    )
    assert not got.HasField("last_event_time")
    (listed,) = (await shop.client.events.ListSources(pb.ListSourcesRequest())).sources
    assert listed == got


async def test_a_url_is_shown_once_and_stored_as_a_hash(shop: Poster) -> None:
    request = pb.CreateSourceRequest(
        source_id="shop", display_name="Shop", kind=pb.SOURCE_KIND_INBOUND, request_id="r1", verifier=CHECKED
    )
    made, again = [await shop.client.events.CreateSource(request) for _ in range(2)]
    assert (made.inbound_path != "", again.inbound_path) == (True, "")
    rotate = pb.RotateInboundUrlRequest(source_id="shop", request_id="r2")
    rotated, replayed = [await shop.client.events.RotateInboundUrl(rotate) for _ in range(2)]
    assert (rotated.inbound_path not in ("", made.inbound_path), replayed.inbound_path) == (True, "")
    dry = await shop.client.events.RotateInboundUrl(pb.RotateInboundUrlRequest(source_id="shop", validate_only=True))
    assert dry.inbound_path == ""
    async with shop.core.core.database.read(shop.core.organization.org_id) as tx:
        rows = [*await tx.all(select(sources.inbound_urls)), *await tx.all(select(idempotency.idempotency_keys))]
    for path in (made.inbound_path, rotated.inbound_path):
        assert path.removeprefix("/in/") not in str(rows)


async def test_no_more_urls_than_ten_work_at_once(shop: Poster) -> None:
    made = await shop.begin()
    paths = [made.inbound_path]
    for _ in range(11):
        answer = await shop.client.events.RotateInboundUrl(pb.RotateInboundUrlRequest(source_id="shop"))
        paths.append(answer.inbound_path)
    works = [(await shop.send({"type": "a"}, path=path)).status_code == 200 for path in paths]
    assert (sum(works), works[-1]) == (sources.MOST_URLS, True)


async def test_everything_wrong_with_a_source_is_told_at_once(shop: Poster) -> None:
    request = pb.CreateSourceRequest(
        source_id="Not A Slug",
        display_name="Shop",
        kind=pb.SOURCE_KIND_INBOUND,
        verifier=pb.Verifier(kind=pb.VERIFIER_KIND_STANDARD_WEBHOOKS, secrets=[SECRET, "nonsense"]),
        mapping=pb.Mapping(event_name="body.", fields={"email": "bdy.email"}),
        schema={"type": "objekt"},
    )
    assert await refused(shop.client.events.CreateSource(request)) == [
        ("source_id", "BAD_ID"),
        ("verifier.secrets[1]", "BAD_SECRET"),
        ("mapping.event_name", "EXPRESSION_SYNTAX"),
        ("mapping.fields[email]", "EXPRESSION_UNKNOWN_NAME"),
        ("schema.type", "NOT_A_SCHEMA"),
    ]
    webhook = pb.CreateSourceRequest(
        display_name="Form", kind=pb.SOURCE_KIND_WEBHOOK, verifier=CHECKED, mapping=pb.Mapping(event_name='"a"')
    )
    assert await refused(shop.client.events.CreateSource(webhook)) == [
        ("verifier", "NOT_INBOUND"),
        ("mapping", "NOT_INBOUND"),
    ]
    assert list((await shop.client.events.ListSources(pb.ListSourcesRequest())).sources) == []


async def test_an_update_changes_what_it_names_and_nothing_else(shop: Poster) -> None:
    await shop.begin(mapping=pb.Mapping(event_name='"a"'))
    by_fields = await shop.update(display_name="Store")
    assert (by_fields.display_name, by_fields.mapping.event_name, by_fields.etag) == ("Store", '"a"', '"2"')
    cleared = await shop.update("mapping", "verifier")
    assert (cleared.HasField("mapping"), cleared.HasField("verifier"), cleared.display_name) == (False, False, "Store")
    assert (await shop.post(b'{"type": "b"}', {})).json()["status"] == "accepted"
    stale = pb.UpdateSourceRequest(source=pb.Source(id="shop", display_name="X", etag='"1"'))
    with pytest.raises(grpc.aio.AioRpcError, match="has changed"):
        await shop.client.events.UpdateSource(stale)
    assert await refused(
        shop.client.events.UpdateSource(
            pb.UpdateSourceRequest(source=pb.Source(id="shop"), update_mask={"paths": ["display_nam", "kind"]})
        )
    ) == [("update_mask.paths[0]", "UNKNOWN_FIELD"), ("update_mask.paths[1]", "UNKNOWN_FIELD")]
    assert await refused(
        shop.client.events.UpdateSource(
            pb.UpdateSourceRequest(
                source=pb.Source(id="shop", verifier=pb.Verifier(kind=pb.VERIFIER_KIND_GITHUB)),
                update_mask={"paths": ["display_name", "verifier"]},
            )
        )
    ) == [("source.verifier.secrets", "REQUIRED"), ("source.display_name", "REQUIRED")]


async def test_what_is_not_there_or_has_no_url_is_told(shop: Poster) -> None:
    events = shop.client.events
    await events.CreateSource(
        pb.CreateSourceRequest(source_id="form", display_name="Form", kind=pb.SOURCE_KIND_WEBHOOK)
    )
    for call in (
        events.GetSource(pb.GetSourceRequest(source_id="none")),
        events.UpdateSource(pb.UpdateSourceRequest(source=pb.Source(id="none", display_name="x"))),
        events.RotateInboundUrl(pb.RotateInboundUrlRequest(source_id="none")),
        events.TryMapping(pb.TryMappingRequest(source_id="none", body="{}")),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="There is no source none"):
            await call
    rotate = pb.RotateInboundUrlRequest(source_id="form")
    assert await refused(events.RotateInboundUrl(rotate)) == [("source_id", "NOT_INBOUND")]
    rotate = pb.RotateInboundUrlRequest(source_id="form", grace_period={"seconds": 31 * 86_400})
    assert await refused(events.RotateInboundUrl(rotate)) == [("grace_period", "OUT_OF_RANGE")]


async def test_a_mapping_can_be_tried_without_storing_anything(shop: Poster) -> None:
    await shop.begin(mapping=pb.Mapping(event_name="body.kind"), schema={"required": ["email"]})

    async def tried(body: str, mapping: pb.Mapping | None = None, **headers: str) -> pb.TryMappingResponse:
        request = pb.TryMappingRequest(source_id="shop", body=body, mapping=mapping)
        request.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        return await shop.client.events.TryMapping(request)

    good = await tried('{"kind": "a", "email": "ada@example.com"}', Webhook_Id="m")
    assert good.result == pb.IngestResult(status=pb.INGEST_STATUS_ACCEPTED)
    assert (good.event.event_name, good.event.source_id, good.event.message_id) == ("a", "shop", "m")
    assert dict(good.event.fields) == {"kind": "a", "email": "ada@example.com"}
    misfits = {
        "mapping.event_name": await tried("{}"),
        "fields": await tried('{"kind": "a"}'),
        "fields.email": await tried('{"kind": "a", "email": "nobody"}'),
        "body": await tried("<x/>", Content_Type="application/json"),
    }
    assert {field: answer.result.field for field, answer in misfits.items()} == {field: field for field in misfits}
    assert {answer.result.status for answer in misfits.values()} == {pb.INGEST_STATUS_QUARANTINED}
    other = await tried(
        "a=1&email=ada%40example.com",
        pb.Mapping(event_name='"b"', when="body.a == '1'"),
        Content_Type="application/x-www-form-urlencoded",
    )
    assert (other.event.event_name, other.left_out) == ("b", False)
    assert (await tried("{}", pb.Mapping(event_name='"b"', when="body.a == 1"))).left_out
    request = pb.TryMappingRequest(source_id="shop", body="{}", mapping=pb.Mapping(fields={"email": "bdy.x"}))
    assert await refused(shop.client.events.TryMapping(request)) == [
        ("mapping.fields[email]", "EXPRESSION_UNKNOWN_NAME")
    ]
    assert (await shop.events(), await shop.quarantined()) == ([], [])


@pytest.mark.both_databases
async def test_the_last_event_is_noted_to_the_minute(shop: Poster) -> None:
    await shop.begin()
    for _ in range(3):
        await shop.send({"type": "a"})
    got = await shop.client.events.GetSource(pb.GetSourceRequest(source_id="shop"))
    assert got.last_event_time.ToJsonString() == "2026-03-02T09:00:00.001Z"


async def test_a_source_of_the_inbound_kind_is_told_apart_at_other_doors(shop: Poster) -> None:
    await shop.begin()
    async with shop.core.http() as http:
        event = {"event_type": "lead", "event_name": "x", "source_id": "shop", "fields": {}}
        answer = await http.post("/v2/event", json=event)
    assert (answer.status_code, "of the kind inbound" in answer.json()["error"]) == (400, True)
