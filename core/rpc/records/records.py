"""Handlers of RecordService for records of every type, with their history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from sqlalchemy import Row

from core.domain import filters
from core.domain.articles import with_article
from core.domain.errors import Invalid, NotFound, Violation, invalid
from core.domain.filters import And, Comparison, Expression, Not, Or
from core.domain.nearest import did_you_mean
from core.domain.records import identity
from core.domain.records.changes import Change
from core.domain.records.fields import STANDARD_FIELDS, validate_fields
from core.domain.records.identity import Identifier
from core.domain.records.schema import MEMBER, STANDARD, Schema, TypeSchema
from core.rpc.call import Call
from core.rpc.changes import expect
from core.rpc.convert import from_struct, to_struct, to_timestamp, to_value
from core.store.merging import merges
from core.store.organizations import members
from core.store.records import identifiers, record_pages, record_schema, records
from core.store.records.identifiers import ExternalName
from core.store.records.record_pages import Order
from core.store.records.records import Record, Written
from core.store.transaction import Transaction
from dripstone.v1 import record_pb2 as pb

_NO_OWNER = "-"


async def get_record(request: pb.GetRecordRequest, call: Call) -> pb.Record:
    """Return one record."""
    found = await records.get_with_names(call.tx, request.record_id) or await _gone(call.tx, request.record_id)
    record, names = found
    return _message(record, names, await _schema_of(call.tx, [record]))


async def list_records(request: pb.ListRecordsRequest, call: Call) -> pb.ListRecordsResponse:
    """Return a page of records of one type, newest first unless told otherwise."""
    schema = await record_schema.of(call.tx)
    of = schema.of(known_type(schema, request.type))
    where = await parsed_filter(call.tx, of, request.filter)
    page, token = await record_pages.page(
        call.tx,
        of,
        request.page_size,
        request.page_token,
        filter_text=request.filter,
        where=where,
        order=Order.read(request.order_by, of),
        deleted=request.show_deleted,
    )
    return pb.ListRecordsResponse(records=await messages(call.tx, page), next_page_token=token)


async def parsed_filter(tx: Transaction, of: TypeSchema, text: str) -> Expression | None:
    """Return a filter of records of one type, None for an empty one. Raises Invalid."""
    where = filters.parse(text, {**of.filter_kinds(), **record_pages.ABOUT})
    return where if where is None or of.name != "contact" else await _emails_by_identity(tx, where)


async def upsert_record(request: pb.UpsertRecordRequest, call: Call) -> pb.UpsertRecordResponse:
    """Create a record, or set fields of the one that the external reference or the e-mail names.

    Raises Invalid, EmailTaken, ValueTaken and EtagMismatch.
    """
    schema = await record_schema.of(call.tx)
    record_type = known_type(schema, request.type)
    fields, violations = validate_fields(record_type, from_struct(request.fields), schema=schema)
    reference = _external_ref(request, violations)
    if violations:
        raise Invalid(*violations)
    await check_references(call.tx, schema.of(record_type), fields)
    written = await records.upsert(
        call.tx, record_type, fields, reference, actor=call.caller.principal_id, cause=cause_of(call, request.reason)
    )
    expect(record_type, written.record.id, given=request.etag, current=_etag_before(written))
    return pb.UpsertRecordResponse(
        record=(await messages(call.tx, [written.record]))[0],
        created=written.created,
        changes=_changes(written, call, request.reason),
    )


def _etag_before(written: Written) -> str:
    """Return the etag that a record had before it was written; `"0"` of one that there was not."""
    return f'"{0 if written.created else written.record.rev - bool(written.changes)}"'


async def update_record(request: pb.UpdateRecordRequest, call: Call) -> pb.UpdateRecordResponse:
    """Change the named fields of a record and tell what that changed."""
    record = await _get(call.tx, request.record_id)
    schema = await record_schema.of(call.tx)
    of = schema.of(record.type)
    fields, violations = validate_fields(record.type, from_struct(request.fields), schema=schema)
    if request.update_mask.paths:
        fields, more = _masked(of, fields, request.update_mask.paths, schema)
        violations += more
    required = [one.name for one in of.standard.values() if one.required]
    emptied = [name for name in required if name in fields and fields[name] is None]
    needed = f"{with_article(record.type)} cannot be without it"
    violations += [Violation(f"fields.{name}", "REQUIRED", needed) for name in emptied]
    if violations:
        raise Invalid(*violations)
    await check_references(call.tx, of, fields)
    written = await records.update(
        call.tx,
        record.id,
        fields,
        expected_etag=request.etag,
        actor=call.caller.principal_id,
        cause=cause_of(call, request.reason),
    )
    return pb.UpdateRecordResponse(
        record=(await messages(call.tx, [written.record]))[0], changes=_changes(written, call, request.reason)
    )


async def list_record_changes(request: pb.ListRecordChangesRequest, call: Call) -> pb.ListRecordChangesResponse:
    """Return a page of a record's history, newest first."""
    await _get(call.tx, request.record_id)
    rows, token = await records.changes_page(call.tx, request.record_id, request.page_size, request.page_token)
    return pb.ListRecordChangesResponse(changes=[change_message(row) for row in rows], next_page_token=token)


def change_message(row: Row[Any]) -> pb.RecordChange:
    """Return a change as the contract has it; the row has the record's type."""
    return pb.RecordChange(
        id=row.id,
        record_id=row.record_id,
        field=row.field,
        old_value=to_value(row.old_value),
        new_value=to_value(row.new_value),
        actor=row.actor,
        cause=row.cause,
        create_time=to_timestamp(row.created_at),
        record_type=row.record_type,
        reverted_by=row.reverted_by or "",
    )


