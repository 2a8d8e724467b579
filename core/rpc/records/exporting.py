"""Handler of RecordService for exports: records as a file, streamed page by page.

Each page is read in a transaction of its own, so that a long export holds nothing up: every record is whole as it was
when its page was read, and what was created after the export began is not in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select

from core.domain.errors import GoingAway, Invalid, Violation, invalid
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records import export
from core.domain.records.changes import Change
from core.domain.records.export import Cursor, Exported
from core.domain.records.schema import Schema
from core.domain.records.values import instant_text
from core.rpc.call import Call
from core.rpc.records import exported_beside
from core.store.organizations import organizations
from core.store.organizations.members import members
from core.store.records import identifiers, record_schema
from core.store.records.record_rows import Record, record_changes, records, to_record
from core.store.transaction import Transaction
from dripstone.v1 import transfer_pb2 as pb

RECORDS_AT_ONCE = 200
_CONTENT_TYPES = {
    pb.EXPORT_FORMAT_JSON: "application/json",
    pb.EXPORT_FORMAT_NDJSON: "application/x-ndjson",
    pb.EXPORT_FORMAT_CSV: "text/csv; charset=utf-8",
}


@frozen
class _Wanted:
    """What an export is of."""

    call: Call
    types: Sequence[str]
    format: int
    with_changes: bool
    started_at: datetime
    columns: Sequence[str] = ()


async def export_records(request: pb.ExportRecordsRequest, call: Call) -> AsyncIterator[pb.ExportRecordsResponse]:
    """Stream records as one file. Raises Invalid, and GoingAway when the process ends: the cursor goes on elsewhere."""
    form = request.format or pb.EXPORT_FORMAT_JSON
    async with call.parts.database.read(call.caller.org_id) as tx:
        schema = await record_schema.of(tx)
        cursor, types = _checked(request, form, schema, call)
        started = cursor.started_at or call.now
        wanted = _Wanted(call, types, form, request.include_changes, started)
        if form == pb.EXPORT_FORMAT_CSV:
            columns = await _columns(tx, schema, wanted)
            wanted = replace(wanted, columns=columns)
    cursor = replace(cursor, started_at=started)
    while not cursor.over:
        if call.parts.draining.is_set():
            raise GoingAway(retry_after=1.0)
        async with call.parts.database.read(call.caller.org_id) as tx:
            content, cursor = await _part(tx, wanted, cursor)
        yield pb.ExportRecordsResponse(
            content=content.encode(),
            cursor=cursor.text(),
            record_count=cursor.count,
            content_type=_CONTENT_TYPES[form],
        )


def _checked(request: pb.ExportRecordsRequest, form: int, schema: Schema, call: Call) -> tuple[Cursor, list[str]]:
    """Return where to begin and the types to write, in order. Raises Invalid."""
    allowed = [name for name in schema.types if call.caller.limits.allow_type(name)]
    wrong = [
        Violation(f"types[{index}]", "UNKNOWN_RECORD_TYPE", f"`{name[:40]}` is no type of record", hint)
        for index, name in enumerate(request.types)
        if name not in allowed
        for hint in [did_you_mean(name, allowed, "ListRecordTypes tells which there are.")]
    ]
    if form == pb.EXPORT_FORMAT_CSV and len(request.types) != 1:
        wrong.append(Violation("types", "REQUIRED", "must name one type for a table", "Name one, such as contact."))
    if form == pb.EXPORT_FORMAT_CSV and request.include_changes:
        wrong.append(Violation("include_changes", "NOT_ALLOWED", "has no place in a table", "Export JSON instead."))
    if wrong:
        raise Invalid(*wrong)
    types = export.order(request.types or allowed)
    if not request.cursor:
        return Cursor(), types
    try:
        cursor = export.read_cursor(request.cursor)
    except (ValueError, OverflowError):
        cursor = Cursor("?")
    if cursor.record_type not in types:
        hint = "Send the last cursor you got, with the same types and form."
        raise invalid("cursor", "BAD_CURSOR", "is none of this export", hint)
    return cursor, types


async def _part(tx: Transaction, wanted: _Wanted, cursor: Cursor) -> tuple[str, Cursor]:
    """Return the next part of the file and how far it is then."""
    texts: list[str] = []
    as_json = wanted.format == pb.EXPORT_FORMAT_JSON
    if not cursor.record_type:
        texts.append(await _beginning(tx, wanted))
        cursor = replace(cursor, record_type=wanted.types[0])
    if as_json and not cursor.after:
        texts.append(export.opening(cursor.record_type))
    page = await _page(tx, wanted, cursor)
    for record in page:
        texts.append(_one(record, wanted, first=not cursor.after))
        cursor = replace(cursor, after=record.id, count=cursor.count + 1)
    if len(page) < RECORDS_AT_ONCE:
        following = wanted.types[wanted.types.index(cursor.record_type) + 1 :]
        texts.append(export.CLOSING if as_json else "")
        if following:
            cursor = replace(cursor, record_type=following[0], after="")
        else:
            texts.append(export.END if as_json else "")
            cursor = replace(cursor, over=True)
    return "".join(texts), cursor


async def _beginning(tx: Transaction, wanted: _Wanted) -> str:
    if wanted.format == pb.EXPORT_FORMAT_CSV:
        return export.table_head(wanted.columns)
    if wanted.format == pb.EXPORT_FORMAT_NDJSON:
        return ""
    organization = await organizations.get(tx)
    m = members.c
    people = await tx.all(select(m.id, m.email, m.display_name).order_by(m.id))
    defined = await exported_beside.definitions(tx, wanted.call, await record_schema.of(tx), wanted.types)
    about = {"id": organization.org_id, "display_name": organization.display_name, "timezone": organization.timezone}
    return export.head(wanted.started_at, about, [row._asdict() for row in people], defined)


def _one(record: Exported, wanted: _Wanted, *, first: bool) -> str:
    match wanted.format:
        case pb.EXPORT_FORMAT_CSV:
            return export.table_row(record, wanted.columns)
        case pb.EXPORT_FORMAT_NDJSON:
            return export.line(record)
    return export.item(record, first=first)


async def _page(tx: Transaction, wanted: _Wanted, cursor: Cursor) -> list[Exported]:
    c = records.c
    rows = await tx.all(
        select(records)
        .where(
            c.type == cursor.record_type,
            c.id > cursor.after,
            c.deleted_at.is_(None),
            c.created_at <= wanted.started_at,
        )
        .order_by(c.id)
        .limit(RECORDS_AT_ONCE)
    )
    found = [to_record(row) for row in rows]
    references = await identifiers.external_refs(tx, [record.id for record in found])
    history = await _history(tx, wanted, found) if wanted.with_changes else None
    beside: dict[str, dict[str, Any]] = {}
    if cursor.record_type == "contact" and wanted.format != pb.EXPORT_FORMAT_CSV:
        beside = await exported_beside.of_contacts(tx, [record.id for record in found])
    return [
        Exported(
            record.type,
            record.id,
            shown(wanted.call, record.type, record.fields),
            references.get(record.id, ()),
            record.created_at,
            record.updated_at,
            None if history is None else history.get(record.id, []),
            beside.get(record.id, {}),
        )
        for record in found
    ]


def shown(call: Call, record_type: str, fields: Any, above: str = "") -> dict[str, Any]:
    """Return the fields of a record that the caller's key may see."""
    limits = call.caller.limits
    if not limits.hidden_fields:
        return dict(fields)
    left = {}
    for name, value in fields.items():
        path = f"{above}{name}"
        if not limits.hide(record_type, path):
            left[name] = shown(call, record_type, value, f"{path}.") if isinstance(value, dict) else value
    return left


