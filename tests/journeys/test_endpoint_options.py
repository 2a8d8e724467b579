"""Every option of an endpoint over HTTP and over gRPC: one meaning, every violation at once, no secret in an answer."""

from __future__ import annotations

from typing import Any

import pytest

from dripstone.v1 import webhook_pb2 as pb
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

ENDPOINT: dict[str, Any] = {
    "url": "https://hooks.example.com/in",
    "filter": "event.data.amount > 100",
    "headers": {"X-Team": "sales"},
    "auth": {
        "oauth2": {
            "token_url": "https://id.example.com/token",
            "client_id": "c",
            "client_secret": "hid-den",
            "scope": "s",
        }
    },
    "extra_signatures": [
        {"format": "SIGNATURE_FORMAT_V1A"},
        {"format": "SIGNATURE_FORMAT_SHA256_HEX", "header": "X-Drippi-Signature"},
    ],
    "payload_format": "PAYLOAD_FORMAT_ARRAY",
    "retry_delays": ["1s", "2.500s"],
    "rate_per_second": 0.5,
    "max_in_flight": 2,
    "ordering": "ORDERING_BY_CONTACT",
    "require_verification": True,
}


async def test_an_endpoint_made_over_http_is_the_same_over_grpc(core: RunningCore) -> None:
    async with core.http() as http, core.client() as client:
        made = await http.post("/api/v1/webhooks", json=ENDPOINT)
        assert made.status_code == 201, made.text
        shown = made.json()["endpoint"]
        read = await client.webhooks.GetEndpoint(pb.GetEndpointRequest(endpoint_id=shown["id"]))
        assert (read.filter, dict(read.headers), read.rate_per_second) == (ENDPOINT["filter"], ENDPOINT["headers"], 0.5)
        assert [delay.ToTimedelta().total_seconds() for delay in read.retry_delays] == [1, 2.5]
        assert (read.max_in_flight, read.ordering, read.payload_format) == (2, pb.ORDERING_BY_CONTACT, 3)
        assert read.verification == pb.VERIFICATION_UNVERIFIED
        assert read.auth.oauth2 == pb.OAuth2Auth(token_url="https://id.example.com/token", client_id="c", scope="s")
        assert read.public_key == shown["public_key"]
        listed = await http.get("/api/v1/webhooks")
        (again,) = listed.json()["endpoints"]
        assert again == shown == (await http.get(f"/api/v1/webhooks/{shown['id']}")).json()
        assert "hid-den" not in made.text + listed.text + str(read)


async def test_a_repeated_call_gives_the_endpoint_without_any_secret(core: RunningCore) -> None:
    async with core.http() as http:
        key = {"Idempotency-Key": "make-it-once"}
        first = await http.post("/api/v1/webhooks", json=ENDPOINT, headers=key)
        again = await http.post("/api/v1/webhooks", json=ENDPOINT, headers=key)
    assert first.json()["secret"].startswith("whsec_")
    assert again.json()["endpoint"] == first.json()["endpoint"]
    assert "whsec_" not in again.text
    assert "hid-den" not in again.text
    async with core.core.database.system() as tx:
        (row,) = await tx.fetch("SELECT secrets, auth, signing_seed FROM endpoints")
    assert [str(cell).count("sealed:1:mk_") for cell in row] == [1, 1, 1]
    assert "hid-den" not in str(row)


async def test_every_violation_comes_with_its_field_and_a_way_out(core: RunningCore) -> None:
    wrong = {
        **ENDPOINT,
        "url": "https://169.254.169.254/latest",
        "filter": "event.data.amount >",
        "headers": {"Host": "x", "X-A": "1\r\nX-B: 2"},
        "auth": {"oauth2": {"token_url": "https://localhost/"}},
        "extra_signatures": [{"format": "SIGNATURE_FORMAT_TIMESTAMPED"}],
        "retry_delays": ["0s"],
        "rate_per_second": 5000,
        "max_in_flight": 1000,
    }
    async with core.http() as http:
        answer = await http.post("/api/v1/webhooks", json=wrong)
        none = await http.get("/api/v1/webhooks")
    assert answer.status_code == 400
    details = answer.json()["error"]["details"]
    assert {detail["field"] for detail in details} == {
        "url",
        "filter",
        "headers[Host]",
        "headers[X-A]",
        "auth.oauth2.token_url",
        "auth.oauth2.client_id",
        "auth.oauth2.client_secret",
        "extra_signatures[0].header",
        "retry_delays[0]",
        "rate_per_second",
        "max_in_flight",
    }
    assert all(detail["message"] and detail["hint"] for detail in details)
    assert none.json().get("endpoints", []) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"filter": "x" * 2001}, "filter"),
        ({"extra_signatures": [{"format": "SIGNATURE_FORMAT_V1A"}] * 5}, "extra_signatures"),
        ({"extra_signatures": [{"header": "X-A"}]}, "extra_signatures[0].format"),
        ({"retry_delays": ["1s"] * 21}, "retry_delays"),
    ],
)
async def test_limits_of_the_contract_are_told_in_the_same_way(core: RunningCore, change: Any, field: str) -> None:
    async with core.http() as http:
        answer = await http.post("/api/v1/webhooks", json={**ENDPOINT, **change})
    assert answer.status_code == 400
    assert field in {detail["field"] for detail in answer.json()["error"]["details"]}
