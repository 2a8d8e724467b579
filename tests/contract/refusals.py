"""Refusals that the contract itself implies, made from its descriptors and from the good calls of the cases."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from core.gateway.bindings import bindings
from core.rpc.admission.shape import _DEFAULT_LENGTH
from core.rpc.methods import Method
from dripstone.v1 import options_pb2

NOBODY = "0" * 26
"""The end of an id that nothing has."""

_UNKNOWN_ENUM = 99


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that must be refused."""

    what: str
    request: Any
    code: str
    reason: str = ""
    violations: Mapping[str, str] = field(default_factory=dict)
    """Fields that must be named, with their reasons."""
    key: bool = True
    """Whether the call carries a key."""


def of_shape(method: Method, way: str) -> Iterator[Refusal]:
    """Yield what the contract forbids of a method's requests, whatever is stored."""
    in_path = _in_path(method) if way == "http" else set()
    least = {name: "x" for name in in_path if "." not in name}
    for name in in_path:
        if "." in name:
            above, _, last = name.partition(".")
            least[above] = {last: "x"}  # type: ignore[assignment]
    yield Refusal("without a key", least, "UNAUTHENTICATED", "UNAUTHENTICATED", key=False)
    required = {one.name for one in _fields(method.request_class.DESCRIPTOR) if _required(one)} - set(least)
    if way == "http":
        required -= {next(bindings(method)).body}  # the body is that field, and is always there
    if required:
        yield Refusal(
            "without what is required", least, "INVALID_ARGUMENT", violations=dict.fromkeys(required, "REQUIRED")
        )
    long = {
        one.name: "a" * ((one.GetOptions().Extensions[options_pb2.max_length] or _DEFAULT_LENGTH) + 1)
        for one in _fields(method.request_class.DESCRIPTOR)
        if one.type == FieldDescriptor.TYPE_STRING and not one.is_repeated and one.name not in least
    }
    long = {name: text for name, text in long.items() if len(text) < 20_000}  # a URL cannot carry more
    if long:
        yield Refusal(
            "with too long texts", least | long, "INVALID_ARGUMENT", violations=dict.fromkeys(long, "TOO_LONG")
        )
    enums = [
        one for one in _fields(method.request_class.DESCRIPTOR) if one.enum_type is not None and not one.is_repeated
    ]
    if enums:
        unknown: Any = _UNKNOWN_ENUM if way == "grpc" else "no_such_value"
        request = least | dict.fromkeys((one.name for one in enums), unknown)
        yield Refusal(
            "with unknown values",
            request,
            "INVALID_ARGUMENT",
            violations=dict.fromkeys((one.name for one in enums), "UNKNOWN_VALUE"),
        )


def of_good_call(method: Method, request: Any, without: frozenset[str]) -> Iterator[Refusal]:
    """Yield what must be refused of a good call that names something else, or something as it was before."""
    if not isinstance(request, Mapping) or method.client_streaming:
        return
    if "unknown" not in without and not method.descriptor.name.startswith(("Create", "Publish", "Put")):
        for one in _fields(method.request_class.DESCRIPTOR):
            if one.name.endswith("_id") and _required(one) and request.get(one.name):
                other = dict(request) | {one.name: unknown_id(str(request[one.name]))}
                yield Refusal(f"with an unknown {one.name}", other, "NOT_FOUND")
    if "etag" not in without:
        yield from _stale(method, request)


def _stale(method: Method, request: Mapping[str, Any]) -> Iterator[Refusal]:
    stale = copy.deepcopy(dict(request))
    if "etag" in method.request_class.DESCRIPTOR.fields_by_name:
        stale["etag"] = '"stale-0"'
    else:
        inner = next(
            (
                one.name
                for one in method.request_class.DESCRIPTOR.fields
                if one.message_type is not None
                and not one.is_repeated
                and "etag" in one.message_type.fields_by_name
                and isinstance(request.get(one.name), Mapping)
            ),
            "",
        )
        if not inner or not method.descriptor.name.startswith("Update"):
            return
        stale[inner]["etag"] = '"stale-0"'
    yield Refusal("with a stale etag", stale, "ABORTED", "ETAG_MISMATCH")


def unknown_id(known: str) -> str:
    """Return an id like a known one that nothing has."""
    prefix, _, rest = known.rpartition("_")
    return f"{prefix}_{NOBODY}" if prefix and len(rest) == len(NOBODY) else "no-such-thing"


def _fields(descriptor: Descriptor) -> Iterator[FieldDescriptor]:
    yield from descriptor.fields


def _required(one: FieldDescriptor) -> bool:
    return field_behavior_pb2.REQUIRED in one.GetOptions().Extensions[field_behavior_pb2.field_behavior]


def _in_path(method: Method) -> set[str]:
    return set(next(bindings(method)).template.variables)
