"""Handler of RecordService for setting fields of many records: planned, looked at, then applied exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select

from core.domain.control.plan import MOST_ITEMS, Item, Risk, Weighed
from core.domain.errors import Invalid, TooManyToUpdate, Violation
from core.domain.records import changes
from core.domain.records.fields import missing_fields, validate_fields
from core.domain.records.schema import Schema
from core.rpc.approvals import plan_kinds, plans
from core.rpc.call import Call
from core.rpc.convert import from_struct
from core.rpc.records.records import check_references, known_type, parsed_filter
from core.store.records import identifiers, pipelines, record_events, record_pages, record_schema, unsubscribed_field
from core.store.records.record_rows import Draft, Record, hold, records, save, to_record
from dripstone.v1 import plan_pb2, record_pb2
from dripstone.v1 import transfer_pb2 as transfer

KIND = "bulk_update"
_MANY = 1_000
_TRIGGERS: Mapping[int, record_events.Triggers] = {
    transfer.TRIGGER_BEHAVIOUR_UNSPECIFIED: "none",
    transfer.TRIGGER_BEHAVIOUR_NONE: "none",
    transfer.TRIGGER_BEHAVIOUR_NEW: "new",
    transfer.TRIGGER_BEHAVIOUR_ALL: "all",
}


async def plan_bulk_update(request: record_pb2.PlanBulkUpdateRequest, call: Call) -> plan_pb2.Plan:
    """Plan setting fields in all records that a filter finds. Raises Invalid and TooManyToUpdate."""
    schema = await record_schema.of(call.tx)
    known_type(schema, request.type)
    fields = _fields(request, schema)
    body = {
        "type": request.type,
        "filter": request.filter,
        "fields": fields,
        "reason": request.reason,
        "triggers": _TRIGGERS[request.trigger_behaviour],
    }
    await check_references(call.tx, schema.of(request.type), fields)
    row = await plan_kinds.keep(call, KIND, await _weighed(call, body, schema), body)
    return await plans.message(call, row)


def _fields(request: record_pb2.PlanBulkUpdateRequest, schema: Schema) -> dict[str, Any]:
    fields, violations = validate_fields(request.type, from_struct(request.fields), schema=schema)
    emptied = {f"fields.{name}" for name, value in fields.items() if value is None}
    violations += [one for one in missing_fields(request.type, {}, schema=schema) if one.field in emptied]
    shared = [name for name in ("email",) if request.type == "contact" and fields.get(name) is not None]
    shared += [one.path for one in schema.unique.get(request.type, ()) if fields.get(one.path) is not None]
    violations += [
        Violation(f"fields.{name}", "UNIQUE_FIELD", "can be of one record alone", "Set it in one, by UpdateRecord.")
        for name in shared
    ]
    if not fields and not violations:
        violations.append(Violation("fields", "REQUIRED", "sets nothing", "Say what to set."))
    if violations:
        raise Invalid(*violations)
    return fields


async def _weigh(call: Call, row: Row[Any]) -> Weighed:
    return await _weighed(call, row.body, await record_schema.of(call.tx), lock=True)


async def _weighed(call: Call, body: Mapping[str, Any], schema: Schema, *, lock: bool = False) -> Weighed:
    """Return what the update would do now, to every record that its filter finds."""
    of = schema.of(body["type"])
    where = await parsed_filter(call.tx, of, body["filter"])
    statement = record_pages.narrowed(call.tx, select(records), of, where).order_by(records.c.id)
    found = [to_record(row) for row in await call.tx.all(statement.limit(MOST_ITEMS + 1))]
    if len(found) > MOST_ITEMS:
        raise TooManyToUpdate(limit=MOST_ITEMS)
    if lock:
        held = await hold(call.tx, [(call.tx.org_id, record.id) for record in found])
        found = [held[call.tx.org_id, one.id] for one in found if (call.tx.org_id, one.id) in held]
    fields: Mapping[str, Any] = body["fields"]
    own = await unsubscribed_field.overridden(call.tx, [(record, fields) for record in found])
    items, going = [], []
    for record, (patch, wrong) in zip(found, await _patches(call, body["type"], found, fields), strict=True):
        title = of.title(record.fields)
        if wrong:
            items.append(Item(record.id, title, (), excluded_reason=_why_not(wrong), read=record.etag))
            continue
        item = _item(record, patch, title, refused=(call.tx.org_id, record.id) in own)
        items.append(item)
        if item.changes:
            going.append((record, patch))
    read = {name: body[name] for name in ("type", "filter", "fields", "triggers")}
    changed = len(going)
    return Weighed(
        title=f"Set {', '.join(sorted(fields))} of {changed} {of.plural.lower() if changed != 1 else body['type']}",
        items=items,
        read=read,
        risk=Risk.MEDIUM if changed > _MANY or body["triggers"] == "all" else Risk.LOW,
        found=going,
    )


async def _patches(
    call: Call, record_type: str, found: Sequence[Record], fields: Mapping[str, Any]
) -> list[tuple[dict[str, Any], list[Violation]]]:
    """Return what is set in each record, with what a stage says of those that stand in it, and what is wrong there."""
    if record_type != pipelines.OPPORTUNITY:
        return [(dict(fields), []) for _ in found]
    return await pipelines.place(call.tx, [(record.fields, fields, "fields") for record in found])


def _why_not(wrong: Sequence[Violation]) -> str:
    return " ".join(f"{one.field.removeprefix('fields.')}: {one.message}." for one in wrong)


def _item(record: Record, fields: Mapping[str, Any], title: str, *, refused: bool) -> Item:
    changed = changes.diff(record.fields, fields)
    why = ""
    if not changed:
        why = "It has these values already."
    elif refused:
        why = "The person refused messages themself, and only they can take that back."
    return Item(record.id, title, () if why else changed, excluded_reason=why, read=record.etag)


async def _apply(call: Call, row: Row[Any], weighed: Weighed) -> None:
    tx, actor = call.tx, call.caller.principal_id
    reason = row.body["reason"]
    cause = plan_kinds.cause(row.id) + (f" ({reason})" if reason else "")
    going: list[tuple[Record, Mapping[str, Any]]] = list(weighed.found or ())
    await identifiers.claim_changed(
        tx, [identifiers.Change(tx.org_id, record.id, record.type, patch) for record, patch in going]
    )
    drafts = []
    for record, patch in going:
        draft = Draft(record)
        draft.patch(patch, actor, cause)
        drafts.append(draft)
    written = await save(tx, drafts)
    await record_events.announce(tx, written, row.body["triggers"])
    await unsubscribed_field.heed(tx, drafts)


plan_kinds.register(plan_kinds.PlanKind(KIND, "records:write", _weigh, _apply))
