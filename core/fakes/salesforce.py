"""A stand-in for Salesforce: OAuth, queries, composite collections, limits a day and sessions that end.

Shapes follow Salesforce's public reference: errors are a list of `errorCode` and `message`, collections answer record
by record, an ended session 401 INVALID_SESSION_ID, the limit of a day 403 REQUEST_LIMIT_EXCEEDED.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from aiohttp import web

from core.clock import Clock
from core.fakes import soql
from core.fakes.salesforce_objects import EXTERNAL_IDS, FIELDS, PREFIXES, Objects, Refusal
from core.fakes.serving import Handler, Watch, Window, application
from core.fakes.soql import BadQuery

CLIENT = ("fake-client", "fake-secret", "fake-refresh")
"""Client id, secret and refresh token that are granted sessions."""

SESSION_LASTS = timedelta(minutes=30)
A_DAY = 15_000
MOST_IN_A_CALL = 200
MOST_IN_A_PAGE = 200
"""The real one gives up to 2,000 a page; fewer show how pages go on."""

_DATA = "/services/data/{version}"


class _Failed(Exception):
    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.body = status, [{"message": message, "errorCode": code}]


@dataclass(slots=True)
class SalesforceFake:
    """An organization with its records, sessions and limits; everything is in memory."""

    clock: Clock
    sessions: dict[str, datetime] = field(default_factory=dict)
    """Access tokens and their ends."""
    day: Window = field(default_factory=lambda: Window(A_DAY, timedelta(days=1)))
    objects: Objects = field(init=False)
    watch: Watch = field(init=False)
    page: int = MOST_IN_A_PAGE
    """Records of one page of a query."""
    cursors: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Locators of queries to what is left of them."""
    rotates: bool = False
    """Each session comes with a new refresh token, and the one it was asked with is used up."""
    refresh_token: str = CLIENT[2]
    _serial: int = 0

    def __post_init__(self) -> None:
        """Begin with the organization itself, and nothing seen."""
        self.watch, self.objects = Watch(self.clock), Objects(self.clock)

    def application(self) -> web.Application:
        """Return the organization as an HTTP application."""
        one = f"{_DATA}/sobjects/{{object}}"
        many = f"{_DATA}/composite/sobjects"
        routes = [
            web.post("/services/oauth2/token", self._grant),
            web.get(f"{_DATA}/query", self._admitted(self._query)),
            web.get(f"{_DATA}/queryAll", self._admitted(self._query)),
            web.get(f"{_DATA}/query/{{locator}}", self._admitted(self._next)),
            web.get(f"{one}/describe", self._admitted(self._describe)),
            web.post(one, self._admitted(self._create)),
            web.get(f"{one}/{{id}}", self._admitted(self._get)),
            web.patch(f"{one}/{{id}}", self._admitted(self._update)),
            web.delete(f"{one}/{{id}}", self._admitted(self._delete)),
            web.post(many, self._admitted(self._create_many)),
            web.patch(many, self._admitted(self._update_many)),
            web.delete(many, self._admitted(self._delete_many)),
            web.post(f"{many}/{{object}}", self._admitted(self._retrieve)),
            web.patch(f"{many}/{{object}}/{{external}}", self._admitted(self._upsert_many)),
        ]
        return application(self.watch, routes, self.stored)

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Return every record, by object."""
        return {name: list(found.values()) for name, found in self.objects.records.items()}

    def seed(self, name: str, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Store records as if people had made them there; return their ids."""
        return [self.objects.make(name, one)["Id"] for one in records]

    def _admitted(self, handler: Handler) -> Handler:
        """Return a handler that is reached in a session that lasts, and within the limit of the day."""

        @functools.wraps(handler)
        async def admitted(request: web.Request) -> web.StreamResponse:
            try:
                self._sign_in(request)
                name = request.match_info.get("object")
                if name is not None and name not in FIELDS:
                    raise _Failed(404, "NOT_FOUND", "The requested resource does not exist")
                answer = await handler(request)
            except _Failed as failed:
                answer = web.json_response(failed.body, status=failed.status)
            except BadQuery as bad:
                answer = web.json_response([{"message": str(bad), "errorCode": "MALFORMED_QUERY"}], status=400)
            except Refusal as refusal:
                body = [{"message": refusal.message, "errorCode": refusal.code, "fields": refusal.fields}]
                answer = web.json_response(body, status=404 if refusal.code == "ENTITY_IS_DELETED" else 400)
            answer.headers["Sforce-Limit-Info"] = f"api-usage={self.day.used}/{self.day.most}"
            return answer

        return admitted

    def _sign_in(self, request: web.Request) -> None:
        now = self.clock.now()
        until = self.sessions.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if until is None or until <= now or self.watch.faults.take(request.path, "401"):
            raise _Failed(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if not self.day.take(now) or self.watch.faults.take(request.path, "429"):
            raise _Failed(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")

    async def _grant(self, request: web.Request) -> web.Response:
        given = await request.post()
        kind, refresh = given.get("grant_type"), given.get("refresh_token")
        fits = (given.get("client_id"), given.get("client_secret")) == CLIENT[:2]
        if (
            not fits
            or kind not in ("refresh_token", "client_credentials")
            or (refresh or self.refresh_token) != self.refresh_token
        ):
            body = {"error": "invalid_grant", "error_description": "expired access/refresh token"}
            return web.json_response(body, status=400)
        self._serial += 1
        token = f"00Dfake!{self._serial}"
        self.sessions[token] = self.clock.now() + SESSION_LASTS
        instance = f"{request.scheme}://{request.host}"
        body = {"access_token": token, "instance_url": instance, "token_type": "Bearer", "id": f"{instance}/id/00D"}
        if self.rotates and refresh:
            self.refresh_token = f"{CLIENT[2]}-{self._serial}"
            body["refresh_token"] = self.refresh_token
        return web.json_response(body)

    async def _query(self, request: web.Request) -> web.Response:
        query = soql.read(request.query.get("q", ""))
        if query.object not in FIELDS:
            raise _Failed(400, "INVALID_TYPE", f"sObject type '{query.object}' is not supported.")
        for name in (*query.fields, *query.order, *(one.field for one in query.conditions)):
            if name not in FIELDS[query.object]:
                message = f"No such column '{name}' on entity '{query.object}'."
                raise _Failed(400, "INVALID_FIELD", message)
        known = [*self.objects.records[query.object].values()]
        if request.path.endswith("/queryAll"):
            known += self.objects.bin[query.object].values()
        found = [one for one in known if soql.fits(query, one)]
        for name in reversed(query.order):
            found.sort(key=lambda one, name=name: str(one.get(name) or ""))  # type: ignore[misc]
        rows = [_row(query.object, one, query.fields) for one in found[: query.limit]]
        return self._page(request, rows, len(rows))

    async def _next(self, request: web.Request) -> web.Response:
        rows = self.cursors.pop(request.match_info["locator"], None)
        if rows is None:
            raise _Failed(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._page(request, rows, len(rows))

    def _page(self, request: web.Request, rows: list[dict[str, Any]], total: int) -> web.Response:
        body: dict[str, Any] = {
            "totalSize": total,
            "done": len(rows) <= self.page,
            "records": rows[: self.page],
        }
        if not body["done"]:
            self._serial += 1
            locator = f"0r8fake{self._serial}-{self.page}"
            self.cursors[locator] = rows[self.page :]
            body["nextRecordsUrl"] = f"/services/data/{quote(request.match_info['version'])}/query/{locator}"
        return web.json_response(body)

    async def _describe(self, request: web.Request) -> web.Response:
        name = request.match_info["object"]
        fields = [
            {
                "name": key,
                "type": kind,
                "createable": writable,
                "updateable": writable,
                "externalId": key in EXTERNAL_IDS,
                "unique": key in EXTERNAL_IDS,
                "idLookup": key == "Id",
            }
            for key, (kind, writable) in FIELDS[name].items()
        ]
        return web.json_response({"name": name, "fields": fields})

    async def _create(self, request: web.Request) -> web.Response:
        made = self.objects.make(request.match_info["object"], await request.json())
        return web.json_response({"id": made["Id"], "success": True, "errors": []}, status=201)

    async def _get(self, request: web.Request) -> web.Response:
        name = request.match_info["object"]
        one = self.objects.records[name].get(request.match_info["id"])
        if one is None:
            raise _Failed(404, "NOT_FOUND", "The requested resource does not exist")
        return web.json_response(_row(name, one, FIELDS[name]))

    async def _update(self, request: web.Request) -> web.Response:
        self.objects.change(request.match_info["object"], request.match_info["id"], await request.json())
        return web.Response(status=204)

    async def _delete(self, request: web.Request) -> web.Response:
        self.objects.delete(request.match_info["object"], request.match_info["id"])
        return web.Response(status=204)

    async def _delete_many(self, request: web.Request) -> web.Response:
        answers = []
        for record_id in request.query["ids"].split(","):
            name = next((name for name in FIELDS if record_id.startswith(PREFIXES[name])), "Lead")
            try:
                self.objects.delete(name, record_id)
                answers.append({"id": record_id, "success": True, "errors": []})
            except Refusal as refusal:
                answers.append({"id": record_id, "success": False, "errors": [refusal.error]})
        return web.json_response(answers)

    async def _retrieve(self, request: web.Request) -> web.Response:
        name, asked = request.match_info["object"], await request.json()
        found = [self.objects.records[name].get(record_id) for record_id in asked["ids"]]
        return web.json_response([None if one is None else _row(name, one, asked["fields"]) for one in found])

    async def _create_many(self, request: web.Request) -> web.Response:
        return await self._each(request, lambda name, one: (self.objects.make(name, one), True))

    async def _update_many(self, request: web.Request) -> web.Response:
        def update(name: str, one: Mapping[str, Any]) -> tuple[dict[str, Any], bool | None]:
            return self.objects.change(name, str(one.get("id") or one.get("Id")), one), None

        return await self._each(request, update)

    async def _upsert_many(self, request: web.Request) -> web.Response:
        external = request.match_info["external"]
        return await self._each(request, lambda name, one: self.objects.upsert(name, external, one))

    async def _each(
        self, request: web.Request, write: Callable[[str, Mapping[str, Any]], tuple[dict[str, Any], bool | None]]
    ) -> web.Response:
        records = (await request.json()).get("records", [])
        if len(records) > MOST_IN_A_CALL:
            message = f"record limit reached. cannot submit more than {MOST_IN_A_CALL} records into this call"
            raise _Failed(400, "EXCEEDED_ID_LIMIT", message)
        answers = []
        for one in records:
            name = (one.get("attributes") or {}).get("type", "")
            try:
                if name not in FIELDS:
                    raise Refusal("INVALID_TYPE", f"sObject type '{name}' is not supported.")
                written, created = write(name, one)
            except Refusal as refusal:
                answers.append({"success": False, "errors": [refusal.error]})
                continue
            told: dict[str, Any] = {"id": written["Id"], "success": True, "errors": []}
            answers.append(told if created is None else {**told, "created": created})
        return web.json_response(answers)


def _row(name: str, one: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    about = {"type": name, "url": f"/services/data/v62.0/sobjects/{name}/{one['Id']}"}
    return {"attributes": about, **{key: one.get(key) for key in fields}}
