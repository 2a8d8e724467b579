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
    "wait": [{"for": "2d"}, {"for": "PT5M", "title": "A pause"}, {"until_true": 'lead.tier == "A"', "timeout": "1d"}],
    "branch": [{"cases": [{"name": "hot", "when": 'lead.tier == "A"'}]}],
    "filter": [{"when": 'lead.tier == "A"'}],
    "split": [{"ways": {"a": 50, "b": 0.5}}, {"ways": {"a": 1, "b": 1, "c": 1}, "by": "contact", "salt": "spring"}],
    "wait_for_event": [
        {"event": "a.b"},
        {"event": "a.b", "when": "event.fields.x == 1", "timeout": "1h"},
        {"any_of": [{"event": "a.b", "exit": "one"}, {"event": "c", "when": "true"}], "match": {"order": "1"}},
        {"event": "a.b", "match": {"order_id": {"cel": "vars.order_id"}}},
    ],
    "score": [{}, {"model": "inbound"}],
    "message": [
        {"subject": "Hello {{ contact.first_name }}", "text": "Hi"},
        {"channel": "sms", "text": "Hi", "purpose": "transactional", "await": True, "ignore_caps": True},
        {"channel": "dm", "text": "Hi", "to": "{{ contact.custom.handle }}", "ignore_quiet_hours": True},
    ],
    "create": [{"set": {"source": "form"}}, {"record": "company", "set": {"name": "{{ contact.company_name }}"}}],
    "assign_owner": [
        {"owner": "mem_1"},
        {"among": ["mem_1", {"member": "mem_2", "weight": 3}], "method": "weighted", "record": "lead"},
    ],
    "list": [{"add": ["customers"]}, {"add": ["beta-testers"], "remove": ["trials", "no-shows"]}],
    "agent_task": [
        {"title": "Read the reply", "output_schema": {"type": "object"}},
        {
            "title": "Read the reply of {{ contact.email }}",
            "instructions": "Say whether they want a meeting.",
            "input": {"tier": {"cel": "lead.tier"}},
            "output_schema": {"type": "object", "properties": {"meeting": {"type": "boolean"}}},
            "timeout": "1d",
        },
    ],
    "enroll": [{"workflow": "nurture"}, {"workflow": "nurture", "key": "{{ vars.x }}", "variables": {"a": 1}}],
    "webhook": [
        {"event_type": "a.b"},
        {
            "event_type": "a.b",
            "data": {"x": [1, "{{ contact.email }}", {"cel": "now"}]},
            "endpoint": "ep_1",
            "await": True,
            "timeout": "1h",
            "answer_schema": {"type": "object", "required": ["score"]},
        },
    ],
    "update": [
        {"set": {"lifecycle_stage": "customer", "custom.plan": {"cel": "vars.plan"}, "city": None}},
        {"record": "lead", "set": {"status": "working"}},
        {"record": "company", "set": {"city": "Rome"}},
        {"record": "opportunity", "set": {"stage_id": "won", "amount": "5 EUR"}},
    ],
    "approval": [
        {"title": "Send?"},
        {"title": "Send to {{ contact.email }}?", "details": {"tier": "{{ lead.tier }}"}, "timeout": "1d"},
    ],
    "emit_event": [{"event": "trial.went_well"}, {"event": "x", "fields": {"plan": {"cel": "vars.plan"}}}],
    "goal": [{"name": "Trial started"}],
    "log": [{"message": "{{ contact.email }}"}, {"message": "x", "level": "error"}],
    "exit": [{}, {"reason": "done", "result": {"ok": True}}],
}
BAD: dict[str, list[dict[str, Any]]] = {
    "wait": [
        {},
        {"for": "2d", "until": "2026-01-01"},
        {"for": 3},
        {"for": "soon"},
        {"until": 3},
        {"at": 9},
        {"until_true": "true", "for": "2d"},
        {"for": "2d", "timeout": "1d"},
        {"until_true": 3},
    ],
    "filter": [{}, {"when": ""}, {"when": 3}],
    "split": [
        {},
        {"ways": {"a": 1}},
        {"ways": {"a": 1, "b": 0}},
        {"ways": {"a": 1, "b": True}},
        {"ways": {"a": 1, "b": -1}},
        {"ways": {"a": 1, "b": "1"}},
        {"ways": {"a": 1, "B b": 1}},
        {"ways": {"a": 1, "error": 1}},
        {"ways": {f"w{number}": 1 for number in range(21)}},
        {"ways": ["a", "b"]},
        {"ways": {"a": 1, "b": 1}, "by": "mood"},
    ],
    "branch": [
        {},
        {"cases": []},
        {"cases": [{"name": "else", "when": "true"}]},
        {"cases": [{"name": "error", "when": "true"}]},
        {"cases": [{"name": "A B", "when": "x"}]},
    ],
    "wait_for_event": [
        {},
        {"event": "a", "any_of": [{"event": "b"}]},
        {"when": "true", "any_of": [{"event": "b"}]},
        {"event": ""},
        {"event": "a\nb"},
        {"event": "a", "timeout": 5},
        {"any_of": []},
        {"any_of": [{"event": "a", "exit": "timeout"}]},
        {"any_of": [{"event": "a", "exit": "error"}]},
        {"any_of": [{"exit": "a"}]},
        {"any_of": [{"event": "a", "whenn": "true"}]},
        {"any_of": ["a"]},
        {"event": "a", "match": {}},
        {"event": "a", "match": {"x": "1", "y": "2"}},
        {"event": "a", "match": {"x": ["1"]}},
        {"event": "a", "match": {"x": None}},
        {"event": "a", "match": "x"},
    ],
    "score": [{"model": 3}, {"modell": "x"}],
    "message": [{}, {"text": ""}, {"subject": "x", "text": 3}, {"subject": "x", "text": "y", "channel": "E mail"}],
    "create": [{}, {"set": {}}, {"set": {"name": "x"}, "record": "contact"}],
    "assign_owner": [{"owner": 3}, {"among": []}, {"among": [{"member": "mem_1", "weight": 0}]}, {"method": "luck"}],
    "list": [{"add": []}, {"add": "customers"}, {"remove": ["Not A Slug"]}],
    "agent_task": [{}, {"title": "x"}, {"title": "x", "output_schema": "object"}],
    "enroll": [{}, {"workflow": ""}, {"workflow": "x", "variables": []}],
    "webhook": [
        {},
        {"event_type": "Not A Type"},
        {"event_type": "a.b", "await": "yes"},
        {"event_type": "a.b", "data": []},
        {"event_type": "a.b", "await": True, "answer_schema": "object"},
        {"event_type": "a.b", "timeout": "1h"},
        {"event_type": "a.b", "await": False, "answer_schema": {}},
    ],
    "update": [{}, {"set": {}}, {"set": []}, {"set": {"city": "x"}, "record": "task"}],
    "emit_event": [{}, {"event": ""}, {"event": "enrollment.completed"}, {"event": "x", "fields": []}],
    "goal": [{}, {"name": " " * 3 + "x" * 100}, {"name": 3}],
    "approval": [{}, {"title": ""}, {"title": "x", "timeout": "never"}],
    "log": [{}, {"message": 3}, {"message": "x", "level": "loud"}],
    "exit": [{"reason": ""}, {"result": []}, {"because": "x"}],
}
BEYOND_SHAPES: dict[str, list[tuple[dict[str, Any], str, str]]] = {
    "wait": [({}, "for", "MISSING_KEY"), ({"for": "2d", "until": "2026-01-01"}, "until", "CONFLICT")],
    "wait_for_event": [
        ({}, "event", "MISSING_KEY"),
        ({"event": "a", "any_of": [{"event": "b"}]}, "any_of", "CONFLICT"),
        ({"when": "true", "any_of": [{"event": "b"}]}, "when", "CONFLICT"),
    ],
    "webhook": [
        ({"event_type": "a.b", "timeout": "1h"}, "timeout", "CONFLICT"),
        ({"event_type": "a.b", "answer_schema": {}}, "answer_schema", "CONFLICT"),
        ({"event_type": "a.b", "await": True, "answer_schema": {"type": "x"}}, "answer_schema.type", "NOT_A_SCHEMA"),
        ({"event_type": "record.created"}, "event_type", "RESERVED_NAME"),
    ],
    "update": [({"record": "company", "set": {"email": "x"}}, "set.email", "UNKNOWN_FIELD")],
    "filter": [({"when": "lead.tierr == 'A'"}, "when", "EXPRESSION_UNKNOWN_NAME")],
}
"""Configurations whose fault is not in the shape of one setting, with where it is reported and as what."""