async def _history(tx: Transaction, wanted: _Wanted, found: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    c = record_changes.c
    kinds = {record.id: record.type for record in found}
    rows = await tx.all(select(record_changes).where(c.record_id.in_(sorted(kinds))).order_by(c.record_id, c.id))
    history: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if wanted.call.caller.limits.hide(kinds[row.record_id], row.field):
            continue
        change = Change(row.field, row.old_value, row.new_value)
        told = {"id": row.id, "field": change.field, "old_value": change.old, "new_value": change.new}
        by = {"actor": row.actor, "cause": row.cause, "create_time": instant_text(row.created_at)}
        history.setdefault(row.record_id, []).append({**told, **by})
    return history


async def _columns(tx: Transaction, schema: Schema, wanted: _Wanted) -> list[str]:
    """Return the columns of a table: the type's own, and whatever else stands below `custom` of its records."""
    (record_type,) = wanted.types
    of = schema.of(record_type)
    named = [*of.standard, *(one.path for one in of.live)]
    more: set[str] = set()
    after, c = "", records.c
    while len(more) < export.MOST_COLUMNS:
        page = select(c.id, c.fields).where(c.type == record_type, c.id > after, c.deleted_at.is_(None))
        rows = await tx.all(page.order_by(c.id).limit(RECORDS_AT_ONCE * 5))
        more |= {path for row in rows for path in export.custom_paths(row.fields)}
        if len(rows) < RECORDS_AT_ONCE * 5:
            break
        after = rows[-1].id
    columns = [*named, *sorted(more - set(named))[: export.MOST_COLUMNS]]
    return [path for path in columns if not wanted.call.caller.limits.hide(record_type, path)]
