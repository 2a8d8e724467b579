"""The guide to workflows tells the truth: its examples compile, and no key and no step is missing from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.domain import steps
from core.domain.steps.base import Step, settings
from core.domain.workflow.compile import compile_document
from core.domain.workflow.document import DOCUMENT_KEYS, STEP_KEYS
from core.domain.workflow.schema import document_schema
from core.domain.workflow.source import parse
from core.domain.workflow.triggers import trigger_schema

GUIDE = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def _document(example: str) -> dict[str, Any]:
    """Return an example as a whole document: some show only settings, some only steps."""
    if example.startswith("- "):
        indented = "".join(f"  {line}\n" for line in example.splitlines())
        return parse(f"steps:\n{indented}")
    document = parse(example)
    return document if "steps" in document else {**document, "steps": [{"id": "a", "kind": "exit"}]}


def _section(heading: str) -> str:
    found = re.search(rf"^### {re.escape(heading)}\n(.*?)(?=^##)", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"the guide has no section {heading}"
    return found.group(1)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.splitlines()[0])
def test_an_example_compiles_and_fits_the_schema(example: str) -> None:
    document = _document(example)
    problems = [one for one in compile_document(document).problems if one.reason != "UNREACHABLE_STEP"]
    assert problems == []
    assert [error.message for error in Draft202012Validator(document_schema()).iter_errors(document)] == []


def test_every_key_of_a_document_has_its_place() -> None:
    headings = ",".join(re.findall(r"^### (.*)$", GUIDE, re.MULTILINE)).replace(" ", "").split(",")
    assert [key for key in DOCUMENT_KEYS if key not in headings] == ["steps"]
    assert [key for key in STEP_KEYS if f"| `{key}` |" not in GUIDE] == []


def test_every_key_of_triggers_is_explained() -> None:
    keys = {key for one in trigger_schema()["anyOf"] for key in one["properties"]}
    section = _section("triggers")
    assert sorted(key for key in keys if f"`{key}`" not in section) == []


@pytest.mark.parametrize("kind", steps.KINDS, ids=lambda kind: kind.kind)
def test_every_step_and_each_of_its_keys_and_exits_is_explained(kind: type[Step]) -> None:
    section = _section(kind.kind)
    assert [one.key for one in settings(kind) if f"`{one.key}`" not in section] == []
    exits = [name for name in (*kind.exits, *kind.optional_exits) if name not in ("*", "next")]
    assert [name for name in exits if name not in section] == []
