"""Publishing compiles everything, and says everything that is wrong at once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.records.definitions import Definition, FieldKind
from core.domain.records.pipelines import Pipeline, Stage
from core.domain.records.schema import OwnType, build
from core.domain.steps.shapes import Lookups
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse

BUYER = Definition("buyer", FieldKind.REFERENCE, reference_type="contact")

NURTURE = """
title: Inbound nurture
description: From the form to the first talk
timezone: Europe/Berlin
reentry: once
triggers:
  - event: form.submitted
    when: event.fields.plan == "pro"
steps:
  - id: by_tier
    kind: branch
    cases:
      - {name: hot, when: 'lead.tier == "A"'}
    exits: {hot: notify, else: cool_off}
  - {id: notify, kind: webhook, event_type: nurture.hot, data: {email: "{{ contact.email }}"}, next: done}
  - {id: cool_off, kind: wait, for: 2d}
  - id: reply
    kind: wait_for_event
    event: reply.received
    when: event.fields.channel == "email"
    timeout: 3d
    exits: {matched: thanks, timeout: done}
  - {id: thanks, kind: update, set: {lifecycle_stage: engaged, custom.replied: {cel: 'steps.reply.matched'}}}
  - {id: ok, kind: approval, title: "Offer to {{ contact.email }}", timeout: 1d, exits: {approved: note, rejected: end}}
  - {id: note, kind: log, message: agreed, level: info}
  - {id: done, kind: exit, reason: finished, result: {replied: {cel: 'steps.reply.matched'}}}
"""


def _problems(text: str, lookups: Lookups | None = None) -> list[tuple[str, str]]:
    compiled = compile_document(parse(text), lookups)
    assert (compiled.version is None) == bool(compiled.problems)
    return [(problem.field, problem.reason) for problem in compiled.problems]


def test_a_document_compiles_to_a_version() -> None:
    compiled = compile_document(parse(NURTURE), workflow_id="nurture", number=3)
    version = compiled.version
    assert compiled.problems == ()
    assert version is not None
    assert (version.workflow_id, version.number, version.entry) == ("nurture", 3, "by_tier")
    assert (version.reentry, version.timezone) == ("once", "Europe/Berlin")
    assert [trigger.event for trigger in version.triggers] == ["form.submitted"]
    assert {node.id: dict(node.exits) for node in version.steps.values()} == {
        "by_tier": {"hot": "notify", "else": "cool_off"},
        "notify": {"next": "done"},
        "cool_off": {"next": "reply"},
        "reply": {"matched": "thanks", "timeout": "done"},
        "thanks": {"next": "ok"},
        "ok": {"approved": "note", "rejected": "end", "timeout": "end"},
        "note": {"next": "done"},
        "done": {},
    }


def test_everything_that_is_wrong_is_said_at_once_in_document_order() -> None:
    text = """
titel: x
timezone: Europe/Berln
reentry: onse
triggers: [{event: '', when: 'contact.emial == 1'}, {evnt: x}]
steps:
  - {id: a, kind: brunch}
  - {id: A-b, kind: wait, for: soon, exits: {nxt: c}}
  - {id: a, kind: wait, fro: 2d}
  - {id: end, kind: branch, cases: [{name: else, when: 'x'}, {name: h, when: '1'}, {name: h}]}
  - {id: w, kind: webhook, event_type: lead.qualified, endpoint: ep_1, data: {x: '{{ contact.emial }}'}, await: yes}
  - {id: u, kind: update, set: {tire: A, email: nope, lifecycle_stage: {cel: contact.employees}}}
  - {id: u2, kind: update, record: lead, set: {tire: A, model_id: x, status: quallified, custom.x.y.z.q: 1}}
  - {id: ap, kind: approval, title: x, timeout: 1d, exits: {aproved: w}}
  - {id: l, kind: log, message: '{% if %}', level: inf, next: nowhere}
  - {id: ex, kind: exit, next: w, result: {a: {cel: 'steps.l.mesage'}}}
