"""What is true of every step kind: the schema that is published is the one that is enforced."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.domain import steps
from core.domain.steps.base import Step, config_schema
from core.domain.workflow.compile import compile_document

GOOD: dict[str, list[dict[str, Any]]] = {
    "wait": [{"for": "2d"}, {"for": "PT5M", "title": "A pause"}],
    "branch": [{"cases": [{"name": "hot", "when": 'lead.tier == "A"'}]}],
    "wait_for_event": [{"event": "a.b"}, {"event": "a.b", "when": "event.fields.x == 1", "timeout": "1h"}],
    "webhook": [
        {"event_type": "a.b"},
        {
            "event_type": "a.b",
            "data": {"x": [1, "{{ contact.email }}", {"cel": "now"}]},
            "endpoint": "ep_1",
            "await": True,
        },
    ],
    "update": [
        {"set": {"lifecycle_stage": "customer", "custom.plan": {"cel": "vars.plan"}, "city": None}},
        {"record": "lead", "set": {"status": "working"}},
    ],
    "approval": [
        {"title": "Send?"},
        {"title": "Send to {{ contact.email }}?", "details": {"tier": "{{ lead.tier }}"}, "timeout": "1d"},
    ],
    "log": [{"message": "{{ contact.email }}"}, {"message": "x", "level": "error"}],
    "exit": [{}, {"reason": "done", "result": {"ok": True}}],
}
BAD: dict[str, list[dict[str, Any]]] = {
    "wait": [{}, {"for": 3}, {"for": "soon"}, {"for": "2d", "until": "x"}],
    "branch": [
        {},
        {"cases": []},
        {"cases": [{"name": "else", "when": "true"}]},
        {"cases": [{"name": "A B", "when": "x"}]},
    ],
    "wait_for_event": [{}, {"event": ""}, {"event": "a", "timeout": 5}],
    "webhook": [
        {},
        {"event_type": "Not A Type"},
        {"event_type": "a.b", "await": "yes"},
        {"event_type": "a.b", "data": []},
    ],
    "update": [{}, {"set": {}}, {"set": []}, {"set": {"city": "x"}, "record": "company"}],
    "approval": [{}, {"title": ""}, {"title": "x", "timeout": "never"}],
    "log": [{}, {"message": 3}, {"message": "x", "level": "loud"}],
    "exit": [{"reason": ""}, {"result": []}, {"because": "x"}],
}


def _compiles(kind: str, config: dict[str, Any]) -> bool:
    exits = {"rejected": "end"} if kind == "approval" else {}
    problems = compile_document({"steps": [{"id": "a", "kind": kind, "exits": exits, **config}]}).problems
    return not problems


def test_the_kinds_are_these() -> None:
    assert [kind.kind for kind in steps.KINDS] == [
        "wait", "branch", "wait_for_event", "webhook", "update", "approval", "log", "exit",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", steps.KINDS)
def test_a_kind_says_what_it_is(kind: type[Step]) -> None:
    schema = config_schema(kind)
    Draft202012Validator.check_schema(schema)
    assert kind.summary.endswith(".")
    assert all(one["description"].endswith(".") for one in schema["properties"].values())
    assert set(kind.required_exits) <= set(kind.exits)


@pytest.mark.parametrize(("kind", "config"), [(kind, config) for kind, several in GOOD.items() for config in several])
def test_what_the_schema_allows_compiles(kind: str, config: dict[str, Any]) -> None:
    assert list(Draft202012Validator(config_schema(steps.BY_NAME[kind])).iter_errors(config)) == []
    assert _compiles(kind, config)


@pytest.mark.parametrize(("kind", "config"), [(kind, config) for kind, several in BAD.items() for config in several])
def test_what_the_schema_refuses_does_not_compile(kind: str, config: dict[str, Any]) -> None:
    assert not Draft202012Validator(config_schema(steps.BY_NAME[kind])).is_valid(config)
    assert not _compiles(kind, config)


VALUE = st.sampled_from(
    ["2d", "a.b", "x", "true", "info", "contact", True, 3, {"city": "x"}, {}, [], [{"name": "a", "when": "true"}]]
)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(steps.KINDS))
def test_what_compiles_is_allowed_by_the_schema(data: st.DataObject, kind: type[Step]) -> None:
    schema = config_schema(kind)
    config = data.draw(st.dictionaries(st.sampled_from(sorted(schema["properties"])), VALUE))
    if _compiles(kind.kind, config):
        assert list(Draft202012Validator(schema).iter_errors(config)) == []
