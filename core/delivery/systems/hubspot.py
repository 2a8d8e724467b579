"""HubSpot: CRM objects, version 3. Batches read, update and upsert; what changed is found by search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from core.delivery.send_result import SendResult
from core.delivery.systems.client import (
    Account,
    Api,
    Limited,
    Page,
    Property,
    Refused,
    Theirs,
    Write,
    Wrote,
    retry_after,
)
from core.domain.records.values import parse_instant
from core.domain.systems.settings import TypeMapping

_PAGE = 100
_SEARCH_LAGS = timedelta(minutes=2)
"""What was written is found by search only after a while: what changed shortly before is looked at again."""

_TENTH_SECOND_WINDOW = 10.0


class HubSpot:
    """A HubSpot account."""

    batch = 100

    def __init__(self, api: Api):
        """Speak through this."""
        self._api = api

    async def account(self) -> Account:
        """Sign in and tell which portal it is."""
        result, answer = await self._call("GET", "/account-info/v3/details")
        left = result.headers.get("x-hubspot-ratelimit-daily-remaining", "")
        return Account(f"HubSpot portal {answer.get('portalId', 'unknown')}", int(left) if left.isdigit() else 0)

    async def properties(self, mapping: TypeMapping) -> Mapping[str, Property]:
        """Return the properties of an object."""
        _, answer = await self._call("GET", f"/crm/v3/properties/{mapping.object}")
        found = {}
        for one in answer.get("results", ()):
            metadata = one.get("modificationMetadata") or {}
            unique = bool(one.get("hasUniqueValue")) or (mapping.object == "contacts" and one["name"] == "email")
            found[one["name"]] = Property(one["name"], not metadata.get("readOnlyValue", False), unique)
        return found

    async def changed(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page: of a plain list where everything is wanted, else of a search, oldest change first."""
        if since is None:
            asked = {"limit": str(_PAGE), "properties": ",".join(mapping.properties)}
            query = urlencode({**asked, **({"after": cursor} if cursor else {})})
            _, answer = await self._call("GET", f"/crm/v3/objects/{mapping.object}?{query}")
            return Page(_all(answer), _after(answer))
        begun, _, after = cursor.partition("|")
        from_ms = int(begun) if begun else int((since - _SEARCH_LAGS).timestamp() * 1000)
        modified = "lastmodifieddate" if mapping.object == "contacts" else "hs_lastmodifieddate"
        body: dict[str, Any] = {
            "filterGroups": [{"filters": [{"propertyName": modified, "operator": "GTE", "value": str(from_ms)}]}],
            "sorts": [{"propertyName": modified, "direction": "ASCENDING"}],
            "properties": list(mapping.properties),
            "limit": _PAGE,
        }
        if after:
            body["after"] = after
        _, answer = await self._call("POST", f"/crm/v3/objects/{mapping.object}/search", body)
        found, following = _all(answer), _after(answer)
        if not following:
            return Page(found, "")
        # By time as long as it goes on: what changes meanwhile would shift places, and a search ends at 10,000.
        latest = max((int(one.modified_at.timestamp() * 1000) for one in found if one.modified_at), default=from_ms)
        return Page(found, f"{latest}|" if latest > from_ms else f"{from_ms}|{following}")

    async def deleted(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page of the archived records, of which those that were archived since count."""
        asked = {"limit": str(_PAGE), "archived": "true", "properties": mapping.properties[0]}
        query = urlencode({**asked, **({"after": cursor} if cursor else {})})
        _, answer = await self._call("GET", f"/crm/v3/objects/{mapping.object}?{query}")
        found = (Theirs(str(one["id"]), {}, _instant(one.get("archivedAt"))) for one in answer.get("results", ()))
        late = None if since is None else since - _SEARCH_LAGS
        return Page(
            tuple(one for one in found if late is None or one.modified_at is None or one.modified_at >= late),
            _after(answer),
        )

    async def by_id(self, mapping: TypeMapping, ids: Sequence[str]) -> dict[str, Theirs]:
        """Return records by their ids there."""
        return {one.id: one for one in await self._batch_read(mapping, ids, "")}

    async def by_key(self, mapping: TypeMapping, keys: Sequence[str]) -> dict[str, Theirs]:
        """Return records by their unique property."""
        unique = mapping.unique_property
        found = await self._batch_read(mapping, keys, unique)
        return {str(one.properties.get(unique) or "").lower(): one for one in found}

    async def write(self, mapping: TypeMapping, writes: Sequence[Write]) -> list[Wrote]:
        """Update what is known by its id, upsert the rest by the unique property; each input answers for itself."""
        outcomes: dict[str, Wrote] = {}
        known = [one for one in writes if one.external_id]
        new = [one for one in writes if not one.external_id]
        if known:
            inputs = [{"id": one.external_id, "properties": _texts(one.properties)} for one in known]
            outcomes |= await self._written(mapping, "update", known, inputs)
        if new:
            unique = mapping.unique_property
            inputs = [
                {"idProperty": unique, "id": one.key, "properties": _texts({unique: one.key, **one.properties})}
                for one in new
            ]
            outcomes |= await self._written(mapping, "upsert", new, inputs)
        return [outcomes.get(one.record_id, Wrote(error="the system said nothing about it")) for one in writes]

    async def delete(self, mapping: TypeMapping, gone: Sequence[Write]) -> list[Wrote]:
        """Archive records; those that are archived already stay so."""
        inputs = [{"id": one.external_id} for one in gone]
        await self._call("POST", f"/crm/v3/objects/{mapping.object}/batch/archive", {"inputs": inputs})
        return [Wrote(one.external_id) for one in gone]

    async def _written(
        self, mapping: TypeMapping, how: str, writes: Sequence[Write], inputs: Sequence[Mapping[str, Any]]
    ) -> dict[str, Wrote]:
        traced = [{**one, "objectWriteTraceId": write.record_id} for one, write in zip(inputs, writes, strict=True)]
        result, answer = await self._call(
            "POST", f"/crm/v3/objects/{mapping.object}/batch/{how}", {"inputs": traced}, may_fail=True
        )
        if result.status_code >= 400:
            if len(writes) == 1:
                return {writes[0].record_id: _refusal(answer)}
            # One bad input can spoil a whole batch: each is tried by itself.
            found: dict[str, Wrote] = {}
            for write, one in zip(writes, inputs, strict=True):
                found |= await self._written(mapping, how, [write], [one])
            return found
        outcomes = {}
        by_id = {write.external_id: write.record_id for write in writes if write.external_id}
        by_key = {write.key.lower(): write.record_id for write in writes}
        for one in answer.get("results", ()):
            properties = one.get("properties") or {}
            key = str(properties.get(mapping.unique_property) or "").lower()
            whose = one.get("objectWriteTraceId") or by_id.get(str(one["id"])) or by_key.get(key)
            if whose:
                outcomes[whose] = Wrote(str(one["id"]), bool(one.get("new")))
        for error in answer.get("errors", ()):
            context = error.get("context") or {}
            for whose in [
                *context.get("objectWriteTraceId", ()),
                *(by_id.get(name, "") for name in context.get("ids", ())),
            ]:
                outcomes[whose] = _refusal(error)
        return outcomes

    async def _batch_read(self, mapping: TypeMapping, ids: Sequence[str], unique: str) -> tuple[Theirs, ...]:
        if not ids:
            return ()
        body: dict[str, Any] = {"properties": list(mapping.properties), "inputs": [{"id": one} for one in ids]}
        if unique:
            body["idProperty"] = unique
        _, answer = await self._call("POST", f"/crm/v3/objects/{mapping.object}/batch/read", body)
        return _all(answer)

    async def _call(
        self, method: str, path: str, body: Any = None, *, may_fail: bool = False
    ) -> tuple[SendResult, dict[str, Any]]:
        result, answer = await self._api.call(method, path, body)
        if result.status_code >= 400 and not may_fail:
            raise Refused(f"HubSpot answered: {_said(answer)}", "Run CheckConnection: it names what does not fit.")
        return result, answer if isinstance(answer, dict) else {}


def judge(result: SendResult, answer: Any) -> None:
    """Raise Limited or Refused where an answer says so."""
    if result.status_code == 429:
        policy = answer.get("policyName", "") if isinstance(answer, dict) else ""
        seconds = retry_after(result, 3_600.0 if policy == "DAILY" else _TENTH_SECOND_WINDOW)
        raise Limited(f"HubSpot's limit is reached{f' ({policy.lower()})' if policy else ''}", seconds)
    if result.status_code == 403:
        raise Refused(f"HubSpot answered: {_said(answer)}", "Give the app the scopes that the mapping needs.")


def _all(answer: Mapping[str, Any]) -> tuple[Theirs, ...]:
    return tuple(
        Theirs(str(one["id"]), one.get("properties") or {}, _instant(one.get("updatedAt")))
        for one in answer.get("results", ())
    )


def _after(answer: Mapping[str, Any]) -> str:
    return str(((answer.get("paging") or {}).get("next") or {}).get("after") or "")


def _texts(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return values as HubSpot takes them: texts, and an empty one for none."""
    return {name: _text(value) for name, value in properties.items()}


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple():
            return ";".join(_text(item) for item in value)
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


def _refusal(error: Any) -> Wrote:
    said = _said(error)
    category = error.get("category", "") if isinstance(error, dict) else ""
    if category == "CONFLICT":
        return Wrote(error=said, hint="Another record there has this value: merge the two there, then sync again.")
    if category == "OBJECT_NOT_FOUND":
        return Wrote(error=said, hint="It was deleted there: restore it, or delete the record here.")
    return Wrote(error=said, hint="Correct the value here, or the mapping, then sync again.")


def _said(answer: Any) -> str:
    message = answer.get("message") if isinstance(answer, dict) else None
    return " ".join(str(message or "no reason").split())[:300].rstrip(".")


def _instant(text: Any) -> datetime | None:
    try:
        return parse_instant(str(text)).astimezone(UTC) if text else None
    except ValueError:
        return None
