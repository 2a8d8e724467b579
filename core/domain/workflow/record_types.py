"""The types of records that documents may name: those that every organization has, and an organization's own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from core.domain.nearest import did_you_mean
from core.domain.records.standard import RECORD_TYPES, plural
from core.domain.workflow.findings import Findings
from core.domain.workflow.record_changes import CONTACT, OF_CONTACT
from core.domain.workflow.variables import own_types

if TYPE_CHECKING:
    from core.domain.steps.shapes import Lookups


def schema(known: Iterable[str]) -> dict[str, Any]:
    """Return the JSON Schema of a type of records: one of these, or one of the organization's own."""
    own = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,39}$", "not": {"enum": list(RECORD_TYPES)}}
    return {"anyOf": [{"enum": list(known)}, own]}


def read(raw: Any, known: Collection[str], lookups: Lookups, findings: Findings, path: str) -> str:
    """Return a type of records, or report that it is none of these and none of the organization's own."""
    own = own_types(lookups.custom)
    if isinstance(raw, str) and (raw in known or raw in own):
        return raw
    alone = lookups.endpoint_ids is None  # nothing is known of the organization
    where = "which only the core knows: check with --server" if alone else "defined with DefineRecordType"
    hint = f"Use one of {', '.join(known)}, or a type of your own, {where}."
    if isinstance(raw, str) and raw in RECORD_TYPES:
        findings.add(path, "UNKNOWN_VALUE", f"this cannot be about {plural(raw)}", hint)
        return ""
    near = did_you_mean(str(raw), (*known, *own)) or hint
    findings.add(path, "UNKNOWN_VALUE", f"there is no type of records {str(raw)[:40]}", near)
    return ""


def read_reference(raw: Any, record_type: str, lookups: Lookups, findings: Findings, path: str) -> str:
    """Return the field of a type of records that refers to the contact who is meant, or report that it does not."""
    if record_type in OF_CONTACT:
        findings.add(path, "CONFLICT", f"it is clear whose {record_type} it is", "Leave contact out.")
        return CONTACT
    references = lookups.schema.of(record_type).references()
    known = sorted(name for name, named in references.items() if named == "contact")
    published = lookups.published_with is not None  # then it was looked up
    if isinstance(raw, str) and (raw in known or (published and raw.startswith("custom."))):
        return raw
    hint = did_you_mean(str(raw), known) or f"These do: {', '.join(known)}."
    findings.add(path, "NOT_A_REFERENCE", f"{str(raw)[:60]} is no field that refers to a contact", hint)
    return CONTACT
