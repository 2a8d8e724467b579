"""The HTTP face with the exact bodies that backends already post: captures, bulk enrollment, agent execution."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.running import NO_ROOTS, RunningCore

pytestmark = pytest.mark.anyio

WORKFLOW = {
    "workflow_id": "onboarding",
    "publish": True,
    "source": """
title: Onboarding
steps:
  - {id: pause, kind: wait, for: 1d}
  - {id: done, kind: exit, reason: told, result: {greeted: true}}
""",
}
LEAD: dict[str, Any] = {
    "event_type": "lead",
    "event_name": "User signed up",
    "source_id": "034feb07-0cd7-4d44-bbdb-ae18a8a4132f",
    "fields": {"email": "test@example.com", "first_name": "First name", "last_name": "Last name", "question_1": "yes"},
}


@pytest.fixture
async def http(core: RunningCore) -> AsyncIterator[httpx2.AsyncClient]:
    async with core.http() as client:
        for source, kind in ((LEAD["source_id"], "webhook"), ("partners", "affiliate")):
            made = await client.post(
                "/api/v1/sources", json={"source_id": source, "display_name": source, "kind": kind}
            )
            assert made.status_code == 201, made.text
        assert (await client.post("/api/v1/workflows", json=WORKFLOW)).status_code == 201
        yield client


async def test_a_captured_event_answers_ok_and_makes_the_person_and_the_lead(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/v2/event", json=LEAD)
    assert (answer.status_code, answer.json()) == (200, {"data": "ok"})
    (contact,) = (await http.get("/api/v1/crm/records", params={"type": "contact"})).json()["records"]
    assert contact["fields"]["first_name"] == "First name"
    assert "question_1" not in contact["fields"]
    (lead,) = (await http.get("/api/v1/crm/records", params={"type": "lead"})).json()["records"]
    assert (lead["fields"]["contact_id"], lead["fields"]["status"]) == (contact["id"], "new")


async def test_an_affiliate_capture_has_its_own_door(http: httpx2.AsyncClient) -> None:
    body = {**LEAD, "source_id": "partners"}
    right = await http.post("/v2/affiliate_event", json=body)
    assert (right.status_code, right.json()) == (200, {"data": "ok"})
    wrong = await http.post("/v2/event", json=body)
    assert wrong.status_code == 400
    assert list(wrong.json()) == ["error"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"event_type": "leed"}, "lead"),
        ({"event_name": ""}, "event_name"),
        ({"source_id": "nobody"}, "source_id"),
        ({"fields": None}, "fields"),
        ({"created_at": "yesterday"}, "created_at"),
        ({"created_at": "2031-01-01T00:00:00Z"}, "created_at"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_bad_capture_is_refused_in_the_seeds_form_and_stores_nothing(
    http: httpx2.AsyncClient, change: dict[str, Any], told: str
) -> None:
    answer = await http.post("/v2/event", json={**LEAD, **change})
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert told in answer.json()["error"]
    assert (await http.get("/api/v1/events")).json()["events"] == []


async def test_event_id_and_person_id_link_a_person_and_never_drop_an_event(http: httpx2.AsyncClient) -> None:
    for fields in ({"email": "test@example.com"}, {"plan": "pro"}, {"plan": "max"}):
        body = {**LEAD, "event_type": "action", "event_id": "e-1", "person_id": "p-1", "fields": fields}
        assert (await http.post("/v2/event", json=body)).json() == {"data": "ok"}
    stored = (await http.get("/api/v1/events")).json()["events"]
    assert len(stored) == 3
    assert len({event["contact_id"] for event in stored}) == 1


async def test_a_message_id_drops_the_repetition_and_still_answers_ok(http: httpx2.AsyncClient) -> None:
    body = {**LEAD, "message_id": "m-1"}
    for _ in range(2):
        assert (await http.post("/v2/event", json=body)).json() == {"data": "ok"}
    assert len((await http.get("/api/v1/events")).json()["events"]) == 1


async def test_a_batch_of_events_says_item_by_item_what_happened(http: httpx2.AsyncClient) -> None:
    events = [
        {**LEAD, "message_id": "b-1"},
        {**LEAD, "message_id": "b-1"},
        {**LEAD, "event_name": ""},
        {**LEAD, "source_id": "nobody"},
        {**LEAD, "fields": {"email": "no e-mail"}},
        {**LEAD, "event_name": "x" * 201},
    ]
    answer = await http.post("/api/v1/events/batch", json={"events": events})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [(result["status"], result["field"]) for result in results] == [
        ("accepted", ""),
        ("duplicate", ""),
        ("rejected", "event_name"),
        ("rejected", "source_id"),
        ("rejected", "fields.email"),
        ("rejected", "event_name"),
    ]
    assert results[1]["event_id"] == results[0]["event_id"]
    assert all(result["reason"] and result["message"] for result in results[2:])


async def test_a_stranger_is_told_so_in_the_seeds_form(core: RunningCore) -> None:
    async with httpx2.AsyncClient(base_url=core.http_url, verify=NO_ROOTS) as stranger:
        answer = await stranger.post("/v2/event", json=LEAD)
    assert answer.status_code == 401
    assert list(answer.json()) == ["error"]


async def test_bulk_enrollment_answers_contact_by_contact(http: httpx2.AsyncClient) -> None:
    contacts = [
        {"email": "a@example.com", "first_name": "A", "lead_ref": "l-1", "company_name": "Acme"},
        {"email": "A@example.com "},
        {"email": "no e-mail"},
        {"first_name": "Nobody"},
        {"contact_id": "cnt_nobody"},
        {"email": "b@example.com", "first_name": "B" * 201},
        {"email": "c@example.com", "variables": {"note": "\0"}},
        {"email": "d@example.com", "external_ref": {"system": "hubspot"}},
    ]
    url = "/api/v1/workflows/onboarding/enrollments/bulk"
    answer = await http.post(url, json={"contacts": contacts, "timezone": "UTC"})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert body["created_count"] == len(body["enrollment_ids"]) == 1
    assert [(result["outcome"], result["field"]) for result in body["results"]] == [
        ("enrolled", ""),
        ("duplicate_in_request", ""),
        ("invalid", "contacts[2].email"),
        ("invalid", "contacts[3].email"),
        ("invalid", "contacts[4].contact_id"),
        ("invalid", "contacts[5].first_name"),
        ("invalid", "contacts[6].variables.note"),
        ("invalid", "contacts[7].external_ref.id"),
    ]
    again = (await http.post(url, json={"contacts": contacts[:1]})).json()
    assert again["created_count"] == 0
    assert again["results"][0]["outcome"] == "already_enrolled"
    assert again["results"][0]["enrollment_id"] == body["enrollment_ids"][0]
    assert again["results"][0]["message"]


async def test_bulk_enrollment_in_a_workflow_that_is_not_active_enrolls_nobody(http: httpx2.AsyncClient) -> None:
    await http.post("/api/v1/workflows/onboarding/archive", json={})
    answer = await http.post(
        "/api/v1/workflows/onboarding/enrollments/bulk", json={"contacts": [{"email": "a@example.com"}]}
    )
    assert (answer.status_code, answer.json()["error"]["reason"]) == (400, "WORKFLOW_NOT_ACTIVE")
    assert (await http.get("/api/v1/crm/records", params={"type": "contact"})).json()["records"] == []


async def test_an_execution_is_stored_replayed_and_told_as_it_goes_on(
    core: RunningCore, http: httpx2.AsyncClient
) -> None:
    agent = {"agent_id": "greeter", "display_name": "Greeter", "workflow_id": "onboarding"}
    assert (await http.post("/api/v1/agents", json=agent)).status_code == 201
    body = {"type": "workflow", "input": {"email": "a@example.com", "plan": "pro"}, "idempotency_key": "run-1"}
    first = await http.post("/api/v1/agents/greeter/execute", json=body)
    again = await http.post("/api/v1/agents/greeter/execute", json=body)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first.json()["state"] == "running"
    other = await http.post("/api/v1/agents/greeter/execute", json={**body, "input": {"email": "b@example.com"}})
    assert other.status_code == 409
    await core.pass_time(timedelta(days=1))
    done = (await http.get(f"/api/v1/executions/{first.json()['id']}")).json()
    assert (done["state"], done["result"]["done"]) == ("succeeded", {"greeted": True})
    nobody = await http.post("/api/v1/agents/greeter/execute", json={"type": "workflow", "input": {"plan": "pro"}})
    assert nobody.json()["error"]["details"][0]["reason"] == "NO_CONTACT"


async def test_an_enrollment_can_be_read_watched_and_deleted(core: RunningCore, http: httpx2.AsyncClient) -> None:
    url = "/api/v1/workflows/onboarding/enrollments"
    contacts = {"contacts": [{"email": "a@example.com"}]}
    (enrollment,) = (await http.post(f"{url}/bulk", json=contacts)).json()["enrollment_ids"]
    assert (await http.get(f"{url}/{enrollment}")).json()["waiting"]["kind"] == "timer"
    assert (await http.get(f"/api/v1/workflows/other/enrollments/{enrollment}")).status_code == 404
    async with http.stream("GET", f"/api/v1/enrollments/{enrollment}/watch") as stream:
        lines = aiter(stream.aiter_lines())
        assert '"entered"' in await anext(lines)
    assert (await http.delete(f"{url}/{enrollment}")).status_code == 204
    assert (await http.get(f"{url}/{enrollment}")).status_code == 404
    assert (await http.post(f"{url}/bulk", json=contacts)).json()["created_count"] == 1


async def test_operations_answer_without_a_key(core: RunningCore) -> None:
    async with httpx2.AsyncClient(base_url=core.http_url, verify=NO_ROOTS) as stranger:
        assert (await stranger.get("/healthz")).status_code == 200
        assert (await stranger.get("/readyz")).status_code == 200
        assert "dripstone_rpc_seconds" in (await stranger.get("/metrics")).text
        assert (await stranger.get("/openapi.json")).json()["openapi"].startswith("3.1")
