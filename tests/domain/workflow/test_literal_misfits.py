"""Data of a webhook step against its type's schema, before anything of it is computed."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.steps.shapes import Lookups
from core.domain.workflow import json_schemas
from core.domain.workflow.compile import compile_document
from core.domain.workflow.json_schemas import JsonSchema
from core.domain.workflow.source import parse

DEAL = {
    "type": "object",
    "required": ["id", "amount"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "string", "pattern": "^d[0-9]+$"},
        "amount": {"type": "number", "minimum": 0},
        "stage": {"enum": ["won", "lost"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
        "who": {"type": ["object", "null"], "required": ["email"]},
    },
}
OWN = "'contact_id', 'enrollment_id', 'workflow_id'"


def schema(raw: dict[str, Any]) -> JsonSchema:
    read, problems = json_schemas.read(raw, "schema")
    assert read is not None, problems
    return read


def problems(data: str, raw: dict[str, Any] = DEAL) -> list[tuple[str, str]]:
    text = f"steps:\n  - {{id: tell, kind: webhook, event_type: deal.won{f', data: {data}' if data else ''}}}\n"
    compiled = compile_document(parse(text), Lookups(event_schemas={"deal.won": schema(raw)}))
    assert all(one.reason == "SCHEMA_MISFIT" for one in compiled.problems), compiled.problems
    return [(one.field.removeprefix("steps[0]."), one.message.removeprefix("deal.won: ")) for one in compiled.problems]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("{id: d1, amount: 3}", []),
        ('{id: "{{ contact.id }}", amount: {cel: vars.amount}}', []),
        ("{id: d1, amount: {cel: 1 + 2}, stage: {cel: vars.stage}, tags: {cel: vars.tags}}", []),
        ("{id: d1, amount: 3, who: {cel: vars.who}}", []),
        ("{id: d1}", [("data", "'amount' is a required property")]),
        ("{id: x1, amount: 3}", [("data.id", "'x1' does not match '^d[0-9]+$'")]),
        ("{id: d1, amount: -1}", [("data.amount", "-1 is less than the minimum of 0")]),
        (
            '{id: d1, amount: "{{ vars.amount }}"}',
            [("data.amount", "is text, and the schema wants number")],
        ),
        (
            "{id: {cel: 1 + 2}, amount: 3}",
            [("data.id", "is a computed value, and the schema wants string")],
        ),
        ("{id: d1, amount: 3, stage: open}", [("data.stage", "'open' is not one of ['won', 'lost']")]),
        ('{id: d1, amount: 3, stage: "{{ vars.stage }}"}', []),
        (
            '{id: d1, amount: 3, tags: ["{{ vars.a }}", b, c]}',
            [("data.tags", "[…, 'b', 'c'] is too long")],
        ),
        ('{id: d1, amount: 3, tags: ["{{ vars.a }}", 7]}', [("data.tags[1]", "7 is not of type 'string'")]),
        ('{id: d1, amount: 3, who: {name: "{{ vars.a }}"}}', [("data.who", "'email' is a required property")]),
        ("{id: d1, amount: 3, tags: {a: 1}}", [("data.tags", "is a map, and the schema wants array")]),
        (
            "{id: d1, amount: 3, more: {cel: vars.a}}",
            [("data", "Additional properties are not allowed ('more' was unexpected)")],
        ),
        ("", [("data", f"Additional properties are not allowed ({OWN} were unexpected)"),
              ("data", "'amount' is a required property"), ("data", "'id' is a required property")]),
    ],
)  # fmt: skip
def test_what_can_never_fit_is_told_and_nothing_else(data: str, told: list[tuple[str, str]]) -> None:
    assert sorted(problems(data)) == sorted(told)


CHOICE = {
    "type": "object",
    "if": {"properties": {"kind": {"const": "a"}}, "required": ["kind"]},
    "then": {"required": ["a"]},
    "else": {"required": ["b"]},
    "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
}


@pytest.mark.parametrize(
    ("data", "count"),
    [
        ("{kind: a, a: 1}", 0),
        ("{kind: a, b: 1}", 1),
        ('{kind: "{{ vars.kind }}", a: 1}', 0),
        ('{kind: "{{ vars.kind }}", b: 1}', 0),
    ],
)
def test_what_depends_on_what_is_not_known_yet_is_left_to_the_moment_of_sending(data: str, count: int) -> None:
    assert len(problems(data, CHOICE)) == count


def test_a_type_that_nobody_declared_takes_anything() -> None:
    text = "steps:\n  - {id: tell, kind: webhook, event_type: deal.lost, data: {amount: many}}\n"
    lookups = Lookups(event_schemas={"deal.won": schema(DEAL)})
    assert compile_document(parse(text), lookups).problems == ()
