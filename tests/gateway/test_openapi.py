"""The OpenAPI document: complete, consistent with what is served, made of valid JSON Schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.domain.errors import Invalid, Violation
from core.domain.nearest import did_you_mean
from core.gateway import errors
from core.gateway.bindings import bindings
from core.gateway.openapi import document
from core.gateway.paths import Template
from tests.gateway.serving import Gateway, method_table

OPERATIONS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def contract() -> dict[str, Any]:
    return document([binding for method in method_table([]) for binding in bindings(method)])


def operations(contract: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in contract["paths"].items():
        for verb, operation in item.items():
            yield path, verb, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_http_rule_is_an_operation_with_a_name_of_its_own(contract: dict[str, Any]) -> None:
    rules = [
        (binding.template.plain, binding.verb.lower()) for method in method_table([]) for binding in bindings(method)
    ]
    assert sorted((path, verb) for path, verb, _ in operations(contract)) == sorted(rules)
    names = [operation["operationId"] for _, _, operation in operations(contract)]
    assert len(set(names)) == len(names)
    assert {verb for _, verb, _ in operations(contract)} <= OPERATIONS


def test_every_reference_leads_somewhere(contract: dict[str, Any]) -> None:
    for reference in references(contract):
        target: Any = contract
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target


def test_errors_are_described_as_they_are_answered(contract: dict[str, Any]) -> None:
    error = Invalid(Violation("type", "UNKNOWN_VALUE", "is no type", did_you_mean("contct", ["contact"])))
    told = errors.body(error, 400, "req_1")["error"]
    described = contract["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    assert told.keys() == described.keys()
    assert told["details"][0].keys() == described["details"]["items"]["properties"].keys()


def test_every_schema_is_a_valid_json_schema(contract: dict[str, Any]) -> None:
    for schema in contract["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for _, _, operation in operations(contract):
        for parameter in operation["parameters"]:
            Draft202012Validator.check_schema(parameter["schema"])
        for content in operation.get("requestBody", {}).get("content", {}).values():
            Draft202012Validator.check_schema(content["schema"])


def test_path_parameters_are_those_of_the_path(contract: dict[str, Any]) -> None:
    for path, _, operation in operations(contract):
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert named == re.findall(r"\{([^}]+)\}", path)
        everything = [(each["in"], each["name"]) for each in operation["parameters"]]
        assert len(set(everything)) == len(everything)


def test_an_operation_says_scope_body_and_answers(contract: dict[str, Any]) -> None:
    operation = contract["paths"]["/api/v1/workflows/{workflow_id}/enrollments/bulk"]["post"]
    assert operation["x-required-scope"] == "enrollments:write"
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"contacts", "timezone", "request_id", "validate_only", "preview_etag"}
    assert (body["required"], body["additionalProperties"]) == (["contacts"], False)
    assert body["properties"]["contacts"] == {
        "type": "array",
        "items": {"$ref": "#/components/schemas/ContactInput"},
        "maxItems": 1000,
    }
    assert set(operation["responses"]) == {"201", "default"}
    outcome = contract["components"]["schemas"]["EnrollResult"]["properties"]["outcome"]
    assert "already_enrolled" in outcome["enum"]


@pytest.mark.anyio
async def test_the_document_is_served(gateway: Gateway) -> None:
    served = (await gateway.http.get("/openapi.json")).json()
    assert served["openapi"] == "3.1.0"
    assert "/v2/event" in served["paths"]


@pytest.mark.parametrize("text", ["api", "/a/{b=workflows/*}", "/a/{b=**}", "/a/b:{c}", "/a//b", "/{a}/{a}", "/a/{B}"])
def test_a_template_that_is_not_served_stops_the_process(text: str) -> None:
    with pytest.raises(ValueError, match="the path"):
        Template.parse(text)