def _compiles(kind: str, config: dict[str, Any]) -> bool:
    exits = {"rejected": "end"} if kind == "approval" else {}
    problems = compile_document({"steps": [{"id": "a", "kind": kind, "exits": exits, **config}]}).problems
    return not problems


def test_the_kinds_are_these() -> None:
    assert [kind.kind for kind in steps.KINDS] == [
        "wait", "filter", "branch", "split", "score", "wait_for_event", "message", "webhook", "update", "create",
        "assign_owner", "list", "agent_task", "approval", "emit_event", "enroll", "log", "goal", "exit",
    ]  # fmt: skip


def test_every_kind_is_tried_here() -> None:
    assert set(GOOD) == set(BAD) == set(steps.BY_NAME)


@pytest.mark.parametrize("kind", steps.KINDS)
def test_a_kind_says_what_it_is(kind: type[Step]) -> None:
    schema = config_schema(kind)
    Draft202012Validator.check_schema(schema)
    assert kind.summary.endswith(".")
    assert all(one["description"].endswith(".") for one in schema["properties"].values())
    assert set(kind.required_exits) <= set(kind.exits)
    assert not set(kind.optional_exits) & set(kind.exits)
    assert set(kind.fallbacks) | set(kind.fallbacks.values()) <= set(kind.exits)


@pytest.mark.parametrize(("kind", "config"), [(kind, config) for kind, several in GOOD.items() for config in several])
def test_what_the_schema_allows_compiles(kind: str, config: dict[str, Any]) -> None:
    assert list(Draft202012Validator(config_schema(steps.BY_NAME[kind])).iter_errors(config)) == []
    assert _compiles(kind, config)


@pytest.mark.parametrize(("kind", "config"), [(kind, config) for kind, several in BAD.items() for config in several])
def test_what_the_schema_refuses_does_not_compile(kind: str, config: dict[str, Any]) -> None:
    assert not Draft202012Validator(config_schema(steps.BY_NAME[kind])).is_valid(config)
    assert not _compiles(kind, config)


@pytest.mark.parametrize(
    ("kind", "config", "key", "reason"),
    [(kind, *case) for kind, several in BEYOND_SHAPES.items() for case in several],
)
def test_what_settings_say_together_is_checked_too(kind: str, config: dict[str, Any], key: str, reason: str) -> None:
    problems = compile_document({"steps": [{"id": "a", "kind": kind, **config}]}).problems
    assert [(one.field, one.reason) for one in problems] == [(f"steps[0].{key}", reason)]
    assert all(one.message and one.hint for one in problems)


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
