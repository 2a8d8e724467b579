"""Handlers of RecordService: contacts, companies and leads with their history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from core.domain import filters
from core.domain.errors import Invalid, NotFound, Violation, invalid
from core.domain.filters import And, Comparison, Expression, Kind, Not, Or
from core.domain.nearest import did_you_mean
from core.domain.records import identity
from core.domain.records.changes import Change
from core.domain.records.fields import RECORD_TYPES, STANDARD_FIELDS, validate_fields
from core.domain.records.identity import Identifier
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct, to_timestamp, to_value
from core.store import identifiers, merges, organizations, records
from core.store.records import Record, Written
from core.store.transaction import Transaction
from dripstone.v1 import record_pb2 as pb

_ABOUT: Mapping[str, Kind] = {"id": "string", "create_time": "instant", "update_time": "instant", "custom.*": "any"}
_NO_OWNER = "-"


async def get_record(request: pb.GetRecordRequest, call: Call) -> pb.Record:
    """Return one record."""
    return (await messages(call.tx, [await _get(call.tx, request.record_id)]))[0]


async def list_records(request: pb.ListRecordsRequest, call: Call) -> pb.ListRecordsResponse:
    """Return a page of records of one type, newest first."""
    record_type = _record_type(request.type)
    kinds: dict[str, Kind] = {name: field.kind for name, field in STANDARD_FIELDS[record_type].items()}
    where = filters.parse(request.filter, {**kinds, **_ABOUT})
    if where is not None and record_type == "contact":
        where = await _emails_by_identity(call.tx, where)
    page, token = await records.page(
        call.tx, record_type, request.page_size, request.page_token, filter_text=request.filter, where=where
    )
    return pb.ListRecordsResponse(records=await messages(call.tx, page), next_page_token=token)


async def upsert_record(request: pb.UpsertRecordRequest, call: Call) -> pb.UpsertRecordResponse:
    """Create a record, or set fields of the one that the external reference or the e-mail names."""
    record_type = _record_type(request.type)
    fields, violations = validate_fields(record_type, from_struct(request.fields))
    reference = _external_ref(request, violations)
    if violations:
        raise Invalid(*violations)
    await _check_references(call.tx, record_type, fields)
    written = await records.upsert(
        call.tx, record_type, fields, reference, actor=call.caller.principal_id, cause=_cause(call, request.reason)
    )
    return pb.UpsertRecordResponse(
        record=(await messages(call.tx, [written.record]))[0],
        created=written.created,
        changes=_changes(written, call, request.reason),
    )


async def update_record(request: pb.UpdateRecordRequest, call: Call) -> pb.UpdateRecordResponse:
    """Change the named fields of a record and tell what that changed."""
    record = await _get(call.tx, request.record_id)
    fields, violations = validate_fields(record.type, from_struct(request.fields))
    if request.update_mask.paths:
        fields, more = _masked(record.type, fields, request.update_mask.paths)
        violations += more
    if violations:
        raise Invalid(*violations)
    required = [f"fields.{name}" for name, field in STANDARD_FIELDS[record.type].items() if field.required]
    emptied = [path for path in required if fields.get(path.removeprefix("fields."), "") is None]
    if emptied:
        raise Invalid(*(Violation(path, "REQUIRED", f"a {record.type} cannot be without it") for path in emptied))
    await _check_references(call.tx, record.type, fields)
    written = await records.update(
        call.tx,
        record.id,
        fields,
        expected_etag=request.etag,
        actor=call.caller.principal_id,
        cause=_cause(call, request.reason),
    )
    return pb.UpdateRecordResponse(
        record=(await messages(call.tx, [written.record]))[0], changes=_changes(written, call, request.reason)
    )


async def list_record_changes(request: pb.ListRecordChangesRequest, call: Call) -> pb.ListRecordChangesResponse:
    """Return a page of a record's history, newest first."""
    await _get(call.tx, request.record_id)
    rows, token = await records.changes_page(call.tx, request.record_id, request.page_size, request.page_token)
    found = [
        pb.RecordChange(
            id=row.id,
            record_id=row.record_id,
            field=row.field,
            old_value=to_value(row.old_value),
            new_value=to_value(row.new_value),
            actor=row.actor,
            cause=row.cause,
            create_time=to_timestamp(row.created_at),
        )
        for row in rows
    ]
    return pb.ListRecordChangesResponse(changes=found, next_page_token=token)


async def messages(tx: Transaction, found: Sequence[Record]) -> list[pb.Record]:
    """Return records as the contract has them, with their names in other systems."""
    references = await identifiers.external_refs(tx, [record.id for record in found])
    return [
        pb.Record(
            id=record.id,
            type=record.type,
            fields=to_struct(record.fields),
            external_refs=[pb.ExternalRef(system=system, id=name) for system, name in references.get(record.id, ())],
            etag=record.etag,
            create_time=to_timestamp(record.created_at),
            update_time=to_timestamp(record.updated_at),
        )
        for record in found
    ]


async def _get(tx: Transaction, record_id: str) -> Record:
    record = await records.get(tx, record_id)
    if record is None:
        raise await merges.kept_by(tx, record_id) or NotFound(kind="record", id=record_id)
    return record


def _record_type(text: str) -> str:
    if text in RECORD_TYPES:
        return text
    hint = did_you_mean(text, RECORD_TYPES, "Use contact, company or lead.")
    raise invalid("type", "UNKNOWN_RECORD_TYPE", f"`{text[:40]}` is no type of record", hint)


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
    record_type: str, fields: Mapping[str, Any], paths: Iterable[str]
) -> tuple[dict[str, Any], list[Violation]]:
    """Return the fields that a mask names; one that is named and not sent is removed."""
    chosen: dict[str, Any] = {}
    violations: list[Violation] = []
    for index, path in enumerate(paths):
        _, problems = validate_fields(record_type, {path: None})
        if problems:
            violations.append(replace(problems[0], field=f"update_mask.paths[{index}]"))
            continue
        below = {name: value for name, value in fields.items() if name.startswith(f"{path}.")}
        chosen.update({path: fields.get(path)} if path in fields or not below else {path: None, **below})
    return chosen, violations


async def _check_references(tx: Transaction, record_type: str, fields: Mapping[str, Any]) -> None:
    """Refuse ids of records and members that are not there. Raises Invalid."""
    wanted = {
        name: (field.prefix, fields[name])
        for name, field in STANDARD_FIELDS[record_type].items()
        if field.prefix and fields.get(name) is not None
    }
    found: set[str] = set()
    record_ids = [value for prefix, value in wanted.values() if prefix != "mem"]
    if record_ids:
        found |= set(await records.get_many(tx, record_ids))
    for prefix, value in wanted.values():
        if prefix == "mem" and await organizations.get_member(tx, value) is not None:
            found.add(value)
    missing = [(f"fields.{name}", value) for name, (_, value) in wanted.items() if value not in found]
    if missing:
        raise Invalid(
            *[
                await merges.where_named(tx, field, value)
                or Violation(field, "NOT_FOUND", f"there is no {value}", "Check the id.")
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


def _cause(call: Call, reason: str) -> str:
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
            cause=_cause(call, reason),
            create_time=to_timestamp(written.record.updated_at),
        )

    return [message(*pair) for pair in zip(written.change_ids, written.changes, strict=True)]
