"""The skill says only what is true: it is valid, and every tool, argument and reason it names exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from skills_ref import validate

from core.domain import errors
from core.domain.records.fields import STANDARD_FIELDS
from core.rpc.enrollments.enrolling import NotEnrolled
from dripstone.v1 import enrollment_pb2, qualification_pb2
from dripstone.v1.client import Client
from mcp_server.server import build_server

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parents[2] / "skills" / "dripstone"
TEXT = (FOLDER / "SKILL.md").read_text()
CALL = re.compile(r"([a-z]+(?:-[a-z]+)*) (\{.*?\})`")
REASON = re.compile(r"`([A-Z][A-Z_]{3,})`")


def calls() -> list[tuple[str, dict[str, Any]]]:
    """Return every tool call written out in the skill."""
    return [(tool, json.loads(arguments)) for tool, arguments in CALL.findall(TEXT)]


async def tools() -> dict[str, dict[str, Any]]:
    server = build_server(lambda _: Client("127.0.0.1:1", None))
    return {tool.name: {"in": tool.input_schema, "out": tool.output_schema} for tool in await server.list_tools()}


def test_the_skill_is_valid_and_short() -> None:
    assert validate(FOLDER) == []
    assert "allowed-tools" not in TEXT
    assert len(TEXT.splitlines()) < 200
    assert len(TEXT) / 4 < 5_000


async def test_every_call_in_the_skill_fits_the_live_tools() -> None:
    known = await tools()
    written = calls()
    assert {tool for tool, _ in written} == set(known)
    for tool, arguments in written:
        schema = known[tool]["in"]
        assert arguments.keys() <= schema["properties"].keys(), tool
        assert set(schema.get("required", ())) <= arguments.keys(), tool
        for name, value in arguments.items():
            assert value in schema["properties"][name].get("enum", [value]), (tool, name)


async def test_every_word_in_backticks_exists_somewhere() -> None:
    known = await tools()
    words = set(known)
    for schemas in known.values():
        for schema in schemas.values():
            words |= set(re.findall(r'"([a-z_]+)"', json.dumps(schema)))
    words |= {name.removeprefix("DECISION_").lower() for name in qualification_pb2.Decision.DESCRIPTOR.values_by_name}
    words |= {
        name.removeprefix("ENROLL_OUTCOME_").lower() for name in enrollment_pb2.EnrollOutcome.DESCRIPTOR.values_by_name
    }
    words |= {"hint", "retry_after", "reason", "field"}  # of an error
    words |= {"null", "cnt_…"}
    plain = {word for word in re.findall(r"`([a-z][a-z_\-]*…?)`", TEXT)}
    assert plain - words == set()


def test_every_reason_in_the_skill_is_one_of_the_core_and_the_important_ones_are_there() -> None:
    reasons = {cls.reason for cls in errors.DripstoneError.__subclasses__()} | {NotEnrolled.reason}
    named = set(REASON.findall(TEXT))
    assert named <= reasons
    assert {"PLAN_STALE", "APPROVAL_REQUIRED", "ETAG_MISMATCH", "IDEMPOTENCY_CONFLICT", "SCOPE_MISSING"} <= named


def test_fields_in_the_examples_are_fields_of_a_contact() -> None:
    for tool, arguments in calls():
        if "fields" in arguments:
            assert arguments["fields"].keys() <= STANDARD_FIELDS["contact"].keys(), tool
