"""Where requests name fields, types of records and filters: what the limits of a key are judged against.

A request that writes fields and is not listed here is found by the tests of the contract.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from core.domain.records.standard import KNOWN_TO_WORKFLOWS, STANDARD_TYPES

TYPE_OF_PREFIX: Mapping[str, str] = {one.id_prefix: one.name for one in STANDARD_TYPES}
LOOKED_AT = KNOWN_TO_WORKFLOWS
"""Types that a workflow's conditions and texts read, whatever their author writes into them, beside own ones."""

_CONTACT = next(frozenset(one.fields) for one in STANDARD_TYPES if one.name == "contact")
_IDENTIFIERS = ("email", "phone")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_ID = re.compile(r"([a-z]{3,8})_[0-9a-z]{26}")


class Written(NamedTuple):
    """A field that a request sets."""

    path: str
    """Where it stands in the request."""
    owner: str
    """The type of the record, or the record's id."""
    field: str
    identifies: bool = False
    """It tells who is meant; it is set only where nobody is known by it."""


class Filtered(NamedTuple):
    """A text of a request that names fields to compare or to sort by."""

    path: str
    record_type: str
    """Empty for a list of something else, in which fields stand under their own names."""
    text: str


def leaves(fields: Struct, prefix: str = "") -> Iterator[str]:
    """Yield the path of each value below an object of fields; own fields may come nested or dotted."""
    for name, value in fields.fields.items():
        path = f"{prefix}{name}"
        if value.WhichOneof("kind") == "struct_value" and value.struct_value.fields and path.startswith("custom"):
            yield from leaves(value.struct_value, f"{path}.")
        else:
            yield path


def written(request: Message) -> Iterator[Written]:
    """Yield every field that a request sets."""
    find = _WRITTEN.get(request.DESCRIPTOR.name)
    if find is not None:
        yield from find(request)


def _typed(request: Any) -> Iterator[Written]:
    for path in leaves(request.fields):
        yield Written(f"fields.{path}", request.type, path)


def _one_record(request: Any) -> Iterator[Written]:
    for path in leaves(request.fields):
        yield Written(f"fields.{path}", request.record_id, path)
    for index, path in enumerate(request.update_mask.paths):
        yield Written(f"update_mask.paths[{index}]", request.record_id, path)


def _qualified(request: Any) -> Iterator[Written]:
    if request.email:
        yield Written("email", "contact", "email", identifies=True)
    for path in leaves(request.fields):
        yield Written(f"fields.{path}", "contact", path)


def _assigned(request: Any) -> Iterator[Written]:
    yield Written("lead_id", request.lead_id, "owner_id")


def _enrolled(request: Any) -> Iterator[Written]:
    for index, contact in enumerate(request.contacts):
        for name in ("email", "phone", "first_name", "last_name", "company_name", "timezone"):
            if getattr(contact, name):
                yield Written(f"contacts[{index}].{name}", "contact", name, identifies=name in _IDENTIFIERS)
        for path in leaves(contact.fields):
            yield Written(f"contacts[{index}].fields.{path}", "contact", path, identifies=path in _IDENTIFIERS)


def _of_struct(fields: Struct, path: str) -> Iterator[Written]:
    """Yield what becomes a contact's field of a payload; the rest is the payload's own."""
    for name in leaves(fields):
        if name in _CONTACT or name.startswith("custom"):
            yield Written(f"{path}.{name}", "contact", name, identifies=name in _IDENTIFIERS)


def _executed(request: Any) -> Iterator[Written]:
    return _of_struct(request.input, "input")


def _ingested(request: Any) -> Iterator[Written]:
    return _of_struct(request.event.fields, "event.fields")


def _ingested_many(request: Any) -> Iterator[Written]:
    for index, event in enumerate(request.events):
        yield from _of_struct(event.fields, f"events[{index}].fields")


def _imported(request: Any) -> Iterator[Written]:
    for index, column in enumerate(request.columns):
        if column.field and column.field not in ("external_id", "id"):
            yield Written(f"columns[{index}].field", request.type, column.field, column.field in _IDENTIFIERS)


_WRITTEN: Mapping[str, Callable[[Any], Iterator[Written]]] = {
    "UpsertRecordRequest": _typed,
    "UpdateRecordRequest": _one_record,
    "PlanBulkUpdateRequest": _typed,
    "QualifyLeadRequest": _qualified,
    "AssignOwnerRequest": _assigned,
    "EnrollContactsRequest": _enrolled,
    "ExecuteRequest": _executed,
    "ExecuteWorkflowRequest": _executed,
    "IngestEventRequest": _ingested,
    "IngestEventsRequest": _ingested_many,
    "CaptureEventRequest": _ingested,
    "CreateImportRequest": _imported,
}

_LISTED_TYPE = {"ScoreLeadsRequest": "lead", "BacktestModelRequest": "lead", "SimulatedContacts": "contact"}


def filtered(request: Message) -> Iterator[Filtered]:
    """Yield every text of a request that names fields."""
    for path, holder, field, value in texts(request):
        if field.name in ("filter", "order_by", "outcome_field") and value:
            named = getattr(holder, "type", "") if "type" in holder.DESCRIPTOR.fields_by_name else ""
            yield Filtered(path, _LISTED_TYPE.get(holder.DESCRIPTOR.name, str(named)), value)


def named_in(text: str) -> set[str]:
    """Return the words of a filter that may be fields; what stands in quotes is a value."""
    return set(_WORD.findall(_QUOTED.sub(" ", text)))


def texts(message: Message, prefix: str = "") -> Iterator[tuple[str, Message, FieldDescriptor, str]]:
    """Yield the texts that a request has, each with its path, the message that holds it, and its field."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            if field.message_type.full_name.startswith("dripstone.") and not field.message_type.GetOptions().map_entry:
                for index, inner in enumerate(value if field.is_repeated else (value,)):
                    at = f"{prefix}{field.name}[{index}]" if field.is_repeated else f"{prefix}{field.name}"
                    yield from texts(inner, f"{at}.")
        elif field.type == FieldDescriptor.TYPE_STRING:
            for index, text in enumerate(value if field.is_repeated else (value,)):
                at = f"{prefix}{field.name}[{index}]" if field.is_repeated else f"{prefix}{field.name}"
                yield at, message, field, text


def prefix_of(text: str) -> str:
    """Return the prefix of an id; empty for another text."""
    match = _ID.fullmatch(text)
    return match[1] if match else ""