async def messages(tx: Transaction, found: Sequence[Record]) -> list[pb.Record]:
    """Return records as the contract has them, with their names in other systems."""
    names = await identifiers.external_refs(tx, [record.id for record in found])
    schema = await _schema_of(tx, found)
    return [_message(record, names.get(record.id, ()), schema) for record in found]


async def _schema_of(tx: Transaction, found: Iterable[Record]) -> Schema:
    """Return the schema of records; most are of types that are the same everywhere."""
    own = any(record.type not in STANDARD_FIELDS for record in found)
    return await record_schema.of(tx) if own else STANDARD


def _message(record: Record, names: Iterable[ExternalName], schema: Schema) -> pb.Record:
    return pb.Record(
        id=record.id,
        type=record.type,
        fields=to_struct(record.fields),
        external_refs=[pb.ExternalRef(system=system, id=name) for system, name in names],
        etag=record.etag,
        create_time=to_timestamp(record.created_at),
        update_time=to_timestamp(record.updated_at),
        title=schema.of(record.type).title(record.fields),
        delete_time=to_timestamp(record.deleted_at),
    )


async def _get(tx: Transaction, record_id: str) -> Record:
    return await records.get(tx, record_id) or await _gone(tx, record_id)


async def _gone(tx: Transaction, record_id: str) -> NoReturn:
    raise await merges.kept_by(tx, record_id) or NotFound(kind="record", id=record_id)


def known_type(schema: Schema, text: str, field: str = "type") -> str:
    """Return a type of records. Raises Invalid for one that there is not."""
    if text in schema.types:
        return text
    hint = did_you_mean(text, schema.types, f"Use {', '.join(schema.types)}.")
    raise invalid(field, "UNKNOWN_RECORD_TYPE", f"`{text[:40]}` is no type of record", hint)


def _external_ref(request: pb.UpsertRecordRequest, violations: list[Violation]) -> list[Identifier]:
    if not request.HasField("external_ref"):
        return []
    identifier = identity.normalise(identity.external(request.external_ref.system), request.external_ref.id)
    if identifier is None:
        message = f"`{request.external_ref.id[:40]}` names nothing"
        violations.append(Violation("external_ref.id", "JUNK_IDENTIFIER", message, "Send the id that the system uses."))
        return []
    return [identifier]


def _masked(
    of: TypeSchema, fields: Mapping[str, Any], paths: Iterable[str], schema: Schema
) -> tuple[dict[str, Any], list[Violation]]:
    """Return the fields that a mask names; one that is named and not sent is removed."""
    chosen: dict[str, Any] = {}
    violations: list[Violation] = []
    for index, path in enumerate(paths):
        _, problems = validate_fields(of.name, {path: None}, schema=schema)
        if problems:
            violations.append(replace(problems[0], field=f"update_mask.paths[{index}]"))
            continue
        below = {name: value for name, value in fields.items() if name.startswith(f"{path}.")}
        chosen.update({path: fields.get(path)} if path in fields or not below else {path: None, **below})
    return chosen, violations


async def check_references(tx: Transaction, of: TypeSchema, fields: Mapping[str, Any]) -> None:
    """Refuse ids of records and members that are not there. Raises Invalid."""
    wanted = {path: (kind, fields[path]) for path, kind in of.references().items() if fields.get(path) is not None}
    named = [value for kind, value in wanted.values() if kind != MEMBER]
    there = {one.id: one.type for one in (await records.get_many(tx, named)).values()} if named else {}
    for kind, value in wanted.values():
        if kind == MEMBER and await members.get_active(tx, value) is not None:
            there[value] = MEMBER
    missing = [(f"fields.{path}", value) for path, (kind, value) in wanted.items() if there.get(value) != kind]
    if missing:
        raise Invalid(
            *[
                await merges.where_named(tx, field, value)
                or Violation(field, "NOT_FOUND", f"there is no {value} of the type that it names", "Check the id.")
                for field, value in missing
            ]
        )


async def _emails_by_identity(tx: Transaction, where: Expression) -> Expression:
    """Return a filter that asks for an e-mail's owner instead of the e-mail: an index instead of every record."""
    match where:
        case Comparison("email", "=", str() as email):
            identifier = identity.normalise("email", email)
            owner = None if identifier is None else await identifiers.owner(tx, "contact", identifier)
            return Comparison("id", "=", owner or _NO_OWNER, "string")
        case Not(inner):
            return Not(await _emails_by_identity(tx, inner))
        case And(items):
            return And(tuple([await _emails_by_identity(tx, item) for item in items]))
        case Or(items):
            return Or(tuple([await _emails_by_identity(tx, item) for item in items]))
    return where


def cause_of(call: Call, reason: str) -> str:
    """Return what to write as the cause of a change that a caller gave a reason for."""
    return f"{call.cause} ({reason})" if reason else call.cause


def _changes(written: Written, call: Call, reason: str) -> list[pb.RecordChange]:
    def message(change_id: str, change: Change) -> pb.RecordChange:
        return pb.RecordChange(
            id=change_id,
            record_id=written.record.id,
            field=change.field,
            old_value=to_value(change.old),
            new_value=to_value(change.new),
            actor=call.caller.principal_id,
            cause=cause_of(call, reason),
            create_time=to_timestamp(written.record.updated_at),
            record_type=written.record.type,
        )

    return [message(*pair) for pair in zip(written.change_ids, written.changes, strict=True)]
