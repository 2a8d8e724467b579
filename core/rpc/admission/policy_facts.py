"""What policies see of a call: who, what, how much, and which fields from what to what.

What cannot be known before a call is done is left out, and a condition that looks at it denies.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from sqlalchemy import Row, select

from core.domain.control.policy import VARIABLES
from core.domain.records import changes, identity
from core.domain.records.identity import Identifier
from core.domain.records.standard import OBJECT_PREFIX
from core.rpc.admission import named_fields, reach
from core.rpc.admission.named_fields import TYPE_OF_PREFIX, prefix_of
from core.rpc.admission.narrowing import WORKFLOW_OF
from core.rpc.call import Call, Caller
from core.rpc.convert import from_struct
from core.store.agents import agent_templates
from core.store.control import plans
from core.store.records import identifiers, records
from core.store.transaction import Transaction

TOOL = "x-dripstone-tool"
"""The header in which the MCP server names the tool that was called; any client may send it."""
_LONGEST_TOOL = 100
_RECORD_IDS = ("record_id", "lead_id", "contact_id", "kept_id")

_WRITES_UNKNOWN = frozenset(
    {
        *("RecordService.MergeRecords", "RecordService.UndoMerge", "RecordService.ResolveIdentityConflict"),
        *("RecordService.RestoreRecord", "RecordService.RevertChanges", "RecordService.StartImport"),
        *("QualificationService.QualifyLead", "QualificationService.AcceptAssignment"),
        *("QualificationService.DeclineAssignment", "ConnectionService.StartSync"),
    }
)
"""Methods that set fields which nobody knows before."""

_ALWAYS_WRITTEN = {"OrganizationService.RemoveMember": frozenset({"owner_id"})}
"""Fields of records that methods set whose requests name none."""


async def facts(
    tx: Transaction, caller: Caller, method: str, request: Message | None, wanted: frozenset[str], call: Call
) -> dict[str, Any]:
    """Return the variables of conditions by name; what is costly to know only where it is `wanted`."""
    counts = counts_of(request) if request is not None else {}
    about = _about(request)
    found: dict[str, Any] = {
        "principal.id": caller.principal_id,
        "principal.kind": caller.principal_kind,
        "principal.role": caller.role,
        "principal.scopes": sorted(caller.scopes),
        "action.method": method,
        "action.tool": call.metadata.get(TOOL, "")[:_LONGEST_TOOL],
        "action.record_type": await _record_type(tx, request, about),
        "action.dry_run": bool(getattr(request, "validate_only", False)),
        "now": call.now,
    }
    plan_id = getattr(request, "plan_id", "")
    plan = await plans.get(tx, plan_id) if plan_id else None
    if plan is not None:
        counts |= {**plan.counts, "items": plan.item_count, "excluded": plan.excluded_count}
        found["action.record_type"] = str(plan.body.get("type", ""))
    if plan is not None or not plan_id:
        found["counts"] = counts
        usual = counts.get("items", max((counts[name] for name in counts if "." not in name), default=1))
        reached = await reach.of(call, method, request) if "action.count" in wanted and plan is None else None
        if reached is None or reached.count is not None:
            found["action.count"] = usual if reached is None else reached.count
    if "action.workflow_id" in wanted and (workflow_id := await _workflow(tx, request, plan)) is not None:
        found["action.workflow_id"] = workflow_id
    if (names := _fields(method, request, plan)) is not None:
        found["action.fields"] = sorted(names)
        if "diff" in wanted:
            diff = await diff_of(tx, request) if request is not None and plan is None else {}
            # Of what many records are set to it is known which fields, and not from what to what.
            found["diff"] = diff if is_one_record(request) else {name: {} for name in names - _identifying(request)}
    assert found.keys() <= VARIABLES.keys()
    return found


def is_one_record(request: Message | None) -> bool:
    """Tell whether a request sets fields of one record, so that their values before are known."""
    return request is None or request.DESCRIPTOR.name in ("UpdateRecordRequest", "UpsertRecordRequest")


def _fields(method: str, request: Any, plan: Row[Any] | None) -> set[str] | None:
    """Return the fields that a call sets; None where that cannot be known before."""
    if plan is not None:
        named = {name.removeprefix("field.") for name in plan.counts if name.startswith("field.")}
        return named if named or not plan.item_count else None
    if request is None:
        return set()
    if method in _WRITES_UNKNOWN and not _only_looks(request):
        return None
    if method == "RecordService.CreateImport" and not request.columns:
        return None
    return {one.field for one in named_fields.written(request)} | _ALWAYS_WRITTEN.get(method, frozenset())


def _identifying(request: Message | None) -> set[str]:
    """Return the fields that only tell who is meant: they are set where nobody is known by them."""
    written = named_fields.written(request) if request is not None else ()
    return {one.field for one in written if one.identifies}


def _only_looks(request: Any) -> bool:
    """Tell whether a request asks what would be done; a dry run of the call is judged like the call."""
    if "preview" in request.DESCRIPTOR.fields_by_name:
        return bool(request.preview)
    mode = request.DESCRIPTOR.fields_by_name.get("mode")
    return mode is not None and not mode.enum_type.values_by_number[request.mode].name.endswith("_COMMIT")


async def _workflow(tx: Transaction, request: Any, plan: Row[Any] | None) -> str | None:
    """Return the workflow that a call is about, empty for none; None where there may be several."""
    if plan is not None:
        return str(plan.body.get("workflow_id", ""))
    if named := str(getattr(request, "workflow_id", "")):
        return named
    for name, table in WORKFLOW_OF.items():
        given = getattr(request, name, None)
        if given:
            ids = [given] if isinstance(given, str) else list(given)
            columns: Any = table.c
            rows = await tx.all(select(columns.workflow_id).where(columns.id.in_(ids)).distinct())
            if rows:
                return str(rows[0].workflow_id) if len(rows) == 1 else None
    if template_id := getattr(request, "template_id", ""):
        template = await agent_templates.get(tx, template_id)
        return "" if template is None else str(template.content.get("workflow_id", ""))
    return None if getattr(request, "filter", "") and hasattr(request, "dead_letter_ids") else ""


def _about(request: Message | None) -> str:
    """Return the id of the record that a request is about; empty for none."""
    return next((str(found) for name in _RECORD_IDS if (found := getattr(request, name, ""))), "")


async def _record_type(tx: Transaction, request: Message | None, about: str) -> str:
    named = getattr(request, "record_type", "") or getattr(request, "type", "")
    if isinstance(named, str) and named:
        return named
    if prefix_of(about) == OBJECT_PREFIX:
        record = await records.get(tx, about)
        return record.type if record is not None else ""
    return TYPE_OF_PREFIX.get(about.partition("_")[0], "")


def counts_of(message: Message) -> dict[str, int]:
    """Return how many items each list of a request has, by the list's name."""
    return {
        field.name: len(value)
        for field, value in message.ListFields()
        if field.is_repeated and not isinstance(value, Mapping)
    }


