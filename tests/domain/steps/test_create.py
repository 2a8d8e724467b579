"""The step that makes records."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.effects import CreateRecord, UpdateRecord
from core.domain.workflow.compile import compile_document
from tests.domain.machine_cases import compiled, entered, known, told

LEAD = """
steps:
  - {id: make, kind: create, set: {status: new, source: "{{ vars.source }}", custom.plan: {cel: vars.plan}}}
  - {id: mark, kind: update, record: lead, set: {lead_ref: "{{ steps.make.record_id }}"}}
"""


def test_a_lead_belongs_to_the_contact_and_is_the_one_in_hand_from_then_on() -> None:
    transition = entered(compiled(LEAD), known(tier=None), variables={"plan": "pro"})
    created, updated = (one for one in transition.effects if isinstance(one, CreateRecord | UpdateRecord))
    assert isinstance(created, CreateRecord)
    assert created.fields == {"contact_id": "cnt_1", "status": "new", "custom.plan": "pro"}
    assert (created.record_type, created.id[:5]) == ("lead", "lead_")
    assert isinstance(updated, UpdateRecord)
    assert (updated.record_id, updated.fields) == (created.id, {"lead_ref": created.id})
    assert transition.enrollment.outputs["make"] == {"record_id": created.id}
    assert told(transition)[1] == (
        "make",
        "ok",
        f"Made the lead {created.id}. source is left out: vars.source is not known.",
    )
    assert entered(compiled(LEAD), known(tier=None), variables={"plan": "pro"}) == transition


def test_a_company_needs_a_name_that_is_known() -> None:
    version = compiled("steps: [{id: make, kind: create, record: company, set: {name: '{{ contact.company_name }}'}}]")
    assert told(entered(version))[1][1:] == (
        "skipped",
        "No company was made: it needs name. name is left out: contact.company_name is not known.",
    )
    made = entered(version, known(company_name="Analytical Engines"))
    assert [one.fields for one in made.effects if isinstance(one, CreateRecord)] == [{"name": "Analytical Engines"}]


def test_a_value_that_the_field_does_not_take_fails_the_step() -> None:
    version = compiled("steps: [{id: make, kind: create, set: {status: '{{ vars.status }}'}}]")
    transition = entered(version, variables={"status": "cold"})
    assert transition.enrollment.end_reason.startswith("status: is not one of its values")
    assert not [one for one in transition.effects if isinstance(one, CreateRecord)]


@pytest.mark.parametrize(
    ("config", "path", "reason"),
    [
        ({"set": {"statsu": "new"}}, "set.statsu", "UNKNOWN_FIELD"),
        ({"set": {"contact_id": "cnt_2"}}, "set.contact_id", "READ_ONLY_FIELD"),
        ({"set": {"model_id": "x"}}, "set.model_id", "READ_ONLY_FIELD"),
        ({"set": {"city": "Rome"}, "record": "company"}, "set.name", "REQUIRED"),
        ({"set": {"email": "a@example.com"}, "record": "contact"}, "record", "UNKNOWN_VALUE"),
        ({}, "set", "MISSING_KEY"),
    ],
)
def test_what_is_wrong_with_a_new_record_is_told(config: dict[str, Any], path: str, reason: str) -> None:
    problems = compile_document({"steps": [{"id": "a", "kind": "create", **config}]}).problems
    assert [(one.field, one.reason) for one in problems] == [(f"steps[0].{path}", reason)]


def test_a_task_is_about_the_contact_who_is_enrolled() -> None:
    version = compiled("steps: [{id: make, kind: create, record: task, set: {title: 'Call {{ contact.first_name }}'}}]")
    (made,) = (one for one in entered(version, known(first_name="Ada")).effects if isinstance(one, CreateRecord))
    assert (made.record_type, made.id[:5], made.fields) == (
        "task",
        "todo_",
        {"contact_id": "cnt_1", "title": "Call Ada"},
    )
