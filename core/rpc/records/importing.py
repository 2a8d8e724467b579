"""Handlers of RecordService for imports: files taken in with a preview, carried out as durable work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.errors import ImportHasBadRows, Invalid, NotFound, Violation, WrongState, invalid
from core.domain.nearest import did_you_mean
from core.domain.records import import_columns, import_files
from core.domain.records.import_files import ReadFile
from core.domain.records.schema import Schema, TypeSchema
from core.engine import importing
from core.rpc.admission import reach
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.records import imports, record_schema
from core.store.records.imports import ImportState, NewRow, Outcome
from core.store.transaction import Transaction
from dripstone.v1 import transfer_pb2 as pb

CHECKED_WITHIN_THE_CALL = 1_000
"""Rows of a file that is checked before the answer."""

_MATCH_BY = ("email", "external_ref", "id")
_READERS = {
    pb.IMPORT_FORMAT_CSV: import_files.read_csv,
    pb.IMPORT_FORMAT_JSON: import_files.read_json,
    pb.IMPORT_FORMAT_NDJSON: import_files.read_ndjson,
}
_TRIGGERS = {
    pb.TRIGGER_BEHAVIOUR_NONE: "none",
    pb.TRIGGER_BEHAVIOUR_NEW: "new",
    pb.TRIGGER_BEHAVIOUR_ALL: "all",
}
_TRIGGER_VALUES = {text: value for value, text in _TRIGGERS.items()}
_ORDER = ("company", "contact", "lead", "opportunity", "activity", "task", "note")
"""In which order records of a bundle are written: what is named before what names it."""

_STATES = {state: getattr(pb, f"IMPORT_STATE_{state.upper()}") for state in ImportState}


async def create_import(request: pb.CreateImportRequest, call: Call) -> pb.Import:
    """Take a file in, check every row and tell what it would do. Raises Invalid."""
    schema = await record_schema.of(call.tx)
    _check(request, schema)
    read = await asyncio.to_thread(_READERS[request.format], request.content, request.type)
    _check_types(read, call)
    columns = _columns(request, read, schema)
    if call.caller.limits.narrow_fields:
        _leave_out_unnamed(request, read, columns)
    import_id = ids.mint("imp", call.now)
    row = {
        "id": import_id,
        "record_type": request.type,
        "match_by": request.match_by,
        "system": request.system,
        "columns": columns,
        "members": dict(read.members),
        "triggers": _TRIGGERS[request.trigger_behaviour],
        "skip_bad_rows": request.skip_bad_rows,
        "starts": request.start,
        "actor": call.caller.principal_id,
        "actor_kind": call.caller.principal_kind,
        "agent_id": call.caller.agent_id,
    }
    await imports.create(call.tx, row, _rows(read))
    if len(read.rows) <= CHECKED_WITHIN_THE_CALL:
        import_ = await _get(call.tx, import_id)
        while import_.state == ImportState.CHECKING:
            await importing.carry_on(call.tx, import_)
            import_ = await _get(call.tx, import_id)
    return _message(await _get(call.tx, import_id))


def _check(request: pb.CreateImportRequest, schema: Schema) -> None:
    violations = []
    if request.format not in _READERS:
        violations.append(Violation("format", "UNKNOWN_VALUE", "does not say the form of the file", "Use CSV or JSON."))
    if request.trigger_behaviour not in _TRIGGERS:
        hint = "Say NONE, NEW or ALL: whether workflows start by it."
        violations.append(Violation("trigger_behaviour", "REQUIRED", "is not said, and there is no default", hint))
    if request.type and request.type not in schema.types:
        hint = did_you_mean(request.type, schema.types, "ListRecordTypes tells which there are.")
        violations.append(Violation("type", "UNKNOWN_RECORD_TYPE", f"`{request.type}` is no type of record", hint))
    if not request.type and request.format == pb.IMPORT_FORMAT_CSV:
        violations.append(Violation("type", "REQUIRED", "is needed for a table", "Say contact, company or lead."))
    known = [*_MATCH_BY, *(one.path for one in schema.unique.get(request.type, ()))]
    if request.match_by not in ("", *known):
        hint = did_you_mean(request.match_by, known, f"Use one of {', '.join(known)}, or leave it out.")
        violations.append(Violation("match_by", "UNKNOWN_VALUE", "is nothing to match by", hint))
    if request.match_by == "email" and request.type not in ("", "contact"):
        violations.append(Violation("match_by", "UNKNOWN_VALUE", f"a {request.type} has no e-mail that is unique", ""))
    if violations:
        raise Invalid(*violations)


def _columns(request: pb.CreateImportRequest, read: ReadFile, schema: Schema) -> dict[str, dict[str, str]]:
    """Return what the columns of each type of record mean."""
    told = {column.column: column.field for column in request.columns}
    if len(told) < len(request.columns):
        raise invalid("columns", "COLUMN_TWICE", "says of a column twice what it means", "Say it once.")
    if read.table:
        known = _known(schema.of(request.type))
        found, violations = import_columns.meanings(request.type, read.columns, told, known)
        if "external_id" in found.values() and not request.system:
            hint = "Say in `system` whose ids they are, such as hubspot."
            violations.append(Violation("system", "REQUIRED", "is needed for a column external_id", hint))
        import_columns.refuse(violations)
        return {request.type: found}
    columns: dict[str, dict[str, str]] = {}
    for kind in {row.record_type for row in read.rows} & set(schema.types):
        names = {name for row in read.rows if row.record_type == kind for name in row.cells} - {"custom"}
        by_name = {name: import_columns.by_name(kind, name, _known(schema.of(kind))) for name in names}
        columns[kind] = {name: meaning for name, meaning in by_name.items() if meaning not in (None, name)}
        columns[kind] |= told
    return columns


def _check_types(read: ReadFile, call: Call) -> None:
    """Refuse records of types that the caller's key does not see. Raises Invalid."""
    hidden = sorted({row.record_type for row in read.rows if not call.caller.limits.allow_type(row.record_type)})
    if hidden:
        message = f"has records of the type {', '.join(hidden)[:100]}, which your key does not see"
        raise invalid("content", "BEYOND_YOUR_KEY", message, "Leave them out, or use another key.")


