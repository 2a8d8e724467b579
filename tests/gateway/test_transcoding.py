"""The contract over HTTP: what a request becomes, what a reply looks like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest

from dripstone.v1 import agent_pb2, enrollment_pb2, event_pb2, record_pb2, webhook_pb2, workflow_pb2
from tests.gateway.serving import ENDED, Gateway

pytestmark = pytest.mark.anyio

BULK = "/api/v1/workflows/onboarding/enrollments/bulk"
EVENT = {
    "event_type": "lead",
    "event_name": "User signed up",
    "source_id": "034feb07-0cd7-4d44-bbdb-ae18a8a4132f",
    "fields": {"email": "test@example.com", "first_name": "First name", "last_name": "Last name"},
}


async def test_a_bulk_call_answers_contact_by_contact(gateway: Gateway) -> None:
    contacts = [
        {"email": "grace@example.com", "first_name": "Grace", "lead_ref": "L-1", "company_name": "Navy"},
        {"email": "ada@example.com"},
    ]
    answer = await gateway.http.post(BULK, json={"contacts": contacts, "timezone": "UTC"})
    assert answer.status_code == 201
    assert answer.json() == {
        "enrollment_ids": ["enr_0"],
        "created_count": 1,
        "results": [
            {
                "index": 0,
                "outcome": "enrolled",
                "enrollment_id": "enr_0",
                "contact_id": "",
                "reason": "",
                "field": "",
                "message": "",
                "nearest": "",
            },
            {
                "index": 1,
                "outcome": "already_enrolled",
                "enrollment_id": "enr_1",
                "contact_id": "",
                "reason": "",
                "field": "",
                "message": "",
                "nearest": "",
            },
        ],
        "preview_etag": "",
    }
    expected = enrollment_pb2.EnrollContactsRequest(workflow_id="onboarding", timezone="UTC")
    expected.contacts.add(email="grace@example.com", first_name="Grace", lead_ref="L-1", company_name="Navy")
    expected.contacts.add(email="ada@example.com")
    assert gateway.seen == [expected]


async def test_nothing_created_is_still_told_in_full(gateway: Gateway) -> None:
    answer = await gateway.http.post(BULK, json={"contacts": [{"email": "ada@example.com"}]})
    told = answer.json()
    assert (told["created_count"], told["enrollment_ids"]) == (0, [])
    assert [result["outcome"] for result in told["results"]] == ["already_enrolled"]


async def test_the_capture_route_answers_exactly_what_form_tools_expect(gateway: Gateway) -> None:
    answer = await gateway.http.post("/v2/event", json=EVENT)
    assert (answer.status_code, answer.text) == (200, '{"data":"ok"}')
    (request,) = gateway.seen
    assert isinstance(request, event_pb2.CaptureEventRequest)
    assert request.event.event_name == "User signed up"
    assert dict(request.event.fields) == EVENT["fields"]


async def test_a_reply_keeps_whole_numbers_whole_and_leaves_out_what_is_not_there(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/workflows/onboarding/enrollments/enr_9")
    assert answer.json() == {
        "id": "enr_9",
        "workflow_id": "onboarding",
        "version": 0,
        "contact_id": "",
        "key": "",
        "state": "awaiting_approval",
        "step_id": "",
        "variables": {"seats": 3, "share": 0.5, "plan": "größer", "tags": [1, None, True]},
        "end_reason": "",
        "create_time": "2026-03-02T09:00:00.250Z",
        "etag": '"7"',
        "goal": "",
        "paused": False,
    }
    assert '"seats":3.0' not in answer.text
    assert answer.headers["etag"] == '"7"'


async def test_an_additional_binding_reaches_the_same_method(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/enrollments/enr_9")
    assert (answer.json()["id"], answer.json()["workflow_id"]) == ("enr_9", "")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("page_size=20&page_token=t", {"page_size": 20, "page_token": "t"}),
        ("pageSize=20&pageToken=t", {"page_size": 20, "page_token": "t"}),
        ("filter=state%20%3D%20%22active%22", {"filter": 'state = "active"'}),
        ("filter=", {}),
        ("filter=gr%C3%B6%C3%9Fer+als", {"filter": "größer als"}),
    ],
)
async def test_query_parameters_fill_the_request(gateway: Gateway, query: str, expected: dict[str, object]) -> None:
    answer = await gateway.http.get(f"/api/v1/workflows/onboarding/enrollments?{query}")
    assert answer.json() == {"enrollments": [], "next_page_token": ""}
    assert gateway.seen == [enrollment_pb2.ListEnrollmentsRequest(workflow_id="onboarding", **expected)]  # type: ignore[arg-type]


async def test_path_body_and_query_meet_in_one_request(gateway: Gateway) -> None:
    answer = await gateway.http.patch(
        "/api/v1/webhooks/ep_1?update_mask=url,retry_preset&validate_only=true",
        json={"url": "https://example.com/hook", "retryPreset": "quick", "event_types": ["lead.qualified"]},
    )
    assert answer.status_code == 200
    expected = webhook_pb2.UpdateEndpointRequest(validate_only=True)
    expected.endpoint.id = "ep_1"
    expected.endpoint.url = "https://example.com/hook"
    expected.endpoint.retry_preset = webhook_pb2.RETRY_PRESET_QUICK
    expected.endpoint.event_types.append("lead.qualified")
    expected.update_mask.paths.extend(["url", "retry_preset"])
    assert gateway.seen == [expected]
    assert (answer.json()["retry_preset"], answer.json()["state"]) == ("quick", "unspecified")


@pytest.mark.parametrize("spelling", ["quick", "QUICK", "RETRY_PRESET_QUICK", "retry_preset_quick"])
async def test_enum_values_are_known_by_short_and_full_name(gateway: Gateway, spelling: str) -> None:
    answer = await gateway.http.patch("/api/v1/webhooks/ep_1", json={"retry_preset": spelling})
    assert answer.json()["retry_preset"] == "quick"


async def test_durations_and_maps_and_nested_documents_arrive(gateway: Gateway) -> None:
    await gateway.http.post("/api/v1/webhooks/ep_1/rotate_secret", json={"grace_period": "90s"})
    step = {"id": "hello", "kind": "log", "config": {"text": "hi", "times": 2}, "exits": {"ok": "end"}}
    await gateway.http.post("/api/v1/workflows", json={"workflow_id": "w", "document": {"title": "T", "steps": [step]}})
    rotation = webhook_pb2.RotateSecretRequest(endpoint_id="ep_1")
    rotation.grace_period.seconds = 90
    creation = workflow_pb2.CreateWorkflowRequest(workflow_id="w")
    creation.document.title = "T"
    made = creation.document.steps.add(id="hello", kind="log", exits={"ok": "end"})
    made.config.update({"text": "hi", "times": 2})
    assert gateway.seen == [rotation, creation]


async def test_null_means_not_given_but_stays_null_in_free_form_fields(gateway: Gateway) -> None:
    answer = await gateway.http.post(
        "/api/v1/crm/records",
        json={"type": "contact", "fields": {"phone": None}, "external_ref": None, "reason": None},
    )
    assert answer.json()["record"]["fields"] == {"phone": None}
    (request,) = gateway.seen
    assert isinstance(request, record_pb2.UpsertRecordRequest)
    assert not request.HasField("external_ref")


async def test_a_literal_segment_wins_over_a_variable(gateway: Gateway) -> None:
    assert (await gateway.http.get("/api/v1/workflows/step_types")).json() == {"step_types": []}
    # Only POST is a route of its own here; a workflow may be called so.
    assert (await gateway.http.get("/api/v1/workflows/validate")).json()["id"] == "validate"


async def test_an_escaped_slash_belongs_to_its_segment(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/workflows/a%2Fb%20%C3%BC?version=2")
    assert (answer.json()["id"], answer.json()["version"]) == ("a/b ü", 2)


async def test_an_empty_answer_has_no_body(gateway: Gateway) -> None:
    answer = await gateway.http.delete("/api/v1/webhooks/ep_1")
    assert (answer.status_code, answer.content) == (204, b"")


async def test_an_empty_body_is_an_empty_object(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/v1/webhooks/ep_1/rotate_secret")
    assert answer.json() == {"secret": "whsec_example"}


async def test_the_idempotency_header_is_the_request_id_and_a_replay_says_so(gateway: Gateway) -> None:
    body = {"contacts": [{"email": "grace@example.com"}]}
    first = await gateway.http.post(BULK, json=body, headers={"Idempotency-Key": "signup-1"})
    again = await gateway.http.post(BULK, json=body, headers={"Idempotency-Key": "signup-1"})
    in_body = await gateway.http.post(BULK, json=body | {"request_id": "signup-1"})
    other = await gateway.http.post(BULK, json={"contacts": [{"email": "x@example.com"}], "request_id": "signup-1"})
    assert "idempotent-replayed" not in first.headers
    for replay in (again, in_body):
        assert (replay.status_code, replay.content) == (201, first.content)
        assert replay.headers["idempotent-replayed"] == "true"
    assert len(gateway.seen) == 1
    assert (other.status_code, other.json()["error"]["reason"]) == (409, "IDEMPOTENCY_CONFLICT")


async def test_the_idempotency_header_also_fills_an_idempotency_key_field(gateway: Gateway) -> None:
    body = {"type": "workflow", "input": {"email": "grace@example.com"}}
    path = "/api/v1/agents/greeter/execute"
    first = await gateway.http.post(path, json=body, headers={"Idempotency-Key": "run-1"})
    again = await gateway.http.post(path, json=body | {"idempotency_key": "run-1"})
    assert (first.status_code, again.content) == (201, first.content)
    (request,) = gateway.seen
    assert isinstance(request, agent_pb2.ExecuteRequest)
    assert request.idempotency_key == "run-1"


@pytest.mark.parametrize("header", ['"3"', "3", "*"])
async def test_a_matching_etag_passes(gateway: Gateway, header: str) -> None:
    answer = await gateway.http.patch("/api/v1/webhooks/ep_1", json={"description": "d"}, headers={"If-Match": header})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"4"')


@pytest.mark.parametrize("header", ['"2"', 'W/"3"', '"2", "3"'])
async def test_a_failed_if_match_is_412(gateway: Gateway, header: str) -> None:
    answer = await gateway.http.patch("/api/v1/webhooks/ep_1", json={}, headers={"If-Match": header})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (412, "ETAG_MISMATCH")


async def test_a_stale_etag_in_the_body_is_409(gateway: Gateway) -> None:
    answer = await gateway.http.patch("/api/v1/webhooks/ep_1", json={"etag": '"2"'})
    assert (answer.status_code, answer.json()["error"]["status"]) == (409, "ABORTED")


async def test_a_request_id_comes_back_and_the_trace_context_goes_on(gateway: Gateway) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = await gateway.http.get("/api/v1/caller", headers={"X-Request-Id": "r-1", "traceparent": trace})
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.json()["display_name"] == trace


async def test_a_request_id_unfit_for_a_log_is_replaced(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/caller", headers={"X-Request-Id": "a" * 129})
    assert answer.headers["x-request-id"].startswith("req_")


async def test_head_is_get_without_its_body(gateway: Gateway) -> None:
    got, head = await gateway.http.get("/api/v1/caller"), await gateway.http.head("/api/v1/caller")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))


async def test_options_lists_what_a_path_answers(gateway: Gateway) -> None:
    answer = await gateway.http.options("/api/v1/webhooks/ep_1")
    assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")


async def test_a_server_stream_is_json_lines(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/enrollments/enr_1/watch?resume_token=0")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["entry"]["seq"], line["resume_token"]) for line in lines] == [(1, "1"), (2, "2")]


async def test_a_stream_refused_at_the_start_has_a_status(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/enrollments/enr_gone/watch")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "NOT_FOUND")


async def test_a_stream_that_breaks_ends_with_an_error_line(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/enrollments/enr_broken/watch", headers={"X-Request-Id": "r-1"})
    *_, last = [json.loads(line) for line in answer.text.splitlines()]
    assert last == {
        "error": {
            "code": 500,
            "status": "INTERNAL",
            "reason": "INTERNAL",
            "message": "Something went wrong on our side; it is logged under the reference r-1.",
            "hint": "Try again; if it persists, report the reference.",
            "request_id": "r-1",
            "details": [],
        }
    }


async def test_a_reader_that_leaves_ends_the_stream(gateway: Gateway) -> None:
    read, arrived = [], asyncio.Event()
    received = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, object]:
        if (message := next(received, None)) is not None:
            return message
        await arrived.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        read.append(message)
        if b'"seq":2' in message.get("body", b""):
            arrived.set()

    path = "/api/v1/enrollments/enr_endless/watch"
    key = gateway.http.headers["authorization"].encode()
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", key)],
    }
    ENDED.clear()
    with anyio.fail_after(5):
        await gateway.app(scope, receive, send)
        await asyncio.sleep(0)  # the handler's generator is closed by the event loop, one turn later
    assert ENDED == ["enr_endless"]
    assert read[0]["status"] == 200
