"""The skills say only what is true: every tool, argument, value, answer field and reason they name exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.domain import errors
from core.domain.records.standard import STANDARD_TYPES
from core.domain.webhooks.classify import Outcome
from core.rpc.enrollments.enrolling import NotEnrolled
from dripstone.v1 import agent_pb2, enrollment_pb2, qualification_pb2
from tests.skills import written

OF_THE_TOOLS = {"NOT_CONFIRMED", "UNAVAILABLE"}
"""Reasons that the tools give without the core."""

FIELDS = {name for kind in STANDARD_TYPES for name in kind.fields}
ERROR_FIELDS = {"reason", "message", "hint", "next", "field", "retry_after"}
DOCUMENT_WORDS = {"exit_on", "quiet_hours", "frequency_caps", "vars", "null"}
WORDS_OF_STEPS = {"find", "when", "unless", "stop"}
"""What the passage on how steps are written says."""
ID_PREFIXES = {"enr", "exe", "pln", "apr", "tsk", "dlv", "dl", "cnt", "cmp", "lead"}


def every_reason() -> set[str]:
    def below(base: type[errors.DripstoneError]) -> Iterator[str]:
        yield base.reason
        for one in base.__subclasses__():
            yield from below(one)

    return {*below(errors.DripstoneError), NotEnrolled.reason} | OF_THE_TOOLS


def calls(skill: str) -> list[tuple[str, Mapping[str, Any]]]:
    return [*((step.tool, step.arguments) for step in written.steps(skill)), *written.inline_calls(skill)]


def loosened(schema: dict[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema with any value allowed where a placeholder stands for one."""
    open_ones = {
        name: {} for name, value in arguments.items() if isinstance(value, str) and re.search(r"\{\{|^<.*>$", value)
    }
    return {**schema, "properties": schema["properties"] | open_ones}


@pytest.mark.parametrize("skill", written.NAMES)
def test_every_call_fits_the_live_tool(skill: str) -> None:
    for tool, arguments in calls(skill):
        assert tool in written.tools(), tool
        # A call that a sentence leaves to be completed, such as {"task_id":…}, still names only what exists.
        found = list(Draft202012Validator(loosened(written.taken(tool), arguments)).iter_errors(dict(arguments)))
        assert found == [], f"{tool} {json.dumps(arguments)}: {found[0].message}"


@pytest.mark.parametrize("skill", written.NAMES)
def test_every_value_that_a_step_refers_to_is_in_the_answer_it_names(skill: str) -> None:
    known: dict[str, str] = {}
    promised = written.evals(skill)["given"]
    for step in written.steps(skill):
        assert step.name not in known, "a step has a name of its own"
        for path in step.referred:
            source, *rest = written.parts(path)
            if source == "key":
                assert not rest
            elif source == "given":
                assert rest[0] in promised, path
            else:
                assert source in known, f"{step.name} refers to {path} before it is known"
                assert _is_there(written.given(known[str(source)]).model_json_schema(), rest), path
        known[step.name] = step.tool


def _is_there(schema: dict[str, Any], path: list[str | int]) -> bool:
    definitions, at = schema.get("$defs", {}), schema
    for part in path:
        while "$ref" in at:
            at = definitions[at["$ref"].rpartition("/")[2]]
        if isinstance(part, int):
            at = at.get("items", {})
        elif part in at.get("properties", {}):
            at = at["properties"][part]
        else:
            return False
    return True


@pytest.mark.parametrize("skill", written.NAMES)
def test_writes_are_previewed_first_and_committed_with_a_key(skill: str) -> None:
    previewed: set[str] = set()
    for step in written.steps(skill):
        if "mode" not in written.taken(step.tool)["properties"]:
            continue
        if step.arguments.get("mode") == "commit":
            assert step.tool in previewed, f"{step.tool} is committed without a preview"
            assert step.arguments["idempotency_key"] == "{{key}}"
            assert step.arguments["reason"] == "{{given.reason}}"
        else:
            previewed.add(step.tool)


def test_every_tool_is_taught_by_some_skill() -> None:
    assert {tool for skill in written.NAMES for tool, _ in calls(skill)} == set(written.tools())


@pytest.mark.parametrize("skill", written.NAMES)
def test_every_reason_is_one_that_the_product_gives(skill: str) -> None:
    named = set(re.findall(r"`([A-Z][A-Z_]{3,})`", written.body(skill)))
    assert named <= every_reason()
    writes = any(arguments.get("mode") == "commit" for _, arguments in calls(skill))
    if writes:
        assert {"APPROVAL_REQUIRED", "IDEMPOTENCY_CONFLICT", "SCOPE_MISSING"} <= named


@pytest.mark.parametrize("skill", written.NAMES)
def test_every_word_in_backticks_exists(skill: str) -> None:
    words = {*written.tools(), *written.NAMES, *FIELDS, *ERROR_FIELDS, *DOCUMENT_WORDS, *WORDS_OF_STEPS}
    words |= {outcome.value for outcome in Outcome}
    for tool in written.tools():
        schemas = json.dumps([written.taken(tool), written.given(tool).model_json_schema()])
        words |= set(re.findall(r'"([a-z_]+)"', schemas))
    for enum, prefix in (
        (qualification_pb2.Decision, "DECISION_"),
        (enrollment_pb2.EnrollOutcome, "ENROLL_OUTCOME_"),
        (agent_pb2.ExecutionState, "EXECUTION_STATE_"),
    ):
        words |= {name.removeprefix(prefix).lower() for name in enum.keys()}  # noqa: SIM118 -- no mapping
    words |= {step.name for step in written.steps(skill)}
    plain = set(re.findall(r"`([a-z][a-z_\-]*)`", written.body(skill)))
    assert plain - words == set()
    assert set(re.findall(r"`([a-z]+)_…`", written.body(skill))) <= ID_PREFIXES


@pytest.mark.parametrize("skill", written.NAMES)
def test_fields_in_calls_are_fields_of_a_record(skill: str) -> None:
    for tool, arguments in calls(skill):
        if isinstance(arguments.get("fields"), dict):
            assert arguments["fields"].keys() <= FIELDS, tool