def _leave_out_unnamed(request: pb.CreateImportRequest, read: ReadFile, columns: dict[str, dict[str, str]]) -> None:
    """Take only the columns that the request names: those alone were judged by what the caller's key may write."""
    told = {column.column for column in request.columns}
    for row in read.rows:
        named = columns.setdefault(row.record_type, {})
        named |= dict.fromkeys(set(row.cells) - told, "")


def _known(of: TypeSchema) -> list[str]:
    return [*of.standard, *(one.path for one in of.live)]


def _rows(read: ReadFile) -> list[NewRow]:
    """Return rows in the order in which they are taken in."""
    found = read.rows
    if not read.table:
        ranks = {kind: rank for rank, kind in enumerate(_ORDER)}
        found = sorted(found, key=lambda row: ranks.get(row.record_type, len(ranks)))  # of one type, as they stand
    return [
        NewRow(
            number,
            row.record_type,
            row.record_id,
            {"cells": row.cells, "references": row.references},
            [fault.as_data() for fault in row.faults],
        )
        for number, row in enumerate(found, 1)
    ]


async def start_import(request: pb.StartImportRequest, call: Call) -> pb.Import:
    """Carry out a checked import. Raises NotFound, WrongState and ImportHasBadRows."""
    import_ = await _get(call.tx, request.import_id, lock=True)
    if import_.state not in (ImportState.CHECKED, ImportState.FAILED):
        raise WrongState(kind="import", id=import_.id, state=import_.state, action="being started")
    if import_.state == ImportState.CHECKED and import_.bad_count and not import_.skip_bad_rows:
        raise ImportHasBadRows(import_id=import_.id, count=import_.bad_count)
    await importing.start(call.tx, import_)
    return _message(await _get(call.tx, import_.id))


