"""The capture routes, sentence by sentence as the tools that post to them were told, and whatever else may come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from core.store.events import events
from core.store.records import records
from dripstone.v1.client import Client
from tests.rpc.ingestion_calls import add_source, stored
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

SIMPLE: dict[str, Any] = {
    "event_type": "lead",
    "event_name": "User signed up",
    "source_id": "034feb07-0cd7-4d44-bbdb-ae18a8a4132f",
    "fields": {"email": "test@driftrock.com", "first_name": "First name", "last_name": "Last name"},
}
"""The documented example."""
AFFILIATE = "0b6d3a86-9a70-4bbd-8a4c-0f14c2a2d7f1"
OK = (200, {"data": "ok"})


@dataclass(frozen=True, slots=True)
class Capture:
    """A core with a source of each kind, and an HTTP client."""

    core: RunningCore
    http: httpx2.AsyncClient

    async def post(self, body: Any, route: str = "/v2/event", **headers: str) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", "accept": "application/json", **headers}
        answer = await self.http.post(route, content=content, headers=headers)
        return answer.status_code, answer.json()

    async def rows(self) -> list[Any]:
        async with self.core.core.database.read(self.core.organization.org_id) as tx:
            table = events.events
            return list(await tx.all(select(table).where(table.c.event_type != "record").order_by(table.c.id)))


@pytest.fixture
async def capture(core: RunningCore) -> AsyncIterator[Capture]:
    async with core.client() as client:
        await _sources(client)
    async with core.http() as http:
        yield Capture(core, http)


async def _sources(client: Client) -> None:
    await add_source(client, SIMPLE["source_id"])
    await add_source(client, AFFILIATE, "AFFILIATE")


def but(**changed: Any) -> dict[str, Any]:
    """Return the example with some of it changed; None leaves a field out."""
    return {name: value for name, value in {**SIMPLE, **changed}.items() if value is not None}


async def test_the_documented_example_is_stored_as_it_came(capture: Capture) -> None:
    assert await capture.post(SIMPLE) == OK
    (row,) = await capture.rows()
    assert {name: getattr(row, name) for name in SIMPLE} == SIMPLE
    assert row.occurred_at == row.received_at == capture.core.clock.now()  # "set to the moment … receives the event"
    async with capture.core.core.database.read(capture.core.organization.org_id) as tx:
        contact = await records.get(tx, row.contact_id)
    assert contact is not None
    assert contact.fields == {**SIMPLE["fields"], "source": SIMPLE["source_id"]}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("sentence", "body"),
    [
        ("event_type is lead", SIMPLE),
        ("event_type is conversion", but(event_type="conversion")),
        ("event_type is action", but(event_type="action")),
        ("event_name is any label", but(event_name="Purchase")),
        ("fields has attributes of the event", but(fields={"email": "test@example.com", "question_1": "test answer"})),
        ("fields may be empty", but(fields={})),
        ("event_id is any id", but(event_id="0b9c-17")),
        ("person_id is any id", but(person_id="42")),
        ("ga_client_id", but(ga_client_id="GA1.2.1033501218.1368477899")),
        ("created_at is ISO 8601", but(created_at="2026-02-28T10:00:00.000Z")),
        ("created_at with an offset", but(created_at="2026-02-28T10:00:00+02:00")),
        ("created_at of the documented example, years ago", but(created_at="2019-12-02T10:00:00.000Z")),
        ("what is null is not given", but() | {"event_id": None, "person_id": None, "created_at": None}),
    ],
)
async def test_what_the_documentation_allows_is_ok(capture: Capture, sentence: str, body: dict[str, Any]) -> None:
    assert await capture.post(body) == OK
    assert await stored(capture.core) >= 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("body", "told"),
    [
        (but(event_type=None), "event_type: is required and missing (Set event_type.)"),
        (but(event_name=None), "event_name: is required and missing (Set event_name.)"),
        (but(source_id=None), "source_id: is required and missing (Set source_id.)"),
        (but(fields=None), "fields: is required and missing (Set fields.)"),
        (but(event_type="leads"), "event_type: `leads` is no event type (Did you mean lead?"),
        (but(event_type="LEAD"), "event_type: `LEAD` is no event type"),
        (but(source_id="nowhere"), "source_id: there is no source `nowhere`"),
        (but(source_id=AFFILIATE), "Post events of this source to /v2/affiliate_event."),
        (but(fields={"email": "nobody"}), "fields.email: "),
        (but(fields=[]), "fields: must be an object, not a list"),
        (but(fields="x"), "fields: must be an object, not text"),
        (but(event_name=7), "event_name: must be text, not a number"),
        (but(created_at="yesterday"), "created_at: `yesterday` is not an ISO 8601 instant"),
        (but(created_at="2026-03-04T10:00:00Z"), "created_at: 2026-03-04T10:00:00Z is more than a day in the future"),
        (but(created_at=1772442000), "created_at: must be text, not a number"),
        (but(person_id="x" * 201), "person_id: has 201 characters, at most 200 are accepted"),
        (but(even_name="x"), "even_name: is not a field here (Did you mean event_name?)"),
        (but(event_name="$record.contact"), "names that begin with $ are the core's own"),
        ({}, "event_type: is required and missing"),
        ([], "must be an object, not a list"),
        (b"", "event_type: is required and missing"),
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b'{"event_type": NaN}', "it has no NaN"),
        (b'{"fields": {"a": 1, "a": 2}}', "fields.a: is given twice"),
    ],
)
async def test_what_cannot_be_taken_is_a_400_with_one_text(capture: Capture, body: Any, told: str) -> None:
    status, answer = await capture.post(body)
    assert (status, list(answer)) == (400, ["error"])
    assert told in answer["error"]
    assert await stored(capture.core) == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_everything_that_is_wrong_is_in_the_one_text(capture: Capture) -> None:
    body = but(event_type="leed", fields={"email": "nobody"}, created_at="then")
    status, answer = await capture.post(body)
    assert status == 400
    assert [part.partition(":")[0] for part in answer["error"].split("; ")] == [
        "event_type", "created_at", "fields.email"
    ]  # fmt: skip


async def test_events_with_one_event_id_or_one_person_id_are_linked_to_one_person_and_all_kept(
    capture: Capture,
) -> None:
    same = [
        but(event_id="E1", person_id="P1"),
        but(event_id="E1", fields={}),
        but(event_id="E1", fields={}),
        but(person_id="P1", fields={"page": "/pricing"}),
        but(person_id="P1", event_id="E2", fields={}),
        but(event_id="E2", fields={}),
        but(ga_client_id="GA1", person_id="P1", fields={}),
        but(ga_client_id="GA1", fields={}),
    ]
    for body in same:
        assert await capture.post(body) == OK
    rows = await capture.rows()
    assert len(rows) == len(same)
    assert len({row.contact_id for row in rows}) == 1
    assert await capture.post(but(event_id="E9", fields={})) == OK
    assert len({row.contact_id for row in await capture.rows()}) == 2


async def test_a_repeated_message_is_ok_again_and_stored_once(capture: Capture) -> None:
    for _ in range(3):
        assert await capture.post(but(message_id="M1")) == OK
    assert len(await capture.rows()) == 1
    for _ in range(2):  # nothing says that these are the same
        assert await capture.post(SIMPLE) == OK
    assert len(await capture.rows()) == 3


async def test_a_repeated_call_under_one_idempotency_key_is_ok_again_and_stored_once(capture: Capture) -> None:
    for _ in range(3):
        assert await capture.post(SIMPLE, **{"idempotency-key": "k1"}) == OK
    assert len(await capture.rows()) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_affiliate_events_have_a_door_of_their_own(capture: Capture) -> None:
    body = but(source_id=AFFILIATE)
    assert await capture.post(body, "/v2/affiliate_event") == OK
    status, answer = await capture.post(SIMPLE, "/v2/affiliate_event")
    assert status == 400
    assert "Post events of this source to /v2/event." in answer["error"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer xxxx-xxxx-xxxx-xxxx"}, 401),
        ({"authorization": ""}, 401),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"accept": "text/html"}, 200),
    ],
)
async def test_headers_that_matter(capture: Capture, headers: dict[str, str], status: int) -> None:
    answered, answer = await capture.post(SIMPLE, **headers)
    assert answered == status
    assert list(answer) == (["data"] if status == 200 else ["error"])
    assert status == 200 or isinstance(answer["error"], str)


texts = st.text(max_size=20) | st.sampled_from(
    ["lead", "action", "form", SIMPLE["source_id"], "2026-03-02", "\0", "$x"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(
    st.binary(max_size=40),
    anything.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {name: st.just(value) | anything for name, value in SIMPLE.items()},
        optional={
            name: anything for name in ("event_id", "person_id", "ga_client_id", "created_at", "message_id", "extra")
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@pytest.mark.parametrize(
    ("database_url", "route"),
    [
        *(
            ("sqlite", route)
            for route in ("/v2/event", "/v2/affiliate_event", "/api/v1/events", "/api/v1/events/batch")
        ),
        *(("postgresql", route) for route in ("/v2/event", "/api/v1/events/batch")),  # one event, and several
    ],
    indirect=["database_url"],
)
async def test_whatever_is_posted_is_taken_or_refused_and_never_an_error_of_ours(capture: Capture, route: str) -> None:
    loop = asyncio.get_running_loop()
    found: list[tuple[bytes, int, Any]] = []

    def tried() -> None:
        @settings(max_examples=60, database=None)
        @example(json.dumps(SIMPLE).encode())
        @given(bodies)
        def post(body: bytes) -> None:
            if "affiliate" in route:
                body = body.replace(SIMPLE["source_id"].encode(), AFFILIATE.encode())
            wrapped = b'{"events": [' + body + b", " + body + b"]}" if route.endswith("batch") else body
            status, answer = asyncio.run_coroutine_threadsafe(capture.post(wrapped, route), loop).result(10)
            found.append((wrapped, status, answer))
            assert status in (200, 400)

        post()

    await asyncio.to_thread(tried)
    assert {status for _, status, _ in found} == {200, 400}
    for _, status, answer in found:
        if route.startswith("/v2/"):
            assert list(answer) == (["data"] if status == 200 else ["error"])
        text = json.dumps(answer)
        assert "Traceback" not in text
        assert "INTERNAL" not in text
