"""The published schema and the compiler agree: what compiles fits, and unknown keys do not."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.domain import steps
from core.domain.workflow.compile import compile_document
from core.domain.workflow.document import DOCUMENT_KEYS, STEP_KEYS, from_wire, to_wire
from core.domain.workflow.schema import document_schema
from core.domain.workflow.source import parse, render
from core.rpc.convert import from_struct, to_struct
from core.templates import templates
from dripstone.v1 import workflow_pb2 as pb
from tests.domain.workflow.documents import HEAD, VALUES, documents, places

SCHEMA = document_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
PUBLISHED = Path(__file__).parents[3] / "docs" / "workflow.schema.json"


def _complaints(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_the_published_file_is_fresh() -> None:
    told = "run: dripstone workflow schema --out docs/workflow.schema.json"
    assert json.loads(PUBLISHED.read_text()) == SCHEMA, told


def test_every_key_of_documents_and_steps_is_in_it() -> None:
    assert set(SCHEMA["properties"]) == set(DOCUMENT_KEYS) == {*HEAD, "steps", "reentry_interval"}
    for kind in steps.KINDS:
        of_kind = set(SCHEMA["$defs"][f"step_{kind.kind}"]["properties"])
        named = {"*", "next"} & {*kind.exits, *kind.optional_exits}
        assert of_kind >= set(STEP_KEYS) - ({"next"} if not named else set())


CONDITIONS = ("if", "not", "dependentSchemas")
"""Keywords whose schemas ask about properties that are described elsewhere."""


def _undescribed(schema: Any, path: str) -> Iterator[str]:
    """Yield every property, however deep, that nothing tells editors of."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from _undescribed(item, f"{path}[{index}]")
    elif isinstance(schema, dict):
        for key, item in schema.items():
            if key == "properties":
                for name, inner in item.items():
                    target = SCHEMA["$defs"].get(inner.get("$ref", "").removeprefix("#/$defs/"), {})
                    if not str({**target, **inner}.get("description", "")).endswith("."):
                        yield f"{path}.{name}"
                    yield from _undescribed(inner, f"{path}.{name}")
            elif key not in CONDITIONS:
                yield from _undescribed(item, f"{path}/{key}")


def test_every_property_has_a_description() -> None:
    assert list(_undescribed(SCHEMA, "")) == []


@settings(max_examples=60)
@given(documents())
def test_what_compiles_fits_the_schema(document: dict[str, Any]) -> None:
    problems = [one for one in compile_document(document).problems if one.reason != "UNREACHABLE_STEP"]
    assert problems == []
    assert _complaints(document) == []


@settings(max_examples=120)
@given(documents(), st.data())
def test_what_compiles_after_a_random_change_fits_as_well(document: dict[str, Any], data: Any) -> None:
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 2))):
        inside, key = data.draw(st.sampled_from(places(document)))
        inside[key] = data.draw(VALUES)
    if all(one.reason == "UNREACHABLE_STEP" for one in compile_document(document).problems):
        assert _complaints(document) == []


