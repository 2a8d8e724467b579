"""A stand-in for HubSpot: CRM objects of version 3, with its limits, its errors and the lag of its search.

Shapes follow HubSpot's public reference: a unique e-mail answers 409 CONFLICT, a batch with some bad inputs 207 with
`errors`, a limit 429 with `policyName`; access tokens of OAuth last thirty minutes.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from core.clock import Clock
from core.fakes.hubspot_objects import OWN, PROPERTIES, UNIQUE, Objects, Refusal, Stored, iso
from core.fakes.serving import Handler, Watch, Window, application

PRIVATE_TOKEN = "pat-fake-token"  # noqa: S105 -- it opens nothing
CLIENT = ("fake-client", "fake-secret", "fake-refresh")
"""Client id, secret and refresh token that are granted access tokens."""

TOKEN_LASTS = timedelta(minutes=30)
A_DAY = 650_000
IN_TEN_SECONDS = 190
IN_A_SECOND_OF_SEARCHES = 5
MOST_IN_A_BATCH = 100
SEARCHED_AT_MOST = 10_000


@dataclass(slots=True)
class HubSpotFake:
    """An account with its records, tokens and limits; everything is in memory."""

    clock: Clock
    tokens: dict[str, datetime] = field(default_factory=dict)
    """Access tokens and their ends."""
    objects: Objects = field(init=False)
    ten_seconds: Window = field(default_factory=lambda: Window(IN_TEN_SECONDS, timedelta(seconds=10)))
    day: Window = field(default_factory=lambda: Window(A_DAY, timedelta(days=1)))
    searches: Window = field(default_factory=lambda: Window(IN_A_SECOND_OF_SEARCHES, timedelta(seconds=1)))
    watch: Watch = field(init=False)
    rotates: bool = False
    """Each access token comes with a new refresh token, and the one it was asked with is used up."""
    refresh_token: str = CLIENT[2]
    _granted: int = 0

    def __post_init__(self) -> None:
        """Begin with nothing seen."""
        self.watch, self.objects = Watch(self.clock), Objects(self.clock)

    def application(self) -> web.Application:
        """Return the account as an HTTP application."""
        at = "/crm/v3/objects/{object}"
        routes = [
            web.post("/oauth/v1/token", self._grant),
            web.get("/account-info/v3/details", self._admitted(self._details)),
            web.get("/crm/v3/properties/{object}", self._admitted(self._properties)),
            web.get(at, self._admitted(self._list)),
            web.post(at, self._admitted(self._create)),
            web.post(f"{at}/search", self._admitted(self._search)),
            web.post(f"{at}/batch/read", self._admitted(self._batch_read)),
            web.post(f"{at}/batch/archive", self._admitted(self._batch_archive)),
            web.post(f"{at}/batch/{{how:create|update|upsert}}", self._admitted(self._batch_write)),
            web.get(f"{at}/{{id}}", self._admitted(self._get)),
            web.patch(f"{at}/{{id}}", self._admitted(self._update)),
            web.delete(f"{at}/{{id}}", self._admitted(self._archive)),
        ]
        return application(self.watch, routes, self.stored)

    def stored(self) -> dict[str, list[dict[str, Any]]]:
        """Return every record, by object."""
        return {
            name: [{"id": one.id, **one.properties} for one in found.values()]
            for name, found in self.objects.records.items()
        }

    def seed(self, name: str, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Store records as if people had made them there; return their ids."""
        return [self.objects.make(name, dict(one)).id for one in records]

    def _admitted(self, handler: Handler) -> Handler:
        """Return a handler that is reached with a good token and within the limits."""

        @functools.wraps(handler)
        async def admitted(request: web.Request) -> web.StreamResponse:
            now = self.clock.now()
            try:
                self._sign_in(request, now)
                self._limit(request, now)
                name = request.match_info.get("object")
                if name is not None and name not in PROPERTIES:
                    raise Refusal(400, "VALIDATION_ERROR", f"Unable to infer object type from: {name}")
                answer = await handler(request)
            except Refusal as refusal:
                answer = web.json_response(refusal.body, status=refusal.status)
                if refusal.status == 429:
                    answer.headers["Retry-After"] = str(self._wait(refusal.body["policyName"], now))
            answer.headers.update(
                {
                    "X-HubSpot-RateLimit-Daily": str(self.day.most),
                    "X-HubSpot-RateLimit-Daily-Remaining": str(self.day.left),
                    "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
                    "X-HubSpot-RateLimit-Max": str(self.ten_seconds.most),
                    "X-HubSpot-RateLimit-Remaining": str(self.ten_seconds.left),
                }
            )
            return answer

        return admitted

    def _sign_in(self, request: web.Request, now: datetime) -> None:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        until = self.tokens.get(token)
        if self.watch.faults.take(request.path, "401"):
            until, token = now, ""
        if token == PRIVATE_TOKEN:
            return
        if until is None:
            raise Refusal(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
        if until <= now:
            ago = int((now - until).total_seconds())
            message = f"The OAuth token used to make this call expired {ago} second(s) ago."
            raise Refusal(401, "EXPIRED_AUTHENTICATION", message)

    def _limit(self, request: web.Request, now: datetime) -> None:
        search = request.path.endswith("/search")
        policy = ""
        if not self.day.take(now):
            policy = "DAILY"
        elif not self.ten_seconds.take(now) or self.watch.faults.take(request.path, "429"):
            policy = "TEN_SECONDLY_ROLLING"
        elif search and not self.searches.take(now):
            policy = "SECONDLY"
        if policy:
            message = f"You have reached your {policy.lower()} limit."
            raise Refusal(429, "RATE_LIMITS", message, errorType="RATE_LIMIT", policyName=policy)

    def _wait(self, policy: str, now: datetime) -> int:
        window = {"DAILY": self.day, "SECONDLY": self.searches}.get(policy, self.ten_seconds)
        return window.seconds_left(now)

    async def _grant(self, request: web.Request) -> web.Response:
        given = await request.post()
        client = given.get("client_id"), given.get("client_secret"), given.get("refresh_token")
        if client != (*CLIENT[:2], self.refresh_token):
            body = {"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid refresh token"}
            return web.json_response(body, status=400)
        self._granted += 1
        token = f"fake-access-{self._granted}"
        self.tokens[token] = self.clock.now() + TOKEN_LASTS
        if self.rotates:
            self.refresh_token = f"{CLIENT[2]}-{self._granted}"
        body = {"access_token": token, "refresh_token": self.refresh_token, "token_type": "bearer"}
        return web.json_response({**body, "expires_in": int(TOKEN_LASTS.total_seconds())})

    async def _details(self, _: web.Request) -> web.Response:
        return web.json_response({"portalId": 4242, "accountType": "STANDARD", "timeZone": "Europe/Berlin"})

    async def _properties(self, request: web.Request) -> web.Response:
        name = request.match_info["object"]
        own = {**OWN, **({} if name == "contacts" else {"hs_lastmodifieddate": "datetime"})}
        found = [
            {
                "name": key,
                "label": key,
                "type": kind,
                "hasUniqueValue": key in UNIQUE[name],
                "modificationMetadata": {"readOnlyValue": key in own, "archivable": False},
            }
            for key, kind in {**PROPERTIES[name], **own}.items()
        ]
        return web.json_response({"results": found})

    async def _list(self, request: web.Request) -> web.Response:
        name = request.match_info["object"]
        limit, after = min(int(request.query.get("limit", "10")), 100), int(request.query.get("after", "0"))
        wanted = [key for key in request.query.get("properties", "").split(",") if key]
        archived = request.query.get("archived") == "true"
        there = (self.objects.archived if archived else self.objects.records)[name]
        found = sorted((one for one in there.values() if int(one.id) > after), key=lambda one: int(one.id))
        body: dict[str, Any] = {"results": [_shown(one, wanted) for one in found[:limit]]}
        if len(found) > limit:
            body["paging"] = {"next": {"after": found[limit - 1].id}}
        return web.json_response(body)

    async def _create(self, request: web.Request) -> web.Response:
        made = self.objects.make(request.match_info["object"], (await request.json()).get("properties", {}))
        return web.json_response(_shown(made, list(made.properties)), status=201)

    async def _get(self, request: web.Request) -> web.Response:
        name, record_id = request.match_info["object"], request.match_info["id"]
        unique = request.query.get("idProperty", "")
        one = self.objects.by(name, unique, record_id) if unique else self.objects.records[name].get(record_id)
        if one is None:
            raise Refusal(404, "OBJECT_NOT_FOUND", "resource not found")
        return web.json_response(_shown(one, request.query.get("properties", "").split(",")))

    async def _update(self, request: web.Request) -> web.Response:
        properties = (await request.json()).get("properties", {})
        one = self.objects.change(request.match_info["object"], request.match_info["id"], properties)
        return web.json_response(_shown(one, list(properties)))

    async def _archive(self, request: web.Request) -> web.Response:
        self.objects.archive(request.match_info["object"], request.match_info["id"])
        return web.Response(status=204)

    async def _batch_archive(self, request: web.Request) -> web.Response:
        for one in _inputs(await request.json()):
            self.objects.archive(request.match_info["object"], str(one["id"]))
        return web.Response(status=204)

    async def _search(self, request: web.Request) -> web.Response:
        name, asked = request.match_info["object"], await request.json()
        limit, after = min(int(asked.get("limit", 10)), 200), int(asked.get("after", 0))
        if after + limit > SEARCHED_AT_MOST:
            raise Refusal(400, "VALIDATION_ERROR", "A search goes no further than 10000 results.")
        visible = [
            (one, known)
            for one in self.objects.records[name].values()
            if (known := self.objects.visible(one)) is not None
        ]
        groups = asked.get("filterGroups") or [{"filters": []}]
        fitting = [
            (one, known)
            for one, known in visible
            if any(all(_fits(known, single) for single in group["filters"]) for group in groups)
        ]
        for sort in reversed(asked.get("sorts") or []):
            fitting.sort(key=lambda pair: pair[1].get(sort["propertyName"], ""))
        page = fitting[after : after + limit]
        wanted = asked.get("properties") or []
        body: dict[str, Any] = {"total": len(fitting), "results": [_shown(one, wanted, known) for one, known in page]}
        if after + limit < len(fitting):
            body["paging"] = {"next": {"after": str(after + limit)}}
        return web.json_response(body)

    async def _batch_read(self, request: web.Request) -> web.Response:
        name, asked = request.match_info["object"], await request.json()
        inputs = _inputs(asked)
        unique, wanted = asked.get("idProperty", ""), asked.get("properties") or []
        found, missing = [], []
        for one in inputs:
            known = (
                self.objects.by(name, unique, str(one["id"]))
                if unique
                else self.objects.records[name].get(str(one["id"]))
            )
            if known is None:
                missing.append(str(one["id"]))
            elif known not in found:
                found.append(known)
        shown = [_shown(one, wanted) for one in found]
        body: dict[str, Any] = {"status": "COMPLETE", **_times(self.clock.now()), "results": shown}
        if missing:
            error = {"status": "error", "category": "OBJECT_NOT_FOUND", "message": "Could not get some objects"}
            body |= {"numErrors": 1, "errors": [{**error, "context": {"ids": missing}}]}
        return web.json_response(body, status=207 if missing else 200)

    async def _batch_write(self, request: web.Request) -> web.Response:
        name, how = request.match_info["object"], request.match_info["how"]
        inputs = _inputs(await request.json())
        results, errors = [], []
        for one in inputs:
            trace = one.get("objectWriteTraceId")
            try:
                written, new = self._write(name, how, one)
            except Refusal as refusal:
                if trace is None:
                    raise  # without it, one bad input spoils the whole batch
                errors.append({**refusal.body, "context": {"objectWriteTraceId": [trace]}})
                continue
            shown = {**_shown(written, list(written.properties)), **({"new": new} if how == "upsert" else {})}
            results.append({**shown, **({"objectWriteTraceId": trace} if trace else {})})
        body: dict[str, Any] = {"status": "COMPLETE", **_times(self.clock.now()), "results": results}
        if errors:
            body |= {"numErrors": len(errors), "errors": errors}
        return web.json_response(body, status=207 if errors else 201 if how == "create" else 200)

    def _write(self, name: str, how: str, one: Mapping[str, Any]) -> tuple[Stored, bool]:
        properties = one.get("properties", {})
        if how == "create":
            return self.objects.make(name, properties), True
        if how == "update":
            return self.objects.change(name, str(one["id"]), properties), False
        unique = one.get("idProperty", "")
        if unique not in UNIQUE[name]:
            raise Refusal(400, "VALIDATION_ERROR", f"{unique or 'id'} is not a unique property")
        known = self.objects.by(name, unique, str(one["id"]))
        if known is not None:
            return self.objects.change(name, known.id, properties), False
        return self.objects.make(name, {**properties, unique: one["id"]}), True


def _inputs(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    inputs = asked.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise Refusal(400, "VALIDATION_ERROR", "Invalid input JSON: inputs is required")
    if len(inputs) > MOST_IN_A_BATCH:
        raise Refusal(400, "VALIDATION_ERROR", f"The maximum batch size is {MOST_IN_A_BATCH}")
    return inputs


def _shown(one: Stored, wanted: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, Any]:
    values = one.properties if known is None else known
    always = ("createdate", "lastmodifieddate", "hs_lastmodifieddate", "hs_object_id")
    properties: dict[str, str | None] = {key: values[key] for key in always if key in values}
    properties |= {key: values.get(key) or None for key in wanted if key}
    return {
        "id": one.id,
        "properties": properties,
        "createdAt": iso(one.created_at),
        "updatedAt": values.get("lastmodifieddate") or values.get("hs_lastmodifieddate") or iso(one.updated_at),
        "archived": one.archived_at is not None,
        **({} if one.archived_at is None else {"archivedAt": iso(one.archived_at)}),
    }


def _fits(values: Mapping[str, str], asked: Mapping[str, Any]) -> bool:
    value, wanted = values.get(asked["propertyName"], ""), str(asked.get("value", ""))
    if asked["propertyName"] in ("createdate", "lastmodifieddate", "hs_lastmodifieddate"):
        value = f"{_milliseconds(value):020}"
        wanted = f"{int(wanted):020}" if wanted.isdigit() else f"{_milliseconds(wanted):020}"
    match asked["operator"]:
        case "EQ":
            return value.lower() == wanted.lower()
        case "GTE":
            return value >= wanted
        case "GT":
            return value > wanted
        case "LT":
            return value < wanted
        case "HAS_PROPERTY":
            return bool(value)
        case other:
            raise Refusal(400, "VALIDATION_ERROR", f"{other} is not supported by this stand-in")


def _milliseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000) if text else 0


def _times(now: datetime) -> dict[str, str]:
    return {"startedAt": iso(now), "completedAt": iso(now)}
