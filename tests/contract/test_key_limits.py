"""No new message of the contract slips past the limits of keys: every place for values of records is known to them."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from core.rpc.admission import hiding, named_fields
from tests.contract.test_conventions import MESSAGES, METHODS

NOT_RECORDS = {
    "CreateSourceRequest": "schemas and mappings of sources",
    "UpdateSourceRequest": "as CreateSource",
    "TryMappingRequest": "tries a mapping, writes nothing",
    "SimulateWorkflowRequest": "people who are made up; nothing is written",
    "TryFilterRequest": "tries a filter, writes nothing",
    "CreateEventTypeRequest": "a schema",
    "CreateWorkflowRequest": "a document",
    "UpdateWorkflowRequest": "a document",
    "ValidateWorkflowRequest": "a document",
    "AnswerAgentTaskRequest": "what an agent thinks; the workflow decides what becomes of it",
    "ExplainPolicyRequest": "explains, writes nothing",
    "StreamEventsRequest": "streams are refused to keys with such limits",
    "ExplainDeliveryRequest": "tries filters, writes nothing",
}
"""Requests with free-form values that set no field of a record, and why."""


def _free_form(descriptor: Descriptor, seen: frozenset[str] = frozenset()) -> bool:
    if descriptor.full_name in seen:
        return False
    return any(
        field.message_type is not None
        and (
            field.message_type.full_name == "google.protobuf.Struct"
            or (
                field.message_type.full_name.startswith("dripstone.")
                and _free_form(field.message_type, seen | {descriptor.full_name})
            )
        )
        for field in descriptor.fields
    )


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.removeprefix("dripstone.v1."))
def test_a_request_that_sets_fields_says_which(method: object) -> None:
    descriptor: Descriptor = method.input_type  # type: ignore[attr-defined]
    if _free_form(descriptor):
        assert descriptor.name in named_fields._WRITTEN or descriptor.name in NOT_RECORDS


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_a_message_that_names_the_field_of_its_value_is_judged_by_it(message: Descriptor) -> None:
    fields = message.fields_by_name
    values = [
        field
        for field in message.fields
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"
    ]
    if values:
        assert message.name in hiding._KEEP
    said = [name for name in fields if name.endswith("value")]
    if "field" in fields and (said or "record_id" in fields) and not message.name.endswith("Request"):
        assert message.name in hiding._KEEP


RAW_NAMES = ("payload", "body", "raw", "response", "response_text", "content")
NO_PEOPLE = {
    "HttpCall.body": "a template",
    "ConnectionCall.body": "a template",
    "TestConnectionResponse.body": "made of sample values",
    "TestConnectionResponse.response": "what a sample brought",
    "ExportRecordsResponse.content": "ExportRecords leaves out what is hidden itself",
    "ExportAuditResponse.content": "ids and digests",
}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_a_text_that_may_hold_a_whole_payload_is_emptied_for_keys_that_do_not_see_all(message: Descriptor) -> None:
    asks = message.name.endswith("Request")
    for field in message.fields:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING and field.name in RAW_NAMES and not asks:
            known = field.name in hiding._RAW.get(message.name, ())
            assert known or f"{message.name}.{field.name}" in NO_PEOPLE, f"{message.name}.{field.name}"


EXPLAINING_NAMES = ("why", "message", "failure", "error", "end_reason", "logs", "warnings", "samples", "detail")
NO_VALUES = {
    "IngestResult.message": "of the request's own event",
    "Problem.message": "of a document",
    "Exclusion.message": "SimulateWorkflow refuses stored contacts where anything is hidden",
    "SimulateWorkflowResponse.warnings": "as Exclusion",
    "TestEndpointResponse.message": "of a sample",
    "VerifyEndpointResponse.message": "of a challenge",
    "TestConnectionResponse.message": "of sample values",
    "Import.error": "of a file as a whole",
    "Sync.error": "of a connection",
    "LeadScore.error": "that there is no such lead",
    "DeadLetter.failure": "a class of failures",
    "Attempt.error": "of a connection",
    "MessageAck.error": "a consumer's own words",
    "ResultMapping.error": "where a response tells it",
}


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_a_text_that_explains_is_emptied_for_keys_that_do_not_see_all(message: Descriptor) -> None:
    for field in message.fields:
        texts = field.cpp_type == FieldDescriptor.CPPTYPE_STRING and not message.name.endswith("Request")
        if texts and field.name in EXPLAINING_NAMES:
            known = message.name in hiding._KEEP or field.name in hiding._RAW.get(message.name, ())
            assert known or f"{message.name}.{field.name}" in NO_VALUES, f"{message.name}.{field.name}"


def test_every_name_still_names_something() -> None:
    names = {message.name for message in MESSAGES}
    assert set(named_fields._WRITTEN) <= names
    assert set(hiding._KEEP) <= names
    assert set(hiding._RAW) <= names