"""
    assert _problems(text, Lookups(frozenset({"ep_2"}))) == [
        ("titel", "UNKNOWN_KEY"),
        ("timezone", "UNKNOWN_TIMEZONE"),
        ("reentry", "UNKNOWN_VALUE"),
        ("triggers[0].event", "EMPTY"),
        ("triggers[0].when", "EXPRESSION_UNKNOWN_NAME"),
        ("triggers[1].evnt", "UNKNOWN_KEY"),
        ("triggers[1].event", "MISSING_KEY"),
        ("steps[0].kind", "UNKNOWN_KIND"),
        ("steps[1].id", "BAD_ID"),
        ("steps[1].for", "NOT_A_DURATION"),
        ("steps[1].exits.nxt", "UNKNOWN_EXIT"),
        ("steps[1].exits.nxt", "UNKNOWN_TARGET"),
        ("steps[2].id", "DUPLICATE_ID"),
        ("steps[2].fro", "UNKNOWN_KEY"),
        ("steps[3].id", "RESERVED_NAME"),
        ("steps[3].cases[0].name", "RESERVED_NAME"),
        ("steps[3].cases[0].when", "EXPRESSION_UNKNOWN_NAME"),
        ("steps[3].cases[1].when", "EXPRESSION_TYPE"),
        ("steps[3].cases[2].name", "DUPLICATE_NAME"),
        ("steps[3].cases[2].when", "MISSING_KEY"),
        ("steps[4].event_type", "RESERVED_NAME"),
        ("steps[4].data.x", "TEMPLATE_UNKNOWN_NAME"),
        ("steps[4].endpoint", "UNKNOWN_ENDPOINT"),
        ("steps[4].await", "WRONG_TYPE"),
        ("steps[5].set.tire", "UNKNOWN_FIELD"),
        ("steps[5].set.email", "INVALID_EMAIL"),
        ("steps[5].set.lifecycle_stage.cel", "EXPRESSION_TYPE"),
        ("steps[6].set.tire", "UNKNOWN_FIELD"),
        ("steps[6].set.model_id", "READ_ONLY_FIELD"),
        ("steps[6].set.status", "UNKNOWN_VALUE"),
        ("steps[6].set.custom.x.y.z.q", "TOO_DEEP"),
        ("steps[7].exits.aproved", "UNKNOWN_EXIT"),
        ("steps[7].exits.rejected", "MISSING_EXIT"),
        ("steps[8].message", "TEMPLATE_SYNTAX"),
        ("steps[8].level", "UNKNOWN_VALUE"),
        ("steps[8].exits.next", "UNKNOWN_TARGET"),
        ("steps[9].result.a.cel", "EXPRESSION_UNKNOWN_NAME"),
        ("steps[9].exits.next", "UNKNOWN_EXIT"),
    ]
    assert [one.field for one in compile_document(parse(text)).problems if not one.hint] == []


def test_what_is_wrong_with_one_step_hides_nothing_of_the_graph() -> None:
    text = """
steps:
  - {id: way, kind: branch, cases: [{name: hot, when: contact.emial == ""}, {name: cold}], exits: {hto: shout, cold: b}}
  - {id: shout, kind: message, subject: Hi, text: "{{ contact.emial }}", exits: {sent: b}}
  - {id: b, kind: split, ways: {one: 0, two: 1}, exits: {one: c, two: c, thre: d}}
  - {id: c, kind: log, message: "{{ contact.emial }}", next: c}
  - {id: d, kind: wait_for_event, any_of: [{exit: x}, {event: e, when: "1", exit: y}], exits: {x: c, y: c, z: c}}
  - {id: lost, kind: log, message: x, next: end}
  - {id: unread, kind: webhook, event_type: a.b, await: perhaps, exits: {delivered: lost}}
