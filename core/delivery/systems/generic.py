"""Any HTTP interface, by the calls that its owner has declared: rendered for each record, answers read by pointers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from core.delivery.send_result import SendResult
from core.delivery.systems.client import Account, Api, Page, Property, Refused, Theirs, Write, Wrote, retry_after
from core.delivery.systems.client import Limited as Limited
from core.domain.connections.call import NotRendered
from core.domain.records.values import instant_text
from core.domain.systems import operations
from core.domain.systems.operations import Operation
from core.domain.systems.settings import SystemSettings, TypeMapping
from core.domain.webhooks.addresses import Destinations

_ASKING = ("list", "list_deleted", "get")


class Generic:
    """An interface declared by its owner; records are written one by one."""

    batch = 5

    def __init__(self, api: Api, settings: SystemSettings, destinations: Destinations):
        """Speak through this, as the settings say."""
        self._api = api
        self._settings = settings
        self._destinations = destinations

    async def account(self) -> Account:
        """Make the first call that only asks, where there is one."""
        operation = next((one for one in self._settings.operations if one.name == "list"), None)
        if operation is not None:
            await self._made(operation, {}, "", "")
        return Account(", ".join(sorted({one.call.host for one in self._settings.operations})))

    async def properties(self, mapping: TypeMapping) -> Mapping[str, Property] | None:
        """Return None: it does not say."""
        return None

    async def changed(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page of the declared list."""
        return await self._listed("list", mapping, since, cursor)

    async def deleted(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page of the declared list of what was deleted."""
        return await self._listed("list_deleted", mapping, since, cursor)

    async def _listed(self, name: str, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        operation = self._operation(name, mapping)
        if operation is None:
            return Page((), "")
        _, answer = await self._made(operation, {}, cursor, "" if since is None else instant_text(since))
        found = operations.at(answer, operation.records_path)
        if not isinstance(found, list):
            hint = f"Correct records_path of the operation {name}."
            raise Refused("the answer has no list of records where it should be", hint)
        following = operations.at(answer, operation.cursor_path) if operation.cursor_path else None
        records = (self._theirs(operation, mapping, one) for one in found)
        return Page(tuple(one for one in records if one is not None), "" if following in (None, "") else str(following))

    async def by_id(self, mapping: TypeMapping, ids: Sequence[str]) -> dict[str, Theirs]:
        """Return records by their ids, asked for one by one; nothing where that is not declared."""
        operation = self._operation("get", mapping)
        found = {}
        for name in ids if operation is not None else ():
            one = await self._got(operation, mapping, {"external_id": name})
            if one is not None:
                found[name] = one
        return found

    async def by_key(self, mapping: TypeMapping, keys: Sequence[str]) -> dict[str, Theirs]:
        """Return nothing: what is not known by its id is told apart by the other side."""
        return {}

    async def write(self, mapping: TypeMapping, writes: Sequence[Write]) -> list[Wrote]:
        """Write records one by one; a repeat carries the same idempotency key."""
        operation = self._operation("upsert", mapping)
        if operation is None:
            raise Refused(f"no operation upsert is declared for a {mapping.type}", "Declare it.")
        return [await self._write(operation, mapping, one) for one in writes]

    async def delete(self, mapping: TypeMapping, gone: Sequence[Write]) -> list[Wrote]:
        """Delete records one by one, by the declared operation."""
        operation = self._operation("delete", mapping)
        if operation is None:
            raise Refused(f"no operation delete is declared for a {mapping.type}", "Declare it.")
        done = []
        for one in gone:
            result, _ = await self._made(operation, {"id": one.record_id, "external_id": one.external_id}, "", "")
            refused = result.status_code >= 400 and result.status_code not in (404, 410)
            error = f"the system answered HTTP {result.status_code}" if refused else ""
            done.append(Wrote(one.external_id, error=error, hint="Correct the operation delete." if error else ""))
        return done

    async def _write(self, operation: Operation, mapping: TypeMapping, one: Write) -> Wrote:
        record = {**one.properties, "id": one.record_id, "external_id": one.external_id}
        key = hashlib.sha256(f"{self._api.owner[1]}|{one.record_id}|{one.rev}".encode()).hexdigest()[:32]
        try:
            result, answer = await self._made(operation, record, "", "", {"idempotency-key": key})
        except NotRendered as error:
            return Wrote(error=str(error), hint="Correct the operation upsert, or give the record what it needs.")
        if result.status_code >= 400:
            hint = "Correct the value here, or the operation, then sync again."
            return Wrote(error=f"the system answered HTTP {result.status_code}", hint=hint)
        name = operations.at(answer, operation.id_path) if operation.id_path else None
        external_id = one.external_id or ("" if name in (None, "") else str(name)) or one.record_id
        return Wrote(external_id, created=not one.external_id)

    async def _got(self, operation: Operation | None, mapping: TypeMapping, record: Mapping[str, Any]) -> Theirs | None:
        assert operation is not None
        result, answer = await self._made(operation, record, "", "")
        if result.status_code in (404, 410):
            return None
        found = operations.at(answer, operation.records_path)
        one = self._theirs(operation, mapping, found)
        return None if one is None else Theirs(record["external_id"], one.properties, None)

    async def _made(
        self, operation: Operation, record: Mapping[str, Any], cursor: str, since: str, more: Mapping[str, str] = {}
    ) -> tuple[SendResult, Any]:
        request = operations.render(operation.call, record, cursor, since, self._destinations)
        result, answer = await self._api.call_url(
            request.method, request.url, {**request.headers, **more}, request.body.encode()
        )
        if result.status_code >= 400 and operation.name in _ASKING and result.status_code not in (404, 410):
            raise Refused(f"the system answered HTTP {result.status_code}", f"Correct the operation {operation.name}.")
        return result, answer

    def _operation(self, name: str, mapping: TypeMapping) -> Operation | None:
        return next((one for one in self._settings.operations if (one.name, one.type) == (name, mapping.type)), None)

    def _theirs(self, operation: Operation, mapping: TypeMapping, found: Any) -> Theirs | None:
        if not isinstance(found, Mapping):
            return None
        name = operations.at(found, operation.id_path or "/id")
        properties = {
            one: operations.at(found, one if one.startswith("/") else f"/{one}") for one in mapping.properties
        }
        return None if name in (None, "") else Theirs(str(name), properties)


def judge(result: SendResult, answer: Any) -> None:
    """Raise Limited where an answer says so."""
    if result.status_code in (429, 503) and result.retry_after:
        raise Limited("the system takes no more calls for now", retry_after(result, 10.0))
