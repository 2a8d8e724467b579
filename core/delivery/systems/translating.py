"""Between a record here and its counterpart there: values by our fields, in the form that is stored here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.delivery.systems.client import Theirs
from core.domain.records.changes import value_at
from core.domain.records.fields import normalise
from core.domain.records.schema import Schema
from core.domain.records.values import BadValue
from core.domain.systems.settings import OUR_ID, TypeMapping


def ours(mapping: TypeMapping, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mapped fields of a record."""
    return {one.field: value_at(fields, one.field) for one in mapping.fields}


def theirs(mapping: TypeMapping, record: Theirs, schema: Schema) -> tuple[dict[str, Any], str]:
    """Return what is there by our fields, and what of it does not fit here, as a clause."""
    found: dict[str, Any] = {}
    misfits = []
    for one in mapping.fields:
        if one.property not in record.properties:
            continue
        value = record.properties[one.property]
        try:
            found[one.field] = normalise(mapping.type, one.field, None if value == "" else value, schema)
        except BadValue as bad:
            misfits.append(f"{one.property} {bad.message}")
    return found, "; ".join(misfits)


def properties(mapping: TypeMapping, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return our fields as properties there."""
    names = {one.field: one.property for one in mapping.fields}
    return {names[field]: value for field, value in values.items()}


def key_of(mapping: TypeMapping, record_id: str, fields: Mapping[str, Any]) -> str:
    """Return what the unique property of a record's counterpart holds; empty where the record has no such value."""
    if mapping.unique_field == OUR_ID:
        return record_id
    value = value_at(fields, mapping.unique_field)
    return "" if value is None else str(value)


def external_kind(system: str, connection_id: str) -> str:
    """Return under which name a record's id there is kept: generic interfaces are told apart by their connection."""
    return connection_id if system == "http" else system
