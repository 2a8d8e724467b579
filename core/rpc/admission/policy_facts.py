"""What policies see of a call: who, what, how much, and which fields from what to what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from core.domain.control.policy import VARIABLES
from core.domain.records import changes
from core.rpc.admission import named_fields
from core.rpc.admission.named_fields import TYPE_OF_PREFIX
from core.rpc.call import Call, Caller
from core.rpc.convert import from_struct
from core.store.control import plans
from core.store.records import records
from core.store.transaction import Transaction

TOOL = "x-dripstone-tool"
"""The header in which the MCP server names the tool that was called."""
_LONGEST_TOOL = 100
_RECORD_IDS = ("record_id", "lead_id", "contact_id", "kept_id")


async def facts(
    tx: Transaction, caller: Caller, method: str, request: Message | None, wanted: frozenset[str], call: Call
) -> dict[str, Any]:
    """Return the variables of conditions by name; what is costly to know only where it is `wanted`."""
    counts = counts_of(request) if request is not None else {}
    written = list(named_fields.written(request)) if request is not None else []
    about = _about(request)
    found: dict[str, Any] = {
        "principal.id": caller.principal_id,
        "principal.kind": caller.principal_kind,
        "principal.role": caller.role,
        "principal.scopes": sorted(caller.scopes),
        "action.method": method,
        "action.tool": call.metadata.get(TOOL, "")[:_LONGEST_TOOL],
        "action.workflow_id": str(getattr(request, "workflow_id", "")),
        "action.record_type": _record_type(request, about),
        "action.fields": sorted({one.field for one in written}),
        "action.dry_run": bool(getattr(request, "validate_only", False)),
        "diff": {},
        "now": call.now,
    }
    plan_id = getattr(request, "plan_id", "")
    if plan_id and wanted & {"action.count", "counts", "action.record_type"}:
        plan = await plans.get(tx, plan_id)
        if plan is not None:
            counts |= {**plan.counts, "items": plan.item_count, "excluded": plan.excluded_count}
    found["counts"] = counts
    found["action.count"] = counts.get("items", max((counts[name] for name in counts if "." not in name), default=1))
    if "diff" in wanted and request is not None:
        found["diff"] = await _diff(tx, request, about)
    assert found.keys() == VARIABLES.keys()
    return found


def _about(request: Message | None) -> str:
    """Return the id of the record that a request is about; empty for none."""
    return next((str(found) for name in _RECORD_IDS if (found := getattr(request, name, ""))), "")


def _record_type(request: Message | None, about: str) -> str:
    named = getattr(request, "record_type", "") or getattr(request, "type", "")
    if isinstance(named, str) and named:
        return named
    return TYPE_OF_PREFIX.get(about.partition("_")[0], "")


def counts_of(message: Message) -> dict[str, int]:
    """Return how many items each list of a request has, by the list's name."""
    return {
        field.name: len(value)
        for field, value in message.ListFields()
        if field.is_repeated and not isinstance(value, Mapping)
    }


async def _diff(tx: Transaction, request: Message, about: str) -> dict[str, dict[str, Any]]:
    """Return each field that a request sets, with its value before and after; by dotted path."""
    given = getattr(request, "fields", None)
    if not isinstance(given, Struct):
        return {}
    record = await records.get(tx, about) if about else None
    before: Mapping[str, Any] = record.fields if record is not None else {}
    patch = {path: changes.value_at(from_struct(given), path) for path in named_fields.leaves(given)}
    masked = getattr(getattr(request, "update_mask", None), "paths", ())
    patch |= {path: None for path in masked if path not in patch}
    return {one.field: {"old": one.old, "new": one.new} for one in changes.diff(before, patch)}
