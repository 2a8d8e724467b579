"""The form of an export: records as one JSON document, as JSON lines, or one type as a table.

A cursor says all that is needed to go on: the parts that were got and those that follow put together are the whole.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain.frozen import frozen
from core.domain.records.changes import value_at
from core.domain.records.import_files import escaped
from core.domain.records.values import instant_text

VERSION = 1
PARTS: Mapping[str, str] = {
    "company": "companies",
    "contact": "contacts",
    "lead": "leads",
    "opportunity": "opportunities",
    "activity": "activities",
    "task": "tasks",
    "note": "notes",
}
"""Type to its part of the document, in the order in which they are written: what is named before what names it.

A type of the organization's own stands under its name, after these.
"""

MOST_COLUMNS = 480
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen
class Exported:
    """A record on its way out."""

    record_type: str
    id: str
    fields: Mapping[str, Any]
    references: Sequence[tuple[str, str]]
    created_at: datetime
    updated_at: datetime
    changes: Sequence[Mapping[str, Any]] | None = None
    """Its history, oldest first; None where that is not wanted."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What a contact has beside its fields: `lists` it is on, `consents` it gave or refused."""


@frozen
class Cursor:
    """How far an export is."""

    record_type: str = ""
    """The type being written; empty at the very start."""
    after: str = ""
    """The last record of it that was written; empty before the first."""
    started_at: datetime | None = None
    count: int = 0
    over: bool = False

    def text(self) -> str:
        """Return it as callers keep it."""
        micros = (self.started_at - _EPOCH) // timedelta(microseconds=1) if self.started_at else 0
        return f"{self.record_type}:{self.after}:{micros}:{self.count}{':end' if self.over else ''}"


def read_cursor(text: str) -> Cursor:
    """Return what a cursor says; `<type>:<id>` of the last record is enough. Raises ValueError."""
    parts = text.split(":")
    if not 2 <= len(parts) <= 5 or (len(parts) == 5 and parts[4] != "end") or not parts[0]:
        raise ValueError("not a cursor")
    started = _EPOCH + timedelta(microseconds=int(parts[2])) if len(parts) > 2 and int(parts[2]) else None
    return Cursor(parts[0], parts[1], started, int(parts[3]) if len(parts) > 3 else 0, len(parts) == 5)


def order(types: Iterable[str]) -> list[str]:
    """Return types in the order in which they are written."""
    wanted = set(types)
    return [*(one for one in PARTS if one in wanted), *sorted(wanted - set(PARTS))]


def head(
    exported_at: datetime,
    organization: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    definitions: Mapping[str, Any],
) -> str:
    """Return the beginning of a document."""
    about = {"version": VERSION, "exported_at": instant_text(exported_at), "organization": organization}
    return _json({**about, "members": list(members), "definitions": definitions})[:-1]


def opening(record_type: str) -> str:
    """Return what begins a part of a document."""
    return f",\n{json.dumps(PARTS.get(record_type, record_type))}:["


def item(record: Exported, *, first: bool) -> str:
    """Return a record as a part of a document has it."""
    return ("\n" if first else ",\n") + _json(as_data(record))


CLOSING, END = "]", "}\n"


def line(record: Exported) -> str:
    """Return a record as a line."""
    return _json({"type": record.record_type, **as_data(record)}) + "\n"


def as_data(record: Exported) -> dict[str, Any]:
    """Return a record as JSON has it."""
    data: dict[str, Any] = {
        "id": record.id,
        "fields": dict(record.fields),
        "external_refs": [{"system": system, "id": name} for system, name in record.references],
        "create_time": instant_text(record.created_at),
        "update_time": instant_text(record.updated_at),
        **record.beside,
    }
    if record.changes is not None:
        data["changes"] = list(record.changes)
    return data


def table_head(columns: Sequence[str]) -> str:
    """Return the first line of a table."""
    return _row(["id", *columns])


def table_row(record: Exported, columns: Sequence[str]) -> str:
    """Return a record as a line of a table."""
    return _row([record.id, *(_cell(value_at(record.fields, path)) for path in columns)])


def custom_paths(fields: Mapping[str, Any], above: str = "custom") -> set[str]:
    """Return the paths of the own fields that a record has."""
    found: set[str] = set()
    for name, value in (fields.get("custom") or {} if above == "custom" else fields).items():
        path = f"{above}.{name}"
        found |= custom_paths(value, path) if isinstance(value, Mapping) else {path}
    return found


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return escaped(value)
        case int() | float():
            return str(value)
    return escaped(_json(value))


def _row(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
