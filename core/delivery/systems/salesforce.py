"""Salesforce: collections write up to 200 records a call, SOQL reads; the external id makes a repeat harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from core.delivery.send_result import SendResult
from core.delivery.systems.client import Account, Api, Limited, Page, Property, Refused, Theirs, Write, Wrote
from core.domain.records.values import parse_instant
from core.domain.systems.settings import TypeMapping

VERSION = "v62.0"
_DATA = f"/services/data/{VERSION}"
_LAGS = timedelta(minutes=1)
_KEYS_AT_ONCE = 100
_USAGE = re.compile(r"api-usage=(\d+)/(\d+)")
_HOUR = 3_600.0


class Salesforce:
    """A Salesforce organization."""

    batch = 200

    def __init__(self, api: Api):
        """Speak through this."""
        self._api = api

    async def account(self) -> Account:
        """Sign in and tell which organization it is."""
        result, answer = await self._call("GET", _query("SELECT Id, Name FROM Organization"))
        found = answer.get("records") or [{}]
        usage = _USAGE.search(result.headers.get("sforce-limit-info", ""))
        left = max(int(usage[2]) - int(usage[1]), 0) if usage else 0
        return Account(str(found[0].get("Name") or "Salesforce"), left)

    async def properties(self, mapping: TypeMapping) -> Mapping[str, Property]:
        """Return the fields of an object."""
        _, answer = await self._call("GET", f"{_DATA}/sobjects/{mapping.object}/describe")
        return {
            one["name"]: Property(
                one["name"],
                bool(one.get("updateable")),
                bool(one.get("externalId") or one.get("unique") or one.get("idLookup")),
            )
            for one in answer.get("fields", ())
        }

    async def changed(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page of what changed, oldest change first."""
        path = cursor
        if not path:
            where = ""
            if since is not None:
                where = f" WHERE SystemModstamp >= {_instant_text(since - _LAGS)}"
            path = _select(mapping, f"{where} ORDER BY SystemModstamp, Id")
        _, answer = await self._call("GET", path)
        return Page(_all(answer.get("records") or ()), _following(answer))

    async def deleted(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page of what lies in the recycle bin since then."""
        path = cursor
        if not path:
            late = "" if since is None else f" AND SystemModstamp >= {_instant_text(since - _LAGS)}"
            rest = f" WHERE IsDeleted = true{late} ORDER BY SystemModstamp, Id"
            path = _query(f"SELECT Id, SystemModstamp FROM {mapping.object}{rest}", "queryAll")  # noqa: S608
        _, answer = await self._call("GET", path)
        return Page(_all(answer.get("records") or ()), _following(answer))

    async def by_id(self, mapping: TypeMapping, ids: Sequence[str]) -> dict[str, Theirs]:
        """Return records by their ids there."""
        if not ids:
            return {}
        body = {"ids": list(ids), "fields": _fields(mapping).split(", ")}
        _, answer = await self._call("POST", f"{_DATA}/composite/sobjects/{mapping.object}", body)
        found = _all([one for one in answer if one] if isinstance(answer, list) else ())
        return {one.id: one for one in found}

    async def by_key(self, mapping: TypeMapping, keys: Sequence[str]) -> dict[str, Theirs]:
        """Return records by their external id."""
        found: dict[str, Theirs] = {}
        unique = mapping.unique_property
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            names = ", ".join(_quoted(key) for key in keys[start : start + _KEYS_AT_ONCE])
            path = _select(mapping, f" WHERE {unique} IN ({names})")
            while path:
                _, answer = await self._call("GET", path)
                found |= {
                    str(one.properties.get(unique) or "").lower(): one for one in _all(answer.get("records") or ())
                }
                path = _following(answer)
        return found

    async def write(self, mapping: TypeMapping, writes: Sequence[Write]) -> list[Wrote]:
        """Update what is known by its id, upsert the rest by the external id."""
        unique = mapping.unique_property
        outcomes: dict[str, Wrote] = {}
        about = {"attributes": {"type": mapping.object}}
        for known in (True, False):
            chosen = [one for one in writes if bool(one.external_id) is known]
            if not chosen:
                continue
            if known:
                rows = [{**about, "id": one.external_id, **one.properties} for one in chosen]
                path = f"{_DATA}/composite/sobjects"
            else:
                rows = [{**about, **one.properties, unique: one.key} for one in chosen]
                path = f"{_DATA}/composite/sobjects/{mapping.object}/{unique}"
            _, answer = await self._call("PATCH", path, {"allOrNone": False, "records": rows})
            results = answer if isinstance(answer, list) else []
            outcomes |= {one.record_id: _wrote(said) for one, said in zip(chosen, results, strict=False)}
        return [outcomes.get(one.record_id, Wrote(error="the system said nothing about it")) for one in writes]

    async def delete(self, mapping: TypeMapping, gone: Sequence[Write]) -> list[Wrote]:
        """Put records into the recycle bin."""
        query = urlencode({"ids": ",".join(one.external_id for one in gone), "allOrNone": "false"}, safe=",")
        _, answer = await self._call("DELETE", f"{_DATA}/composite/sobjects?{query}")
        results = answer if isinstance(answer, list) else []
        outcomes = {one.record_id: said for one, said in zip(gone, results, strict=False)}
        return [
            Wrote(one.external_id) if _is_gone(outcomes.get(one.record_id)) else _wrote(outcomes.get(one.record_id, {}))
            for one in gone
        ]

    async def _call(self, method: str, path: str, body: Any = None) -> tuple[SendResult, Any]:
        result, answer = await self._api.call(method, path, body)
        if result.status_code >= 400:
            hint = "Run CheckConnection: it names what does not fit."
            raise Refused(f"Salesforce answered: {_said(answer)}", hint)
        return result, answer if answer is not None else {}


def judge(result: SendResult, answer: Any) -> None:
    """Raise Limited or Refused where an answer says so."""
    code = _code(answer)
    if code == "REQUEST_LIMIT_EXCEEDED":
        raise Limited("Salesforce's limit of calls a day is reached", _HOUR)
    if code in ("SERVER_UNAVAILABLE", "UNABLE_TO_LOCK_ROW"):
        raise Limited("Salesforce is busy", 30.0)
    if result.status_code == 403:
        raise Refused(f"Salesforce answered: {_said(answer)}", "Give the user the permissions that the mapping needs.")


def _fields(mapping: TypeMapping) -> str:
    return ", ".join(dict.fromkeys(["Id", "SystemModstamp", *mapping.properties]))


def _select(mapping: TypeMapping, rest: str) -> str:
    """Return the path of a query; names were checked to be names, values are quoted."""
    return _query(f"SELECT {_fields(mapping)} FROM {mapping.object}{rest}")  # noqa: S608


def _query(soql: str, how: str = "query") -> str:
    return f"{_DATA}/{how}?{urlencode({'q': soql})}"


def _following(answer: Mapping[str, Any]) -> str:
    """Return the path of the next page; empty at the end. Raises Refused for one that is elsewhere."""
    path = str(answer.get("nextRecordsUrl") or "")
    if path and not path.startswith((f"{_DATA}/query/", f"{_DATA}/queryAll/")):
        raise Refused("Salesforce names a next page elsewhere", "Tell whoever runs it.")
    return path


def _instant_text(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _is_gone(said: Mapping[str, Any] | None) -> bool:
    codes = {error.get("statusCode") for error in (said or {}).get("errors") or ()}
    return bool(codes & {"ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY"})


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
    return f"'{escaped}'"


def _all(found: Sequence[Any]) -> tuple[Theirs, ...]:
    return tuple(
        Theirs(
            str(one["Id"]),
            {name: value for name, value in one.items() if name != "attributes"},
            _instant(one.get("SystemModstamp")),
        )
        for one in found
    )


def _wrote(said: Mapping[str, Any]) -> Wrote:
    if said.get("success"):
        return Wrote(str(said.get("id") or ""), bool(said.get("created")))
    error = (said.get("errors") or [{}])[0]
    code, message = str(error.get("statusCode") or ""), " ".join(str(error.get("message") or "no reason").split())
    fields = ", ".join(error.get("fields") or ())
    hint = {
        "DUPLICATE_VALUE": "Another record there has this value: merge the two there, then sync again.",
        "DUPLICATES_DETECTED": "A duplicate rule there refuses it: merge the two there, then sync again.",
        "ENTITY_IS_DELETED": "It was deleted there: restore it, or delete the record here.",
        "REQUIRED_FIELD_MISSING": f"Map {fields or 'the field'}, or give it a value here.",
        "UNABLE_TO_LOCK_ROW": "It was being changed there: sync again.",
    }.get(code, "Correct the value here, or the mapping, then sync again.")
    return Wrote(error=f"{message[:300].rstrip('.')} ({code})" if code else message[:300], hint=hint)


def _code(answer: Any) -> str:
    first = answer[0] if isinstance(answer, list) and answer else answer
    return str(first.get("errorCode") or "") if isinstance(first, dict) else ""


def _said(answer: Any) -> str:
    first = answer[0] if isinstance(answer, list) and answer else answer
    message = first.get("message") if isinstance(first, dict) else None
    return " ".join(str(message or "no reason").split())[:300].rstrip(".")


def _instant(text: Any) -> datetime | None:
    try:
        return parse_instant(re.sub(r"\+0000$", "+00:00", str(text))) if text else None
    except ValueError:
        return None
