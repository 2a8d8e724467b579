"""The records of a stand-in for HubSpot: typed properties, unique values, and what search knows of them yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from core.clock import Clock

SEARCH_LAGS = timedelta(seconds=10)

_TEXT, _NUMBER, _BOOL = "string", "number", "bool"
OWN = {"createdate": "datetime", "lastmodifieddate": "datetime", "hs_object_id": _NUMBER}
_CONTACT = dict.fromkeys(
    ("email", "firstname", "lastname", "phone", "company", "jobtitle", "city", "country", "lifecyclestage", "website"),
    _TEXT,
) | {"numemployees": _NUMBER, "annualrevenue": _NUMBER, "hs_email_optout": _BOOL, "dripstone_id": _TEXT}
_COMPANY = dict.fromkeys(("name", "domain", "industry", "city", "country", "phone", "dripstone_id"), _TEXT) | {
    "numberofemployees": _NUMBER, "annualrevenue": _NUMBER,
}  # fmt: skip
_DEAL = dict.fromkeys(("dealname", "dealstage", "pipeline", "dripstone_id"), _TEXT) | {"amount": _NUMBER}
PROPERTIES: Mapping[str, Mapping[str, str]] = {"contacts": _CONTACT, "companies": _COMPANY, "deals": _DEAL}
"""Object to its properties and their types."""

UNIQUE = {"contacts": ("email", "dripstone_id"), "companies": ("dripstone_id",), "deals": ("dripstone_id",)}


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, category: str, message: str, **more: Any):
        """Keep the answer."""
        super().__init__(message)
        self.status = status
        self.body = {"status": "error", "message": message, "category": category, **more}


@dataclass(slots=True)
class Stored:
    """A record."""

    id: str
    properties: dict[str, str]
    created_at: datetime
    updated_at: datetime
    searchable: tuple[datetime, dict[str, str]] | None = None
    """What search still finds: the state before the last change, and since when it is out of date."""
    archived_at: datetime | None = None


@dataclass(slots=True)
class Objects:
    """The records of an account."""

    clock: Clock
    records: dict[str, dict[str, Stored]] = field(default_factory=lambda: {name: {} for name in PROPERTIES})
    archived: dict[str, dict[str, Stored]] = field(default_factory=lambda: {name: {} for name in PROPERTIES})
    """What was deleted, and can be restored."""
    _serial: int = 100

    def make(self, name: str, properties: Mapping[str, Any]) -> Stored:
        """Make a record. Raises Refusal."""
        values = self._checked(name, properties)
        self._unique(name, values, "")
        self._serial += 1
        now = self.clock.now()
        own = {"createdate": iso(now), "lastmodifieddate": iso(now), "hs_object_id": str(self._serial)}
        if name != "contacts":
            own["hs_lastmodifieddate"] = own.pop("lastmodifieddate")
        made = Stored(str(self._serial), {**values, **own}, now, now)
        self.records[name][made.id] = made
        return made

    def change(self, name: str, record_id: str, properties: Mapping[str, Any]) -> Stored:
        """Change a record, as a person there does. Raises Refusal."""
        one = self.records[name].get(record_id)
        if one is None:
            raise Refusal(404, "OBJECT_NOT_FOUND", "resource not found")
        values = self._checked(name, properties)
        self._unique(name, values, record_id)
        now = self.clock.now()
        one.searchable = (now, dict(one.properties))
        modified = "lastmodifieddate" if name == "contacts" else "hs_lastmodifieddate"
        one.properties = {key: value for key, value in {**one.properties, **values}.items() if value != ""}
        one.properties[modified] = iso(now)
        one.updated_at = now
        return one

    def archive(self, name: str, record_id: str) -> None:
        """Take a record out of sight, as a person there deletes it; one that is not there is left so."""
        one = self.records[name].pop(record_id, None)
        if one is not None:
            one.archived_at = self.clock.now()
            self.archived[name][record_id] = one

    def restore(self, name: str, record_id: str) -> Stored:
        """Bring a record back, as a person there does, which counts as a change."""
        one = self.archived[name].pop(record_id)
        one.archived_at = None
        self.records[name][record_id] = one
        return self.change(name, record_id, {})

    def _checked(self, name: str, properties: Mapping[str, Any]) -> dict[str, str]:
        known = PROPERTIES[name]
        errors = []
        values = {}
        for key, given in properties.items():
            value = "" if given is None else str(given)
            if key not in known:
                message = f'Property "{key}" does not exist'
                errors.append({"isValid": False, "message": message, "error": "PROPERTY_DOESNT_EXIST", "name": key})
            elif key == "email" and value and "@" not in value:
                message = f"Email address {value} is invalid"
                errors.append({"isValid": False, "message": message, "error": "INVALID_EMAIL", "name": key})
            elif known[key] == _NUMBER and value and not _is_number(value):
                message = f"{value} was not a valid number."
                errors.append({"isValid": False, "message": message, "error": "INVALID_DOUBLE", "name": key})
            values[key] = value.lower() if key == "email" else value
        if errors:
            message = f"Property values were not valid: {errors[0]['message']}"
            raise Refusal(400, "VALIDATION_ERROR", message, errors=errors)
        return values

    def _unique(self, name: str, values: Mapping[str, str], but: str) -> None:
        for key in UNIQUE[name]:
            other = self.by(name, key, values.get(key, ""))
            if other is not None and other.id != but:
                what = "Contact" if key == "email" else f"Record with this {key}"
                raise Refusal(409, "CONFLICT", f"{what} already exists. Existing ID: {other.id}")

    def by(self, name: str, key: str, value: str) -> Stored | None:
        """Return the record whose property has a value, whatever the case of its letters."""
        if not value:
            return None
        wanted = value.lower()
        return next((one for one in self.records[name].values() if one.properties.get(key, "").lower() == wanted), None)

    def visible(self, one: Stored) -> dict[str, str] | None:
        """Return a record as search knows it by now; None where it does not know it yet."""
        now = self.clock.now()
        if now - one.updated_at >= SEARCH_LAGS:
            return one.properties
        if one.searchable is not None and now - one.created_at >= SEARCH_LAGS:
            return one.searchable[1]
        return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def iso(instant: datetime) -> str:
    """Return an instant as HubSpot writes it."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
