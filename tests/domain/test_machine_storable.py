"""Nothing a workflow makes can be refused by a database: a row that is would hold up all rows written with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.effects import Emit, RequestApproval
from core.domain.enrollment import Cancelled, EventArrived
from core.domain.steps.base import Decision, Go, Leave
from core.domain.steps.log import Log
from core.domain.trace import Transition
from core.domain.workflow.compile import compile_document
from core.domain.workflow.version import Version
from tests.domain.machine_cases import HOUR, START, compiled, entered, happened, moved

POISON = {"a\0b": ["\ud800", {"\udfff": math.nan}], "n": -math.inf, "t": ("x\0",)}


def leaves(value: Any) -> Iterator[Any]:
    """Yield every text and number in it, keys too."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(key)
            yield from leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def unstorable(transition: Transition) -> list[Any]:
    return [leaf for leaf in leaves(transition) if not storable(leaf)]


def storable(leaf: Any) -> bool:
    if isinstance(leaf, str):
        return "\0" not in leaf and not any("\ud800" <= character <= "\udfff" for character in leaf)
    return not isinstance(leaf, float) or math.isfinite(leaf)


def everywhere(expression: str, text: str) -> Iterator[Version]:
    """Yield workflows that put a CEL expression or a Liquid text wherever one may stand, each step on its own."""
    cel = {"cel": expression}
    exits = {"approved": "end", "rejected": "end"}
    steps: list[dict[str, Any]] = [
        {"id": "say", "kind": "log", "message": text},
        {"id": "set", "kind": "update", "set": {"custom.a": cel}},
        {"id": "set", "kind": "update", "set": {"job_title": text, "custom.b": text}},
        {"id": "tell", "kind": "webhook", "event_type": "x.y", "data": {"a": cel, "b": [text, {"c": cel}]}},
        {"id": "make", "kind": "emit_event", "event": "x", "fields": {"a": cel, "b": text}},
        {"id": "hear", "kind": "wait_for_event", "event": "x", "match": {"a": cel}},
        {"id": "ask", "kind": "approval", "title": text, "details": {"q": cel, "r": text}, "exits": exits},
        {"id": "done", "kind": "exit", "reason": text, "result": {"a": cel}},
    ]
    for step in steps:
        result = compile_document({"steps": [step]}, workflow_id="w", number=1)
        assert result.version is not None, result.problems
        yield result.version


def transitions(expression: str, text: str, variables: Mapping[str, Any]) -> list[Transition]:
    return [entered(version, variables=variables) for version in everywhere(expression, text)]


BROKEN = [
    r"{'\x00': 1}",
    r"{'a': {'b\x00c': [{'\x00': '\x00'}]}}",
    r"['\x00', b'\x00']",
    r"b'\x00\xff'",
    r"{'a\x00': 1}['b\x00']",
    r"vars['a\x00']",
    "0.0 / 0.0",
    "[1.0 / 0.0, {'x': -1.0 / 0.0}]",
    "vars",
    "vars.x",
    "type(vars)",
]
TEXTS = ["x", "{{ vars.x }}", "{{ vars }}", "{{ vars.x | divided_by: 0 }}", "{{ 'JQA=' | append: vars.x }}", "%00"]
TEXTS += ["{{ '%00%ED%A0%80' | url_decode }}", "{% for a in vars %}{{ a }}{% endfor %}", "{{ vars.x | date: vars.x }}"]


@pytest.mark.parametrize("expression", BROKEN)
@pytest.mark.parametrize("text", ["x", "{{ '%00%ED%A0%80' | url_decode }}"])
def test_no_expression_poisons_a_transition(expression: str, text: str) -> None:
    assert [unstorable(one) for one in transitions(expression, text, {"n": 1})] == [[]] * 8


def test_a_map_with_a_bad_key_keeps_its_value() -> None:
    effects = [effect for one in transitions(r"{'a\x00b': 1}", "Sure?", {}) for effect in one.effects]
    asked = next(effect for effect in effects if isinstance(effect, RequestApproval))
    told = next(effect for effect in effects if isinstance(effect, Emit) and effect.event_type == "x.y")
    assert (asked.details["q"], told.data["a"]) == ({"ab": 1}, {"ab": 1})


WILD_TEXT = st.text(st.sampled_from("a\0\ud800\udfff\U0001f600%{"), max_size=6)
WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | WILD_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WILD_TEXT, inner, max_size=3),
    max_leaves=8,
)
LITERALS = st.recursive(
    st.sampled_from([r"'\x00'", r"'a\x00'", r"b'\x00'", "0.0/0.0", "1.0/0.0", "1", "null", "vars.x", "vars", "1 / 0"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from([r"'\x00'", r"'b\x00'", "true", "1", "'k'"]), inner, max_size=3).map(
            lambda pairs: "{" + ", ".join(f"{key}: {item}" for key, item in pairs.items()) + "}"
        )
    ),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(LITERALS, st.sampled_from(TEXTS), WILD)
def test_whatever_values_come_to_every_database_keeps_the_transition(expression: str, text: str, wild: Any) -> None:
    assert [unstorable(one) for one in transitions(expression, text, {"n": 1, "x": wild})] == [[]] * 8


DECISIONS: list[Decision] = [
    Go("next", "why\0\ud800", outputs=POISON, inputs=POISON, event=POISON, effects=(Emit("msg_1", "x.y", POISON),)),
    Leave("why\0\ud800", POISON, POISON),
]


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: type(decision).__name__)
def test_a_step_that_returns_poison_is_cleaned_by_the_machine(
    decision: Decision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Log, "begin", lambda step, context: decision)
    transition = entered(compiled("steps: [{id: say, kind: log, message: x}]"))
    assert unstorable(transition) == []


def test_what_arrives_is_cleaned_too() -> None:
    version = compiled("steps: [{id: reply, kind: wait_for_event, event: reply.received, timeout: 3d}]")
    waiting = entered(version, variables=POISON)
    arrived = happened("reply.received", START + HOUR, **{"x\0": POISON})
    after = moved(version, waiting.enrollment, EventArrived(arrived), START + HOUR)
    cancelled = moved(version, waiting.enrollment, Cancelled("mem_1", "no\0\ud800"), START + HOUR)
    assert [unstorable(one) for one in (waiting, after, cancelled)] == [[], [], []]


def test_cleaning_leaves_what_is_sound_alone() -> None:
    made = transitions("{'a': [1, 2.5, 'é', null, true]}", "é\U0001f600", {})
    effects = [effect for one in made for effect in one.effects if isinstance(effect, Emit)]
    told = next(effect for effect in effects if effect.event_type == "x.y")
    assert told.data["a"] == {"a": [1, 2.5, "é", None, True]}
    assert told.data["b"][0] == "é\U0001f600"