async def diff_of(tx: Transaction, request: Message) -> dict[str, dict[str, Any]]:
    """Return each field that a request sets of one record, with its value before and after; by dotted path."""
    given = getattr(request, "fields", None)
    if not isinstance(given, Struct) or not is_one_record(request):
        return {}
    about = _about(request) or await _upserted(tx, request)
    record = await records.get(tx, about) if about else None
    before: Mapping[str, Any] = record.fields if record is not None else {}
    patch = {path: changes.value_at(from_struct(given), path) for path in named_fields.leaves(given)}
    masked = getattr(getattr(request, "update_mask", None), "paths", ())
    patch |= {path: None for path in masked if path not in patch}
    return {one.field: {"old": one.old, "new": one.new} for one in changes.diff(before, patch)}


async def _upserted(tx: Transaction, request: Any) -> str:
    """Return the record that an upsert would change; empty for a new one."""
    named: list[Identifier | None] = []
    if request.HasField("external_ref"):
        named = [identity.normalise(identity.external(request.external_ref.system), request.external_ref.id)]
    fields = from_struct(request.fields)
    wanted = [one for one in (*named, *identity.of_fields(request.type, fields)) if one is not None]
    owners = await identifiers.owners(tx, [(tx.org_id, request.type, *one) for one in wanted])
    there = await records.get_many(tx, set(owners.values()))
    found = {
        (kind, value): owner
        for (_, _, kind, value), owner in owners.items()
        if owner in there
        and not identity.keeps_apart((kind, value), fields.get("email"), there[owner].fields.get("email"))
    }
    target, _ = identity.choose(found)
    return target or ""
