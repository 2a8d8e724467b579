"""What the columns of a table mean: named as the caller says, or taken by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.nearest import did_you_mean
from core.domain.records.import_files import FileRow

OWN = ("id", "external_id")
"""What a column may mean beside a field."""

_ALIASES: Mapping[str, Mapping[str, str]] = {
    "": {"public_id": "id", "record_id": "id", "external_ref": "external_id", "owner": "owner_id", "zip": "",
         "company_size": "employees", "headcount": "employees", "number_of_employees": "employees"},
    "contact": {
        "e_mail": "email", "email_address": "email", "e_mail_address": "email", "mail": "email",
        "given_name": "first_name", "firstname": "first_name", "vorname": "first_name",
        "family_name": "last_name", "surname": "last_name", "lastname": "last_name", "nachname": "last_name",
        "phone_number": "phone", "telephone": "phone", "mobile": "phone", "mobile_phone": "phone",
        "company": "company_name", "organization": "company_name", "employer": "company_name",
        "title": "job_title", "position": "job_title", "time_zone": "timezone", "country_code": "country",
        "account_id": "company_id", "unsubscribed_from_all": "unsubscribed",
    },
    "company": {
        "company": "name", "company_name": "name", "account_name": "name", "web": "website", "url": "website",
        "phone_number": "phone", "revenue": "annual_revenue",
    },
    "lead": {"contact": "contact_id", "stage": "status"},
}  # fmt: skip
"""Other names of fields that programs give their columns, by record type; "" for all."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

Meaning = Mapping[str, str]
"""Column to the field it fills, `id` or `external_id`; empty for one that is left out."""


def meanings(
    record_type: str, heads: Iterable[str], told: Mapping[str, str], known: Iterable[str]
) -> tuple[dict[str, str], list[Violation]]:
    """Return what each column means, and which nobody understands; `told` is what the caller says of columns."""
    found: dict[str, str] = {}
    violations: list[Violation] = []
    heads, known = list(heads), list(known)
    for column in told:
        if column not in heads:
            hint = did_you_mean(column, heads, "Name columns as the head of the file does.")
            violations.append(Violation(f"columns.{column[:80]}", "UNKNOWN_COLUMN", "is no column of the file", hint))
    for head in heads:
        meant = told.get(head)
        if meant is None:
            meant = by_name(record_type, head, known)
        if meant is None:
            message = f"the column `{head[:80]}` means nothing of a {record_type}"
            hint = did_you_mean(head, [*known, *OWN], f"Map it to custom.{_key(head)}, or to nothing to leave it out.")
            violations.append(Violation(f"columns.{head[:80]}", "UNKNOWN_COLUMN", message, hint))
        else:
            found[head] = meant
    return found, violations + _twice(found)


def by_name(record_type: str, head: str, known: Iterable[str]) -> str | None:
    """Return the field that a column's name says, or None."""
    known = set(known)
    if head in known or head in OWN or head.startswith("custom."):
        return head
    for key in dict.fromkeys((_key(head), _key(_CAMEL.sub("_", head)))):
        if key in known or key in OWN:
            return key
        if f"custom.{key}" in known:
            return f"custom.{key}"
        for names in (_ALIASES.get(record_type, {}), _ALIASES[""]):
            if key in names and (names[key] in known or names[key] in (*OWN, "")):
                return names[key]
    return None


def _twice(found: Mapping[str, str]) -> list[Violation]:
    places: dict[str, list[str]] = {}
    for head, meant in found.items():
        if meant:
            places.setdefault(meant, []).append(head)
    return [
        Violation(
            f"columns.{heads[1][:80]}",
            "FIELD_TWICE",
            f"fills {meant}, and so does `{heads[0][:80]}`",
            "Map one of them to nothing.",
        )
        for meant, heads in places.items()
        if len(heads) > 1
    ]


def _key(head: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", head.strip().lower()).strip("_")[:60] or "column"


def meant(row: FileRow, columns: Meaning, system: str) -> tuple[dict[str, Any], str, list[tuple[str, str]]]:
    """Return the fields of a row, its id and its names in other systems, by what its columns mean."""
    fields: dict[str, Any] = {}
    record_id, references = row.record_id, [(name or system, value) for name, value in row.references]
    for column, value in row.cells.items():
        match columns.get(column, column):
            case "":
                continue
            case "id":
                record_id = str(value).strip()[:100]
            case "external_id":
                references.append((system, str(value).strip()[:320]))
            case name:
                fields[name] = value
    return fields, record_id, references


def refuse(violations: list[Violation]) -> None:
    """Raise Invalid where there is something to refuse."""
    if violations:
        raise Invalid(*violations)
