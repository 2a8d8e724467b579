"""Any HTTP interface in step with the core, by calls that its owner declares."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from aiohttp import web

from core.fakes.serving import serving
from dripstone.v1 import connection_pb2, system_pb2
from tests.running import RunningCore
from tests.systems.fixtures import BOTH, PULL, PUSH, Linked, mapping

pytestmark = pytest.mark.anyio

SUCCEEDED = system_pb2.SYNC_STATE_SUCCEEDED
BODY = """{
  "mail": "{{ record["/contact/mail"] }}",
  "name": "{{ record.given }}",
  "size": {{ record.size | default: "null" }}
}"""
FIELDS = {"email": "/contact/mail", "first_name": "given", "employees": "size"}


class Interface:
    """Somebody's own interface."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, Any]] = {}
        self.keys: list[str] = []
        self.fails = 0

    def application(self) -> web.Application:
        made = web.Application()
        made.add_routes([web.get("/people", self.listed), web.post("/people", self.upsert)])
        return made

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        return {"people": list(self.people.values())}

    async def listed(self, request: web.Request) -> web.Response:
        if request.headers.get("authorization") != "Bearer tok-1":
            return web.Response(status=401)
        after = int(request.query["after"] or 0)
        rows = sorted(self.people.values(), key=lambda one: int(one["no"]))
        page = [one for one in rows if int(one["no"]) > after][:2]
        more = str(page[-1]["no"]) if len(page) == 2 else None
        return web.json_response({"data": {"rows": page, "next": more}})

    async def upsert(self, request: web.Request) -> web.Response:
        if self.fails:
            self.fails -= 1
            return web.Response(status=503, headers={"retry-after": "7"})
        given = json.loads(await request.text())
        self.keys.append(request.headers["idempotency-key"])
        known = next((no for no, one in self.people.items() if one["contact"]["mail"] == given["mail"]), None)
        number = known or str(len(self.people) + 1)
        row = {"no": int(number), "contact": {"mail": given["mail"]}, "given": given["name"], "size": given["size"]}
        self.people[number] = row
        return web.json_response({"created": {"no": int(number)}})


def settings(url: str) -> connection_pb2.SystemSettings:
    made = connection_pb2.SystemSettings(system="http", mappings=[mapping(FIELDS, "people", "")])
    made.operations.add(
        name="list",
        type="contact",
        call={"url": f"{url}/people?after={{{{ cursor }}}}&since={{{{ since }}}}"},
        records_path="/data/rows",
        cursor_path="/data/next",
        id_path="/no",
    )
    made.operations.add(
        name="upsert",
        type="contact",
        call={"url": f"{url}/people", "body": BODY},
        id_path="/created/no",
    )
    return made


@pytest.fixture
async def linked(core: RunningCore) -> AsyncIterator[Linked]:
    fake = Interface()
    async with serving(fake.application()) as url, core.client() as client:
        made = Linked(core, client, fake, url)
        await made.connect(settings(url), system_pb2.Credentials(token="tok-1"))
        yield made


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_records_are_listed_page_by_page_and_written_one_by_one(core: RunningCore, linked: Linked) -> None:
    for number in range(1, 6):
        linked.fake.people[str(number)] = {
            "no": number,
            "contact": {"mail": f"p{number}@example.com"},
            "given": f"P{number}",
        }
    pulled = await linked.sync(PULL)
    assert (pulled.state, pulled.pulled_count) == (SUCCEEDED, 5)
    await linked.upsert(email="quoted@example.com", first_name='"Q"', employees=4)
    pushed = await linked.sync(PUSH)
    assert (pushed.state, pushed.pushed_count) == (SUCCEEDED, 1)
    assert linked.fake.people["6"] == {"no": 6, "contact": {"mail": "quoted@example.com"}, "given": '"Q"', "size": 4}
    again = await linked.sync(BOTH)
    assert (again.pulled_count, again.pushed_count, again.failed_count) == (0, 0, 0)


def wrong(url: str) -> connection_pb2.SystemSettings:
    made = settings(url)
    made.operations[0].records_path = "data/rows"
    made.operations[0].call.auth.bearer.token = "here"
    made.operations[1].call.url = "https://{{ record.host }}/people"
    made.mappings[0].fields.add(field="colour", property="colour")
    made.operations.add(name="remove", type="contact", call={"url": url})
    made.pull_every.FromSeconds(5)
    return made


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_everything_that_is_wrong_is_told_at_once(core: RunningCore) -> None:
    async with core.client() as client:
        given = connection_pb2.Connection(kind="system", channel="dm", system=wrong("https://crm.example.com"))
        with pytest.raises(grpc.RpcError) as error:
            await client.connections.CreateConnection(connection_pb2.CreateConnectionRequest(connection=given))
        told = dict(error.value.trailing_metadata())["grpc-status-details-bin"].decode("utf-8", "replace")  # type: ignore[attr-defined]
        for field in (
            "connection.system.operations[0].records_path",
            "connection.system.operations[0].call.auth",
            "connection.system.operations[1].call",
            "connection.system.operations[2].name",
            "connection.system.mappings[0].fields[3].field",
            "connection.system.pull_every",
            "connection.channel",
        ):
            assert field in told