"""
    assert _problems(text) == [
        ("steps[0].cases[0].when", "EXPRESSION_UNKNOWN_NAME"),
        ("steps[0].cases[1].when", "MISSING_KEY"),
        ("steps[0].exits.hto", "UNKNOWN_EXIT"),
        ("steps[1].text", "TEMPLATE_UNKNOWN_NAME"),
        ("steps[1].exits.sent", "UNKNOWN_EXIT"),
        ("steps[2].ways.one", "BAD_WEIGHT"),
        ("steps[2].exits.thre", "UNKNOWN_EXIT"),
        ("steps[3].message", "TEMPLATE_UNKNOWN_NAME"),
        ("steps[3]", "LOOP_WITHOUT_WAIT"),
        ("steps[4].any_of[0].event", "MISSING_KEY"),
        ("steps[4].any_of[1].when", "EXPRESSION_TYPE"),
        ("steps[4].exits.z", "UNKNOWN_EXIT"),
        ("steps[5]", "UNREACHABLE_STEP"),
        ("steps[6].await", "WRONG_TYPE"),
        ("steps[6]", "UNREACHABLE_STEP"),
    ]


@pytest.mark.parametrize(
    "step",
    [
        "{id: a, kind: brunch, exits: {b: c}}",
        "{id: a, kind: webhook, event_type: x.y, await: maybe}",
        "{id: a, kind: branch, cases: [{nmae: hot, when: 'true'}], exits: {hot: c}}",
        "{id: a, kind: split, ways: [b, c]}",
        "{id: a, kind: approval, title: x, timeout: soon, exits: {approved: c, rejected: c}}",
        "{id: a, kind: log, message: x, exits: {nxt: c}}",
        "loose",
    ],
)
def test_where_a_step_at_fault_may_lead_counts_as_reached(step: str) -> None:
    text = f"steps: [{step}, {{id: b, kind: log, message: x}}, {{id: c, kind: log, message: x}}]"
    assert {reason for _, reason in _problems(text)} & {"UNREACHABLE_STEP", "LOOP_WITHOUT_WAIT"} == set()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("title: x", [("steps", "MISSING_KEY")]),
        ("steps: []", [("steps", "MISSING_KEY")]),
        ("steps: {a: b}", [("steps", "MISSING_KEY")]),
        ("steps: [x]", [("steps[0]", "WRONG_TYPE")]),
        ("steps: [{kind: exit}]", [("steps[0].id", "MISSING_KEY")]),
        ("steps: [{id: a}]", [("steps[0].kind", "MISSING_KEY")]),
        ("steps: [{id: a, kind: [1]}]", [("steps[0].kind", "UNKNOWN_KIND")]),
        ("steps: [{id: a, kind: exit, exits: [1]}]", [("steps[0].exits", "WRONG_TYPE")]),
        ("steps: [{id: a, kind: log, message: x, exits: {next: 3}}]", [("steps[0].exits.next", "WRONG_TYPE")]),
        (
            "steps: [{id: a, kind: log, message: x, next: end, exits: {next: b}}]",
            [("steps[0].next", "CONFLICT"), ("steps[0].exits.next", "UNKNOWN_TARGET")],
        ),
        ("steps: [{id: a, kind: log, message: 3}]", [("steps[0].message", "WRONG_TYPE")]),
        ("steps: [{id: a, kind: wait, for: 3}]", [("steps[0].for", "WRONG_TYPE")]),
        ("steps: [{id: a, kind: branch, cases: x}]", [("steps[0].cases", "WRONG_TYPE")]),
        ("steps: [{id: a, kind: branch, cases: []}]", [("steps[0].cases", "WRONG_COUNT")]),
        ("steps: [{id: a, kind: update, set: {}}]", [("steps[0].set", "WRONG_COUNT")]),
        ("steps: [{id: a, kind: webhook, event_type: x.y, data: {cel: vars}}]", [("steps[0].data", "WRONG_TYPE")]),
        ("steps: [{id: a, kind: exit}, {id: b, kind: exit}]", [("steps[1]", "UNREACHABLE_STEP")]),
        ("steps: [{id: a, kind: log, message: x, next: a}]", [("steps[0]", "LOOP_WITHOUT_WAIT")]),
        ("steps: [{id: a, kind: exit}]\ntriggers: {a: b}", [("triggers", "WRONG_TYPE")]),
        ("steps: [{id: a, kind: exit}]\ntitle: [x]", [("title", "WRONG_TYPE")]),
        (
            "steps: [{id: a, kind: webhook, event_type: x.y, next: b}, "
            "{id: b, kind: branch, cases: [{name: again, when: 'true'}], exits: {again: a}}]",
            [("steps[0]", "LOOP_WITHOUT_WAIT")],
        ),
    ],
)
def test_a_mistake_has_its_path_and_reason(text: str, problems: list[tuple[str, str]]) -> None:
    assert _problems(text) == problems


@pytest.mark.parametrize(
    "text",
    [
        "steps: [{id: a, kind: wait, for: 1d, next: a}]",
        "steps: [{id: a, kind: webhook, event_type: x.y, await: true, exits: {failed: a, delivered: end}}]",
        "steps: [{id: a, kind: log, message: x}, {id: b, kind: wait, for: 1d, next: a}]",
        "steps: [{id: a, kind: wait_for_event, event: x, exits: {matched: a}}]",
    ],
)
def test_a_loop_that_waits_is_allowed(text: str) -> None:
    assert _problems(text) == []


@pytest.mark.parametrize(
    "count_and_reason",
    [(200, None), (201, ("steps", "TOO_MANY"))],
)
def test_a_workflow_has_at_most_200_steps(count_and_reason: tuple[int, tuple[str, str] | None]) -> None:
    count, reason = count_and_reason
    document = {"steps": [{"id": f"s{index}", "kind": "wait", "for": "1d"} for index in range(count)]}
    found = [(problem.field, problem.reason) for problem in compile_document(document).problems]
    assert found == ([reason] if reason else [])


def test_a_workflow_has_at_most_1000_expressions_and_templates() -> None:
    data = {f"k{index}": "{{ contact.email }}" for index in range(90)}
    many = [{"id": f"s{i}", "kind": "webhook", "event_type": "x.y", "data": data} for i in range(12)]
    (problem,) = compile_document({"steps": many}).problems
    assert (problem.field, problem.reason) == ("steps", "TOO_MANY")


def test_a_branch_has_at_most_50_cases() -> None:
    cases = [{"name": f"c{index}", "when": "true"} for index in range(51)]
    (problem,) = compile_document({"steps": [{"id": "a", "kind": "branch", "cases": cases}]}).problems
    assert (problem.field, problem.reason) == ("steps[0].cases", "WRONG_COUNT")


def test_an_endpoint_is_looked_up_where_endpoints_are_known() -> None:
    text = "steps: [{id: a, kind: webhook, event_type: x.y, endpoint: ep_1}]"
    assert _problems(text) == []
    assert _problems(text, Lookups(frozenset({"ep_1"}))) == []
    assert _problems(text, Lookups(frozenset())) == [("steps[0].endpoint", "UNKNOWN_ENDPOINT")]


def test_every_problem_names_the_way_out_where_a_name_is_near() -> None:
    hints = {
        problem.field: problem.hint
        for problem in compile_document(
            parse("steps: [{id: a, kind: wate, for: 1d}, {id: b, kind: log, mesage: x}]")
        ).problems
    }
    assert hints["steps[0].kind"] == "Did you mean wait?"
    assert hints["steps[1].mesage"] == "Did you mean message?"


JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["a", "end", "wait", "1d", "{{ x", "now"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "kind", "exits", "next", "for", "cases", "when", "name", "set", "cel", "data", "title"]
            )
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
KINDS = st.sampled_from(["wait", "branch", "wait_for_event", "webhook", "update", "approval", "log", "exit"])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["title", "steps", "triggers", "reentry", "timezone"]), JSON))
def test_no_document_makes_compile_raise(document: dict[str, Any]) -> None:
    compiled = compile_document(document)
    assert (compiled.version is None) == bool(compiled.problems)


@settings(max_examples=150, deadline=None)
@given(
    KINDS,
    st.dictionaries(st.sampled_from(["for", "cases", "event", "when", "timeout", "set", "title", "message"]), JSON),
)
def test_no_configuration_makes_compile_raise(kind: str, config: dict[str, Any]) -> None:
    compiled = compile_document({"steps": [{"id": "a", "kind": kind, **config}]})
    assert (compiled.version is None) == bool(compiled.problems)


def test_stages_that_are_written_out_are_looked_up() -> None:
    sales, other = (Pipeline(one, one, (Stage(stage, stage, 0.1),)) for one, stage in (("sales", "demo"), ("b", "new")))
    text = """