async def _rows_of_file(_call: Call, request: pb.CreateImportRequest) -> Reach:
    """Return how many rows a file has; nobody knows it of one that cannot be read."""
    read = _READERS.get(request.format)
    try:
        return Reach(len((await asyncio.to_thread(read, request.content, request.type)).rows) if read else None)
    except Invalid:
        return Reach(None)


async def _rows_of_import(call: Call, request: pb.StartImportRequest) -> Reach:
    import_ = await imports.get(call.tx, request.import_id)
    return Reach(import_.row_count if import_ is not None else None)


reach.register("RecordService.CreateImport", _rows_of_file)
reach.register("RecordService.StartImport", _rows_of_import)


async def cancel_import(request: pb.CancelImportRequest, call: Call) -> pb.Import:
    """Stop an import where it is. Raises NotFound, and WrongState for one that is over."""
    import_ = await _get(call.tx, request.import_id, lock=True)
    if ImportState(import_.state).over:
        raise WrongState(kind="import", id=import_.id, state=import_.state, action="being cancelled")
    await imports.note(call.tx, import_.id, state=ImportState.CANCELLED, ended_at=call.now)
    if import_.state in (ImportState.CHECKING, ImportState.CHECKED):
        await imports.forget(call.tx, import_.id)  # nothing was done with what the file says
    return _message(await _get(call.tx, import_.id))


async def get_import(request: pb.GetImportRequest, call: Call) -> pb.Import:
    """Return an import with its progress. Raises NotFound."""
    return _message(await _get(call.tx, request.import_id))


async def list_imports(request: pb.ListImportsRequest, call: Call) -> pb.ListImportsResponse:
    """Return a page of imports, newest first."""
    rows, token = await imports.page(call.tx, request.page_size, request.page_token)
    return pb.ListImportsResponse(imports=[_message(row) for row in rows], next_page_token=token)


async def list_import_rows(request: pb.ListImportRowsRequest, call: Call) -> pb.ListImportRowsResponse:
    """Return a page of what becomes of each row. Raises NotFound and Invalid."""
    await _get(call.tx, request.import_id)
    if request.outcome and request.outcome not in set(Outcome):
        hint = did_you_mean(request.outcome, set(Outcome), f"Use one of {', '.join(Outcome)}.")
        raise invalid("outcome", "UNKNOWN_VALUE", "is no outcome of a row", hint)
    rows, token = await imports.rows_page(
        call.tx, request.import_id, request.outcome, request.page_size, request.page_token
    )
    found = [
        pb.ImportRow(row=row.row, outcome=row.outcome, record_id=row.record_id, faults=map(_fault, row.faults))
        for row in rows
    ]
    return pb.ListImportRowsResponse(rows=found, next_page_token=token)


async def _get(tx: Transaction, import_id: str, *, lock: bool = False) -> Row[Any]:
    row = await imports.get(tx, import_id, lock=lock)
    if row is None:
        raise NotFound(kind="import", id=import_id)
    return row


def _fault(fault: Mapping[str, Any]) -> pb.ImportFault:
    return pb.ImportFault(**{name: fault[name] for name in ("column", "reason", "message", "hint")})


def _message(row: Row[Any]) -> pb.Import:
    named = row.columns.get(row.record_type, {})
    return pb.Import(
        id=row.id,
        state=_STATES[ImportState(row.state)],
        row_count=row.row_count,
        done_count=0 if row.state == ImportState.CHECKED else row.done_count,
        created_count=row.created_count,
        updated_count=row.updated_count,
        unchanged_count=row.unchanged_count,
        bad_count=row.bad_count,
        trigger_behaviour=_TRIGGER_VALUES[row.triggers],
        columns=[pb.ImportColumn(column=column, field=meaning) for column, meaning in named.items()],
        error=row.error,
        actor=row.actor,
        create_time=to_timestamp(row.created_at),
        end_time=to_timestamp(row.ended_at),
    )
