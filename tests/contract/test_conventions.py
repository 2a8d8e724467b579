"""Our conventions for the contract, executable: every method and message is walked, every exception has its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from core.domain.control.scopes import SCOPES
from core.gateway.paths import Template, field_at
from core.rpc.methods import ANY_KEY
from core.rpc.methods import SERVICES as CONTRACTS
from dripstone.v1 import options_pb2

METHODS: list[MethodDescriptor] = [
    method
    for contract, *_ in CONTRACTS
    for service in contract.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
FILES = {
    file.name: file
    for contract, *_ in CONTRACTS
    for file in (contract.DESCRIPTOR, *contract.DESCRIPTOR.dependencies)
    if file.name.startswith("dripstone/")
}
MESSAGES: list[Descriptor] = [message for file in FILES.values() for message in file.message_types_by_name.values()]
EVERY_METHOD = pytest.mark.parametrize(
    "method", METHODS, ids=lambda method: method.full_name.removeprefix("dripstone.v1.")
)

WITHOUT_VALIDATE_ONLY = {
    "CaptureEvent": "its body is the wire form of form tools, which know no dry run; IngestEvent has one",
    "CaptureAffiliateEvent": "as CaptureEvent",
    "AckMessages": "it tells what has happened already",
    "RevokeApiKey": "its one check is that the key is there, which ListApiKeys tells as well",
}
UNPAGED = {
    "ListStepTypes": "a fixed list of the product, not of the organization",
    "ListWorkflowTemplates": "a fixed list of the product, not of the organization",
    "ListLists": "names and counts; an organization has tens of lists, not thousands",
}
CONDITIONAL_PATH_FIELDS = {
    "GetEnrollment.workflow_id": "named by one of two paths only",
    "ListEnrollments.workflow_id": "named by one of two paths only",
    "DeleteEnrollment.workflow_id": "named by one of two paths only",
    "ListDeliveries.endpoint_id": "named by one of two paths only",
    "ListDeadLetters.workflow_id": "named by one of two paths only",
    "ListOutgoingMessages.workflow_id": "named by one of three paths only",
    "ListOutgoingMessages.enrollment_id": "as above",
    "SimulateWorkflow.workflow_id": "named by one of two paths only",
    "UpdateEndpoint.endpoint.id": "a field of the resource, which answers of the core fill",
    "UpdateSource.source.id": "as UpdateEndpoint",
    "UpdateConnection.connection.id": "as UpdateEndpoint",
}
STREAMS_THAT_DO_SOMETHING = {
    "StreamEvents": "takes events in as they come",
    "StreamMessages": "leases what it hands out",
}
WITHOUT_HTTP = {"StreamEvents": "an HTTP request has one body; batches go by IngestEvents"}
FENCES = {"lease_token": "tells one lease from the next, and opens nothing without a key"}


def access(method: MethodDescriptor) -> int:
    return int(method.GetOptions().Extensions[options_pb2.access])


def rules(method: MethodDescriptor) -> Iterator[annotations_pb2.http]:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    if rule.WhichOneof("pattern") is None:
        return
    yield rule
    yield from rule.additional_bindings


def required(field: FieldDescriptor) -> bool:
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]


@EVERY_METHOD
def test_a_method_asks_for_a_scope_that_there_is(method: MethodDescriptor) -> None:
    scope = method.GetOptions().Extensions[options_pb2.scope]
    assert scope == ANY_KEY or scope in SCOPES
    assert scope == ANY_KEY or re.fullmatch(r"[a-z]+:[a-z]+", scope)


def test_every_scope_opens_something() -> None:
    assert {method.GetOptions().Extensions[options_pb2.scope] for method in METHODS} - {ANY_KEY} == set(SCOPES)


@EVERY_METHOD
def test_a_method_says_how_it_touches_the_store(method: MethodDescriptor) -> None:
    assert access(method) != options_pb2.ACCESS_UNSPECIFIED
    reads = method.name.startswith(
        ("Get", "List", "Watch", "Explain", "Validate", "Why", "Try", "Export", "Find", "Backtest", "Score")
    )
    assert reads == (access(method) == options_pb2.ACCESS_READ)
    if method.server_streaming:
        assert (access(method) != options_pb2.ACCESS_READ) == (method.name in STREAMS_THAT_DO_SOMETHING)


@EVERY_METHOD
def test_a_method_has_an_http_rule_that_fits_its_access(method: MethodDescriptor) -> None:
    for rule in rules(method):
        verb = rule.WhichOneof("pattern")
        assert verb in ("get", "post", "patch", "delete")
        assert Template.parse(getattr(rule, verb)).text.startswith(("/api/v1/", "/v2/"))
        assert verb != "get" or access(method) == options_pb2.ACCESS_READ
        assert bool(rule.body) == (verb in ("post", "patch"))


@EVERY_METHOD
def test_a_path_names_required_text_fields(method: MethodDescriptor) -> None:
    for rule in rules(method):
        for path in Template.parse(getattr(rule, rule.WhichOneof("pattern"))).variables:
            leaf = field_at(method.input_type, path)
            assert required(leaf) or f"{method.name}.{path}" in CONDITIONAL_PATH_FIELDS


@EVERY_METHOD
def test_a_list_has_pages(method: MethodDescriptor) -> None:
    if method.name.startswith("List") and method.name not in UNPAGED:
        asked, told = method.input_type.fields_by_name, method.output_type.fields_by_name
        assert asked["page_size"].type == FieldDescriptor.TYPE_INT32
        assert asked["page_token"].type == FieldDescriptor.TYPE_STRING
        assert told["next_page_token"].type == FieldDescriptor.TYPE_STRING
        assert sum(field.is_repeated for field in told.values()) == 1


@EVERY_METHOD
def test_a_write_can_be_repeated_safely_and_tried_out(method: MethodDescriptor) -> None:
    fields = method.input_type.fields_by_name
    keys = [name for name in ("request_id", "idempotency_key") if name in fields]
    if access(method) == options_pb2.ACCESS_WRITE:
        assert len(keys) == 1
        assert ("validate_only" in fields) != (method.name in WITHOUT_VALIDATE_ONLY)
    else:
        assert keys == []
        assert "validate_only" not in fields


@EVERY_METHOD
def test_an_update_can_refuse_to_lose_another_update(method: MethodDescriptor) -> None:
    if method.name.startswith("Update"):
        fields = method.input_type.fields_by_name
        inner = [field.message_type for field in fields.values() if field.message_type is not None]
        assert "etag" in fields or any("etag" in message.fields_by_name for message in inner)


@EVERY_METHOD
def test_a_success_other_than_200_is_a_creation(method: MethodDescriptor) -> None:
    status = method.GetOptions().Extensions[options_pb2.http_status]
    assert status in (0, 201)
    assert not status or access(method) == options_pb2.ACCESS_WRITE


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_secrets_are_marked_and_no_other_field_is(message: Descriptor) -> None:
    for field in message.fields:
        named = re.search(r"(^|_)(secrets?|password|token|private_key|inbound_path)$", field.name)
        secret = named and not field.name.endswith(("page_token", "resume_token", *FENCES))
        assert field.GetOptions().debug_redact == bool(secret)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_times_end_in_time_and_lists_are_plural(message: Descriptor) -> None:
    for field in message.fields:
        kind = field.message_type.full_name if field.message_type is not None else ""
        if kind == "google.protobuf.Timestamp":
            assert field.name.endswith("time") or field.name in ("until", "as_of")
        if field.is_repeated:
            assert field.name.endswith("s") or field.name in ("missing", "skipped", "quarantined", "evidence")


def test_every_exception_still_excepts_something() -> None:
    names = {method.name for method in METHODS}
    paths = {
        f"{method.name}.{path}"
        for method in METHODS
        for rule in rules(method)
        for path in Template.parse(getattr(rule, rule.WhichOneof("pattern"))).variables
    }
    assert set(WITHOUT_VALIDATE_ONLY) | set(UNPAGED) | set(STREAMS_THAT_DO_SOMETHING) <= names
    assert {method.name for method in METHODS if not list(rules(method))} == set(WITHOUT_HTTP)
    fields = {field.name for message in MESSAGES for field in message.fields}
    assert set(FENCES) <= fields
    assert set(CONDITIONAL_PATH_FIELDS) <= paths