steps:
  - {id: a, kind: update, record: opportunity, set: {stage_id: dmeo}}
  - {id: b, kind: update, record: opportunity, set: {pipeline_id: sales, stage_id: new}}
  - {id: c, kind: create, record: opportunity, set: {name: x, pipeline_id: sale, stage_id: x}}
  - {id: d, kind: update, record: opportunity, set: {stage_id: "{{ vars.stage }}", pipeline_id: b}}
  - {id: e, kind: update, record: opportunity, set: {stage_id: new}}
"""
    assert _problems(text, Lookups(pipelines=(sales, other))) == [
        ("steps[0].set.stage_id", "UNKNOWN_STAGE"),
        ("steps[1].set.stage_id", "UNKNOWN_STAGE"),
        ("steps[2].set.pipeline_id", "UNKNOWN_PIPELINE"),
    ]


def test_own_types_are_checked_as_they_are_defined() -> None:
    schema = build(
        1, (OwnType("plan", "Plan", "Plans"),), [("plan", Definition("seats", FieldKind.INTEGER)), ("plan", BUYER)]
    )
    text = """
triggers:
  - {record: plan, contact: custom.buyer, fields: [custom.seats, custom.seets], when: plan.custom.seats == "5"}
  - {record: plan, contact: custom.seats}
