"""The records of a stand-in for Salesforce: fields with their types, ids of eighteen characters, duplicates, errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from core.clock import Clock

_STRING = ("string", True)
_DOUBLE = ("double", True)
_BOOLEAN = ("boolean", True)
_OWN = {
    "Id": ("id", False),
    "CreatedDate": ("datetime", False),
    "SystemModstamp": ("datetime", False),
    "IsDeleted": ("boolean", False),
}
_PERSON: Mapping[str, tuple[str, bool]] = {
    **dict.fromkeys(
        ("FirstName", "LastName", "Email", "Phone", "Title", "City", "Country", "LeadSource", "Dripstone_Id__c"),
        _STRING,
    ),
    "HasOptedOutOfEmail": _BOOLEAN,
}
FIELDS: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "Lead": {**_OWN, **_PERSON, **dict.fromkeys(("Company", "Industry", "Status", "Rating"), _STRING),
             "NumberOfEmployees": _DOUBLE, "AnnualRevenue": _DOUBLE},
    "Contact": {**_OWN, **_PERSON, "AccountId": _STRING},
    "Account": {**_OWN, **dict.fromkeys(("Name", "Website", "Industry", "Phone", "Dripstone_Id__c"), _STRING),
                "NumberOfEmployees": _DOUBLE, "AnnualRevenue": _DOUBLE},
    "Organization": {**_OWN, "Name": _STRING},
}  # fmt: skip
"""Object to its fields: type, and whether it can be written."""

REQUIRED = {"Lead": ("LastName", "Company"), "Contact": ("LastName",), "Account": ("Name",), "Organization": ()}
EXTERNAL_IDS = ("Dripstone_Id__c",)
PREFIXES = {"Lead": "00Q", "Contact": "003", "Account": "001", "Organization": "00D"}
_LONGEST = 255


class Refusal(Exception):
    """A record is not taken."""

    def __init__(self, code: str, message: str, fields: Iterable[str] = ()):
        """Keep what is told."""
        super().__init__(message)
        self.code, self.message, self.fields = code, message, list(fields)

    @property
    def error(self) -> dict[str, Any]:
        """Return it as an entry of `errors`."""
        return {"statusCode": self.code, "message": self.message, "fields": self.fields}


@dataclass(slots=True)
class Objects:
    """The records of an organization."""

    clock: Clock
    records: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {name: {} for name in FIELDS})
    bin: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {name: {} for name in FIELDS})
    """What was deleted, and can be restored."""
    _serial: int = 0

    def __post_init__(self) -> None:
        """Begin with the organization itself."""
        self.make("Organization", {"Name": "Stand-in Ltd"})

    def make(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make a record. Raises Refusal."""
        values = self._checked(name, given)
        missing = [one for one in REQUIRED[name] if values.get(one) in (None, "")]
        if missing:
            raise Refusal("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing)
        self._unique(name, values, "")
        self._serial += 1
        record_id = f"{PREFIXES[name]}{self._serial:012}AAA"
        now = stamp(self.clock.now())
        made = {"Id": record_id, "CreatedDate": now, "SystemModstamp": now, "IsDeleted": False, **values}
        self.records[name][record_id] = made
        return made

    def change(self, name: str, record_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Change a record. Raises Refusal."""
        one = self.records[name].get(record_id)
        if one is None:
            raise Refusal("ENTITY_IS_DELETED", "entity is deleted")
        values = self._checked(name, given)
        emptied = [key for key in REQUIRED[name] if key in values and values[key] in (None, "")]
        if emptied:
            raise Refusal("REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(emptied)}]", emptied)
        self._unique(name, values, record_id)
        one.update(values)
        one["SystemModstamp"] = stamp(self.clock.now())
        return one

    def delete(self, name: str, record_id: str) -> None:
        """Put a record into the recycle bin. Raises Refusal."""
        one = self.records[name].pop(record_id, None)
        if one is None:
            raise Refusal("ENTITY_IS_DELETED", "entity is deleted")
        self.bin[name][record_id] = {**one, "IsDeleted": True, "SystemModstamp": stamp(self.clock.now())}

    def upsert(self, name: str, external: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """Make or change the record with an external id; tell whether it is new. Raises Refusal."""
        key = given.get(external)
        if external not in EXTERNAL_IDS or external not in FIELDS[name]:
            raise Refusal("INVALID_FIELD", f"{external} is not an external id field of {name}", [external])
        if key in (None, ""):
            raise Refusal("MISSING_ARGUMENT", f"{external} not specified", [external])
        known = self.by(name, external, key)
        if known is not None:
            return self.change(name, known["Id"], given), False
        return self.make(name, given), True

    def by(self, name: str, key: str, value: Any) -> dict[str, Any] | None:
        """Return the record whose field has a value, whatever the case of its letters."""
        wanted = str(value).lower()
        return next((one for one in self.records[name].values() if str(one.get(key) or "").lower() == wanted), None)

    def _unique(self, name: str, values: Mapping[str, Any], but: str) -> None:
        for key in EXTERNAL_IDS:
            other = self.by(name, key, values[key]) if values.get(key) else None
            if other is not None and other["Id"] != but:
                message = f"duplicate value found: {key} duplicates value on record with id: {other['Id']}"
                raise Refusal("DUPLICATE_VALUE", message)

    def _checked(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        values = {}
        for key, value in given.items():
            if key in ("attributes", "id", "Id"):
                continue
            kind, writable = FIELDS[name].get(key, ("", False))
            if not kind:
                message = f"No such column '{key}' on sobject of type {name}"
                raise Refusal("INVALID_FIELD", message, [key])
            if not writable:
                message = f"Unable to create/update fields: {key}. Please check the security settings of this field."
                raise Refusal("INVALID_FIELD_FOR_INSERT_UPDATE", message, [key])
            values[key] = _read(key, kind, value)
        return values


def stamp(instant: datetime) -> str:
    """Return an instant as Salesforce writes it."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03}+0000"


def _read(key: str, kind: str, value: Any) -> Any:
    if value is None or value == "":
        return False if kind == "boolean" else None
    if kind == "double":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal("INVALID_TYPE_ON_FIELD_IN_RECORD", f"{key}: value not of required type: {value}", [key])
        return value
    if kind == "boolean":
        return bool(value)
    text = str(value)
    if key == "Email" and ("@" not in text or " " in text):
        raise Refusal("INVALID_EMAIL_ADDRESS", f"{key}: invalid email address: {text}", [key])
    if len(text) > _LONGEST:
        message = f"{key}: data value too large: (max length={_LONGEST})"
        raise Refusal("STRING_TOO_LONG", message, [key])
    return text
