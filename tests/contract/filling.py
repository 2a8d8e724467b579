"""Requests made from the contract's descriptors: ids wherever a name fits, plain values elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from core.rpc.methods import Method

OMITTED: Mapping[str, frozenset[str]] = {
    name: frozenset(fields.split())
    for name, fields in {
        "WhyNotRequest": "email",
        "RedriveDeadLettersRequest": "workflow_id",
        "RedriveQuarantinedRequest": "source_id",
        "CreateSourceRequest": "verifier mapping",
        "SimulateWorkflowRequest": "source after horizon recorded assumptions events start_time",
        "SimulatedContacts": "records made_up sample_size",
        "ChangeListMembersRequest": "remove_contact_ids",
        "CreateApiKeyRequest": "member_id limits agent_id",
        "UpdateApiKeyRequest": "limits",
        "ApiKey": "limits scopes",
        "RevertChangesRequest": "cause plan_id",
    }.items()
}
"""Fields that would have a request refused before it reaches anything: they say the same thing in another way."""

_NEVER = frozenset("request_id idempotency_key validate_only page_token resume_token filter etag cursor".split())


def filled(method: Method, ids: Mapping[str, str]) -> Any:
    """Return a request of a method that names these ids, by the names of its fields."""
    request = method.request_class()
    _fill(method.descriptor.input_type, request, ids, 0)
    return request


def _fill(descriptor: Descriptor, request: Message, ids: Mapping[str, str], depth: int) -> None:
    for field in descriptor.fields:
        if field.name in _NEVER or field.name in OMITTED.get(descriptor.name, ()) or depth > 3:
            continue
        if field.message_type is not None:
            if field.message_type.full_name == "google.protobuf.Struct":
                getattr(request, field.name).update({"email": "b@example.com", "first_name": "B"})
            elif not field.message_type.full_name.startswith("google.protobuf") and not _is_map(field):
                nested = getattr(request, field.name)
                _fill(field.message_type, nested.add() if field.is_repeated else nested, ids, depth + 1)
        elif field.is_repeated:
            if field.name != "scopes":
                getattr(request, field.name).append(_value(field, ids))
        else:
            setattr(request, field.name, _value(field, ids))


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _value(field: FieldDescriptor, ids: Mapping[str, str]) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[1].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        known = {
            "record_id": ids["contact_id"],
            "id": ids["endpoint_id"],
            "url": "https://example.com/",
            "add_contact_ids": ids["contact_id"],
            "contact_ids": ids["contact_id"],
            "dead_letter_ids": ids["dead_letter_id"],
            "quarantined_ids": ids["quarantined_id"],
            "list": ids["list_name"],
            "type": "workflow",
        }
        return {**ids, **known}.get(field.name, "b@example.com" if field.name == "email" else "x")
    return False if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else 1