steps:
  - {id: a, kind: update, record: plan, set: {custom.seats: many, contact_id: null}}
  - {id: b, kind: wait, until_true: plan.custom.set > 3}
"""
    assert _problems(text, Lookups(schema=schema)) == [
        ("triggers[0].when", "EXPRESSION_TYPE"),
        ("triggers[0].fields[1]", "UNKNOWN_FIELD"),
        ("triggers[1].contact", "NOT_A_REFERENCE"),
        ("steps[0].set.custom.seats", "WRONG_TYPE"),
        ("steps[1].until_true", "EXPRESSION_UNKNOWN_NAME"),
    ]


def test_defined_fields_have_their_kinds_and_others_are_taken_as_they_come() -> None:
    plan = Definition("plan", FieldKind.CHOICE, choices=("free", "pro"))
    schema = build(1, (), [("contact", plan), ("contact", Definition("seats", FieldKind.INTEGER))])
    text = """
title: Typed
steps:
  - {id: only, kind: filter, when: contact.custom.plan == 3 && contact.custom.other == 3}
  - {id: mark, kind: update, set: {custom.plan: gold, custom.seats: {cel: contact.custom.seats + 1}, custom.free: 1}}
"""
    assert _problems(text, Lookups(schema=schema)) == [
        ("steps[0].when", "EXPRESSION_TYPE"),
        ("steps[1].set.custom.plan", "UNKNOWN_VALUE"),
    ]
    assert _problems(text, Lookups()) == []
