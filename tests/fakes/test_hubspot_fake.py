"""The stand-in for HubSpot answers as the real one does, in the shapes that its public reference shows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx2
import pytest

from core.clock import ManualClock
from core.fakes.faults import BadFault
from core.fakes.hubspot import CLIENT, PRIVATE_TOKEN, HubSpotFake
from core.fakes.serving import serving

pytestmark = pytest.mark.anyio
AT = "/crm/v3/objects/contacts"


@pytest.fixture
def fake(clock: ManualClock) -> HubSpotFake:
    return HubSpotFake(clock)


@pytest.fixture
async def http(fake: HubSpotFake, anyio_backend: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with (
        serving(fake.application()) as url,
        httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {PRIVATE_TOKEN}"}) as client,
    ):
        yield client


async def test_an_email_is_unique(http: httpx2.AsyncClient) -> None:
    made = await http.post(AT, json={"properties": {"email": "Ada@example.com"}})
    assert made.status_code == 201
    assert made.json()["properties"]["email"] == "ada@example.com"
    again = await http.post(AT, json={"properties": {"email": "ada@example.com"}})
    assert again.status_code == 409
    assert again.json() == {
        "status": "error",
        "message": f"Contact already exists. Existing ID: {made.json()['id']}",
        "category": "CONFLICT",
    }


async def test_a_batch_with_some_bad_inputs_answers_207_where_inputs_can_be_told_apart(
    http: httpx2.AsyncClient,
) -> None:
    good = {"idProperty": "email", "id": "a@example.com", "properties": {"firstname": "A"}, "objectWriteTraceId": "t1"}
    bad = {**good, "id": "b@example.com", "properties": {"numemployees": "many"}, "objectWriteTraceId": "t2"}
    both = await http.post(f"{AT}/batch/upsert", json={"inputs": [good, bad]})
    assert both.status_code == 207
    body = both.json()
    assert [(one["objectWriteTraceId"], one["new"]) for one in body["results"]] == [("t1", True)]
    assert body["numErrors"] == 1
    assert body["errors"][0]["category"] == "VALIDATION_ERROR"
    assert body["errors"][0]["context"] == {"objectWriteTraceId": ["t2"]}
    del bad["objectWriteTraceId"]
    whole = await http.post(f"{AT}/batch/upsert", json={"inputs": [good, bad]})
    assert whole.status_code == 400
    many = await http.post(f"{AT}/batch/upsert", json={"inputs": [good] * 101})
    assert (many.status_code, many.json()["category"]) == (400, "VALIDATION_ERROR")


async def test_limits_are_told_in_headers_and_answered_with_429(http: httpx2.AsyncClient, fake: HubSpotFake) -> None:
    fake.ten_seconds.most = 2
    first = await http.get(AT)
    assert first.headers["x-hubspot-ratelimit-remaining"] == "1"
    await http.get(AT)
    over = await http.get(AT)
    assert over.status_code == 429
    assert over.json()["policyName"] == "TEN_SECONDLY_ROLLING"
    assert over.headers["retry-after"] == "10"
    fake.clock.advance(timedelta(seconds=10))  # type: ignore[attr-defined]
    assert (await http.get(AT)).status_code == 200


async def test_tokens_end_after_thirty_minutes(http: httpx2.AsyncClient, clock: ManualClock) -> None:
    form = {
        "grant_type": "refresh_token",
        "client_id": CLIENT[0],
        "client_secret": CLIENT[1],
        "refresh_token": CLIENT[2],
    }
    granted = (await http.post("/oauth/v1/token", data=form)).json()
    assert granted["expires_in"] == 1800
    headers = {"authorization": f"Bearer {granted['access_token']}"}
    assert (await http.get(AT, headers=headers)).status_code == 200
    clock.advance(timedelta(minutes=30, seconds=7))
    ended = await http.get(AT, headers=headers)
    assert (ended.status_code, ended.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    assert (await http.post("/oauth/v1/token", data={**form, "client_secret": "no"})).status_code == 400


async def test_search_finds_what_was_written_only_after_a_while(http: httpx2.AsyncClient, clock: ManualClock) -> None:
    await http.post(AT, json={"properties": {"email": "a@example.com", "firstname": "A"}})
    asked = {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "EQ", "value": "a@example.com"}]}]}
    assert (await http.post(f"{AT}/search", json=asked)).json()["total"] == 0
    clock.advance(timedelta(seconds=11))
    assert (await http.post(f"{AT}/search", json=asked)).json()["total"] == 1


async def test_faults_are_played_in_order_and_what_is_stored_can_be_looked_at(http: httpx2.AsyncClient) -> None:
    asked = await http.post("/fake/faults", json={"faults": ["502", "timeout-after-commit@contacts"]})
    assert asked.status_code == 200
    assert (await http.get(AT)).status_code == 502
    with pytest.raises(httpx2.TransportError):
        await http.post(AT, json={"properties": {"email": "<b>@example.com"}})
    assert (await http.get("/fake/records")).json()["contacts"][0]["email"] == "<b>@example.com"
    assert "&lt;b&gt;@example.com" in (await http.get("/")).text
    assert (await http.get("/fake/requests")).json()[-1]["status"] == 0
    refused = await http.post("/fake/faults", json={"faults": ["earthquake"]})
    assert refused.status_code == 400
    assert "timeout-after-commit" in refused.json()["error"]


def test_a_fault_that_is_none_is_refused(fake: HubSpotFake) -> None:
    with pytest.raises(BadFault):
        fake.watch.faults.add("502*")