@settings(max_examples=60)
@given(documents(), st.data())
def test_unknown_keys_fit_neither(document: dict[str, Any], data: Any) -> None:
    document = copy.deepcopy(document)
    closed = [document, *document["steps"], *document.get("triggers", []), *document.get("goals", [])]
    closed += [document[key] for key in ("entry", "circuit_breaker") if isinstance(document.get(key), dict)]
    closed += list(document.get("calendars", {}).values())
    closed += [step["retry"] for step in document["steps"] if "retry" in step]
    data.draw(st.sampled_from(closed))["bananas"] = 1
    assert _complaints(document) != []
    assert "UNKNOWN_KEY" in [one.reason for one in compile_document(document).problems]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"steps": []},
        {"steps": [{"kind": "exit"}]},
        {"steps": [{"id": "a"}]},
        {"steps": [{"id": "a", "kind": "wate", "for": "1d"}]},
        {"steps": [{"id": "A", "kind": "exit"}]},
        {"steps": [{"id": "end", "kind": "exit"}]},
        {"steps": [{"id": "a", "kind": "exit", "next": "end"}]},
        {"steps": [{"id": "a", "kind": "exit", "exits": {"next": "end"}}]},
        {"steps": [{"id": "a", "kind": "approval", "title": "x"}]},
        {"steps": [{"id": "a", "kind": "log", "message": "x", "exits": {"nxt": "end"}}]},
        {"steps": [{"id": "a", "kind": "log", "message": "x", "retry": {"attempts": 1}}]},
        {"steps": [{"id": "a", "kind": "exit"}], "reentry": "onse"},
        {"steps": [{"id": "a", "kind": "exit"}], "goals": [{"name": "x"}]},
        {"steps": [{"id": "a", "kind": "exit"}], "circuit_breaker": True},
        {"steps": [{"id": "a", "kind": "exit"}], "variables": {"A b": "string"}},
        {"steps": [{"id": "a", "kind": "exit"}], "variables": {"a": "text"}},
        {"steps": [{"id": "a", "kind": "exit"}], "triggers": [{"schedule": {"cron": "0 9 * * *"}}]},
    ],
)
def test_what_editors_can_tell_is_told_by_the_schema(document: dict[str, Any]) -> None:
    assert _complaints(document) != []
    assert compile_document(document).problems != ()


def _over_the_wire(document: dict[str, Any]) -> dict[str, Any]:
    """Send a document through the contract and back."""
    wire = to_wire(document)
    message = pb.WorkflowDocument(
        **{key: wire[key] for key in ("title", "description", "timezone", "reentry")},
        settings=to_struct(wire["settings"]),
        triggers=[
            pb.Trigger(event=one["event"], when=one["when"], config=to_struct(one["config"]))
            for one in wire["triggers"]
        ],
        steps=[
            pb.Step(id=one["id"], kind=one["kind"], config=to_struct(one["config"]), exits=one["exits"])
            for one in wire["steps"]
        ],
    )
    read = pb.WorkflowDocument.FromString(message.SerializeToString())
    return from_wire(
        {
            **{key: getattr(read, key) for key in ("title", "description", "timezone", "reentry")},
            "settings": from_struct(read.settings),
            "triggers": [
                {"event": one.event, "when": one.when, "config": from_struct(one.config)} for one in read.triggers
            ],
            "steps": [
                {"id": one.id, "kind": one.kind, "config": from_struct(one.config), "exits": dict(one.exits)}
                for one in read.steps
            ],
        }
    )


@settings(max_examples=60)
@given(documents())
def test_a_document_comes_back_from_the_contract_as_it_went(document: dict[str, Any]) -> None:
    assert _over_the_wire(document) == document


@settings(max_examples=50)
@given(documents())
def test_a_document_comes_back_from_yaml_as_it_went(document: dict[str, Any]) -> None:
    assert parse(render(document)) == document


@pytest.mark.parametrize("template", templates(), ids=lambda template: template.id)
def test_a_template_comes_back_from_the_contract_with_the_same_wiring(template: Any) -> None:
    document = parse(template.source)
    again = _over_the_wire(document)
    assert _over_the_wire(again) == again
    first, second = compile_document(document).version, compile_document(again).version
    assert first is not None
    assert second is not None
    assert {node.id: node.exits for node in first.steps.values()} == {
        node.id: node.exits for node in second.steps.values()
    }


@pytest.mark.parametrize(
    "steps",
    [
        [{"id": "a", "kind": "log", "message": "x", "next": "end"}],
        [
            {
                "id": "a",
                "kind": "branch",
                "cases": [{"name": "next", "when": "true"}],
                "exits": {"next": "end", "else": "a"},
            }
        ],
        [{"id": "a", "kind": "wait", "until": "{{ now }}", "exits": {"past": "end", "next": "end"}}],
    ],
)
def test_exits_come_back_where_authors_put_them(steps: list[dict[str, Any]]) -> None:
    assert _over_the_wire({"steps": steps}) == {"steps": steps}
