"""Refusals over HTTP: the status, the body, and nothing of the inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.domain.errors import Invalid, RateLimited, Violation
from core.domain.nearest import did_you_mean
from core.gateway import errors
from tests.gateway.serving import Gateway, detail

pytestmark = pytest.mark.anyio

BULK = "/api/v1/workflows/onboarding/enrollments/bulk"
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (
            {"event_type": "lead"},
            400,
            "event_name: is required and missing (Set event_name.); "
            "source_id: is required and missing (Set source_id.); "
            "fields: is required and missing (Set fields.)",
        ),
        ({"event_typ": "lead"}, 400, "event_typ: is not a field here (Did you mean event_type?)"),
        (
            {"event_type": "lead", "event_name": "e", "source_id": "nowhere", "fields": {}},
            400,
            "There is no source nowhere. Check the id; list the sources to see what there is.",
        ),
        (
            {"event_type": "lead", "event_name": "e", "source_id": "elsewhere", "fields": {}},
            400,
            "source_id: is an affiliate source (Set source_id to another.)",
        ),
    ],
)
async def test_the_capture_route_refuses_with_one_text(
    gateway: Gateway, body: dict[str, Any], status: int, text: str
) -> None:
    answer = await gateway.http.post("/v2/event", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": text})


@pytest.mark.parametrize("key", ["Bearer wrong", "Basic abc", ""])
async def test_the_capture_route_tells_a_missing_key_in_the_same_form(gateway: Gateway, key: str) -> None:
    answer = await gateway.http.post("/v2/event", content=b"not even JSON", headers={"authorization": key})
    way_out = "Send `Authorization: Bearer <API key>`; a key starts with dripstone_live_."
    text = f"The request carries no valid API key. {way_out}"
    assert (answer.status_code, answer.json()) == (401, {"error": text})


async def test_paths_of_a_wrapped_body_are_those_of_the_body_that_was_sent(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/v1/events", json={"event_type": "lead", "event_name": "e", "source_id": "s"})
    error = answer.json()["error"]
    assert error["message"] == "The request is not well formed: fields: is required and missing"
    assert error["details"] == [detail("fields", "REQUIRED", "is required and missing", "Set fields.")]


def test_what_was_probably_meant_stays_beside_a_path_as_it_was_sent() -> None:
    meant = did_you_mean("contct", ["contact"])
    error = errors.as_sent(Invalid(Violation("event.type", "UNKNOWN_VALUE", "is no type", meant)), "event")
    (told,) = errors.body(error, 400, "req_1")["error"]["details"]
    assert told == detail("type", "UNKNOWN_VALUE", "is no type", "Did you mean contact?", "contact")


async def test_violations_of_a_domain_error_are_details(gateway: Gateway) -> None:
    answer = await gateway.http.post("/api/v1/workflows", json={"source": "draw me"})
    error = answer.json()["error"]
    assert (answer.status_code, error["status"], error["reason"]) == (400, "FAILED_PRECONDITION", "NOT_DRAWABLE")
    assert error["details"] == [detail("steps[0]", "NO_SHAPE", "has no shape")]


async def test_who_has_no_key_is_told_before_anything_is_read(gateway: Gateway) -> None:
    answer = await gateway.http.post(BULK, content=b"{" * 100, headers=JSON | {"authorization": "Bearer no"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="dripstone"')
    assert answer.json()["error"]["reason"] == "UNAUTHENTICATED"


async def test_a_missing_scope_is_403_and_names_it(gateway: Gateway) -> None:
    key = {"authorization": f"Bearer {gateway.agent_key}"}
    answer = await gateway.http.post("/api/v1/webhooks/ep_1/rotate_secret", json={}, headers=key)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "SCOPE_MISSING")
    assert "webhooks:write" in answer.json()["error"]["message"]


async def test_what_does_not_exist_is_404(gateway: Gateway) -> None:
    body = {"contacts": [{"email": "a@example.com"}]}
    answer = await gateway.http.post("/api/v1/workflows/ghost/enrollments/bulk", json=body)
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "There is no workflow ghost.")


async def test_a_wait_is_told_in_whole_seconds(gateway: Gateway) -> None:
    answer = await gateway.http.delete("/api/v1/webhooks/ep_busy")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")


def test_a_limit_is_429() -> None:
    answer = errors.answer(RateLimited(limit="5", retry_after=0.01), errors.http_status(RateLimited(limit="5")), "r-1")
    assert (errors.http_status(RateLimited(limit="5")), answer.headers["retry-after"]) == (429, "1")


async def test_a_programming_error_shows_nothing_of_the_inside(gateway: Gateway) -> None:
    answer = await gateway.http.get("/api/v1/webhooks/ep_1", headers={"X-Request-Id": "r-1"})
    assert answer.status_code == 500
    assert answer.json()["error"]["message"].endswith("reference r-1.")
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/api/v1/workflow", "Did you mean /api/v1/workflows? "),
        ("/api/v1/workflows/", "Did you mean /api/v1/workflows? "),
        ("/api/v1/workflows//enrollments", "Did you mean /api/v1/workflows/{workflow_id}/enrollments? "),
        ("/api/q", ""),
    ],
)
async def test_an_unknown_route_is_404_with_the_nearest_one(gateway: Gateway, path: str, near: str) -> None:
    answer = await gateway.http.get(path)
    error = answer.json()["error"]
    assert (answer.status_code, error["reason"]) == (404, "ROUTE_NOT_FOUND")
    assert error["hint"] == f"{near}GET /openapi.json lists every route."


async def test_an_unknown_path_elsewhere_is_json_too(gateway: Gateway) -> None:
    answer = await gateway.http.get("/nowhere")
    assert (answer.status_code, answer.json()["error"]["reason"]) == (404, "ROUTE_NOT_FOUND")


async def test_a_path_that_is_not_utf8_is_404(gateway: Gateway) -> None:
    assert (await gateway.http.get("/api/v1/workflows/%FF")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/api/v1/webhooks/ep_1", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("GET", "/v2/event", "OPTIONS, POST"),
        ("HEAD", "/api/v1/enrollments/enr_1/watch", "GET, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
async def test_a_verb_that_a_path_does_not_answer_is_405(
    gateway: Gateway, method: str, path: str, allowed: str
) -> None:
    answer = await gateway.http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
        ({"content-type": "application/json; charset=UTF-8"}, 201),
        ({"content-type": "application/vnd.example+json"}, 201),
        ({}, 201),
    ],
)
async def test_only_plain_json_in_utf8_is_read(gateway: Gateway, headers: dict[str, str], status: int) -> None:
    answer = await gateway.http.post(BULK, content=b'{"contacts": [{"email": "a@example.com"}]}', headers=headers)
    assert answer.status_code == status


async def test_a_body_over_the_limit_is_413_whether_or_not_its_length_is_told(gateway: Gateway) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1024 * 1024

    told = await gateway.http.post(BULK, content=b" " * (4 * 1024 * 1024 + 1), headers=JSON)
    untold = await gateway.http.post(BULK, content=chunks(), headers=JSON)
    for answer in (told, untold):
        assert (answer.status_code, answer.json()["error"]["reason"]) == (413, "BODY_TOO_LARGE")


async def test_no_more_than_a_hundred_violations_are_told(gateway: Gateway) -> None:
    answer = await gateway.http.post(BULK, json={"contacts": [7] * 1000})
    assert len(answer.json()["error"]["details"]) == 100
