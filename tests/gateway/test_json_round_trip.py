"""Every message of the contract goes to JSON and back without losing anything."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from core.gateway import answers, body
from core.gateway.problems import Problems
from core.gateway.values import is_map
from core.rpc.convert import to_struct, to_value
from core.rpc.methods import SERVICES
from dripstone.v1 import record_pb2

REQUESTS = sorted(
    {
        message.full_name: message
        for contract, *_ in SERVICES
        for service in contract.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        for message in (method.input_type, method.output_type)
    }.items()
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False, width=64).map(lambda value: value + 0.0),  # whole: one zero
    st.sampled_from([0, -1, 0.1]),
)
free_values = st.recursive(
    st.one_of(st.none(), st.booleans(), texts, numbers),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


def scalars(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=12) if field.type == FieldDescriptor.TYPE_BYTES else texts
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_INT32:
            return st.integers(-(2**31), 2**31 - 1)
        case FieldDescriptor.CPPTYPE_INT64:
            return st.integers(-(2**63), 2**63 - 1)
    return st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    match descriptor.name if descriptor.full_name.startswith("google.protobuf.") else "":
        case "Struct":
            return to_struct(draw(st.dictionaries(texts, free_values, max_size=3)))
        case "Value":
            return to_value(draw(free_values))
    message = GetMessageClass(descriptor)()
    if descriptor.name in ("Timestamp", "Duration"):
        message.seconds = draw(st.integers(0, 4_102_444_800))  # type: ignore[attr-defined]
        message.nanos = draw(st.sampled_from([0, 250_000_000, 1_000, 1]))  # type: ignore[attr-defined]
        return message
    if descriptor.name == "FieldMask":
        names = st.from_regex(r"[a-z_]{1,8}(\.[a-z_]{1,8})?", fullmatch=True)
        message.paths.extend(draw(st.lists(names, max_size=3)))  # type: ignore[attr-defined]
        return message
    for field in descriptor.fields:
        if draw(st.booleans()):
            fill(draw, message, field)
    return message


def fill(draw: st.DrawFn, message: Message, field: FieldDescriptor) -> None:
    if is_map(field):
        values = scalars(field.message_type.fields_by_name["value"])
        getattr(message, field.name).update(draw(st.dictionaries(texts, values, max_size=3)))
    elif field.message_type is not None and field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(messages(field.message_type), max_size=2)))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(messages(field.message_type)))
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=3)))
    else:
        setattr(message, field.name, draw(scalars(field)))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(REQUESTS).flatmap(lambda named: messages(named[1])))
def test_a_message_survives_json(message: Message) -> None:
    back = type(message)()
    problems = Problems()
    body.fill(back, body.parse(answers.to_bytes(message)), "", problems)
    assert problems.found == []
    assert back == message


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(texts, free_values, max_size=4))
def test_free_form_fields_come_back_as_they_were_sent(fields: dict[str, Any]) -> None:
    request = record_pb2.UpsertRecordRequest()
    body.fill(request, {"fields": fields}, "", Problems())
    assert answers.to_json(request)["fields"] == fields


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(REQUESTS), free_values)
def test_whatever_is_sent_is_either_taken_or_refused_with_a_path(named: tuple[str, Descriptor], value: Any) -> None:
    for field in named[1].fields:
        message, problems = GetMessageClass(named[1])(), Problems()
        body.fill(message, {field.name: value}, "", problems)
        assert all(problem.field.startswith(field.name) and problem.reason for problem in problems.found)
        assert problems.found or json.loads(answers.to_bytes(message)) is not None
