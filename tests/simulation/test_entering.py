"""Who enters and who does not: kept out for good, refused at a re-entry, never started by a trigger."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from core.domain.enrollment import State
from core.domain.workflow.entry import Standing
from core.simulation.subjects import Subject, read_subjects
from tests.simulation.cases import DAY, NURTURE, START, people, person, step, tried

WEEKLY = """
timezone: UTC
reentry: once
triggers: [{schedule: {cron: "0 9 * * mon"}, audience: {list: club}}]
entry: {when: contact.employees > 5}
steps: [{id: hello, kind: message, subject: Hi, text: Hello}]
"""


def _member(number: int, **fields: Any) -> Subject:
    return dataclasses.replace(person(number, **fields), lists=frozenset({"club"}))


def test_who_never_entered_is_told_apart_from_who_may_not_enter_again() -> None:
    found = tried(WEEKLY, [_member(1), _member(2), _member(3, employees=3)], horizon=15 * DAY)
    assert [(one.reason, one.count, one.contacts) for one in found.exclusions] == [
        ("ENTRY_CONDITION", 1, ("p3@example.com",))
    ]
    assert [(one.reason, one.count, one.contacts) for one in found.refused_reentries] == [
        ("REENTRY_ONCE", 2, ("p1@example.com", "p2@example.com"))
    ]
    assert found.admitted + sum(one.count for one in found.exclusions) == found.contacts


def test_who_is_refused_first_and_enters_later_is_not_kept_out() -> None:
    events = [
        {"event": "trial.started", "at": "+1h", "fields": {"plan": "pro"}},
        {"set": {"employees": 9}, "contact": "#1", "at": "+2h"},
        {"event": "trial.started", "at": "+3h", "fields": {"plan": "pro"}},
    ]
    found = tried(NURTURE, [person(1, employees=1), person(2, employees=1)], events=events)
    assert [(one.reason, one.contacts) for one in found.exclusions] == [("ENTRY_CONDITION", ("p2@example.com",))]
    assert (found.admitted, found.refused_reentries) == (1, ())


NO_TRIGGER = (
    "No trigger fired for anybody within the horizon. Give contacts that fit, the events that start the workflow, or a "
    "longer horizon."
)


@pytest.mark.parametrize(
    ("flow", "subjects", "options"),
    [
        (WEEKLY, [_member(1), _member(2)], {"horizon": 3 * DAY}),  # Monday comes after it
        (WEEKLY, people(2), {"entering": "triggers"}),  # nobody is in the audience
        (NURTURE, people(2), {"entering": "triggers"}),  # nothing happens
        (NURTURE, people(2), {"events": [{"event": "trial.started", "fields": {"plan": "free"}}]}),
    ],
)  # fmt: skip
def test_nobody_enters_where_no_trigger_fires_and_the_report_says_so(
    flow: str, subjects: list[Subject], options: dict[str, Any]
) -> None:
    found = tried(flow, subjects, **options)
    assert [dataclasses.astuple(one) for one in found.exclusions] == [
        ("not_eligible", "NO_TRIGGER", NO_TRIGGER, 2, ("p1@example.com", "p2@example.com"))
    ]
    assert {(one.state, one.reason) for one in found.journeys} == {("excluded", "No trigger fired for this contact.")}
    assert found.warnings == ("Nobody entered; the exclusions say why.",)


def test_who_is_kept_out_although_a_trigger_fired_has_the_reason_of_the_rule() -> None:
    found = tried(WEEKLY, [_member(1, employees=1), person(2)], horizon=15 * DAY)
    assert [(one.reason, one.count) for one in found.exclusions] == [("ENTRY_CONDITION", 1)]
    assert [one.reason for one in found.journeys][1] == "No trigger fired for this contact."


@pytest.mark.parametrize(
    ("lead", "leads"), [(None, 1), ({"status": "closed"}, 1), ({"status": "working"}, 0), ({"score": 5}, 0)]
)
def test_an_event_of_the_type_lead_makes_a_lead_where_none_is_open(lead: dict[str, Any] | None, leads: int) -> None:
    flow = """
    triggers: [{record: lead, on: created}]
    reentry: after_exit
    steps:
      - {id: which, kind: branch, cases: [{name: new, when: 'lead.status == "new"'}], exits: {new: end, else: end}}
    """
    events = [{"event": "form.sent", "type": "lead", "at": at} for at in ("+1h", "+2h")]
    found = tried(flow, [person(1, lead=lead)], events=events, entering="triggers")
    assert found.enrollments == leads
    assert step(found, "which").exits == ({"new": 1} if leads else {})
    assert tried(flow, [person(1, lead=lead)], events=events).enrollments == 1  # all at the start where it cannot fire


def test_an_opportunity_that_a_script_moves_enrolls_and_is_what_the_workflow_is_about() -> None:
    flow = """
    triggers: [{record: opportunity, on: changed, fields: [stage_id], when: opportunity.status == "won"}]
    key: opportunity.id
    steps:
      - {id: paid, kind: wait, until_true: 'opportunity.custom.paid == true', timeout: 2d, exits: {timeout: end}}
      - {id: thank, kind: log, message: "{{ opportunity.name }}"}
    """
    subjects = read_subjects([{"email": f"p{n}@example.com", "opportunity.name": f"Sale {n}"} for n in range(3)])
    moves = {"set": {"opportunity.stage_id": "done", "opportunity.status": "won"}, "at": "+1d"}
    paid = {"set": {"opportunity.custom.paid": True}, "at": "+2d", "contact": "#1"}
    found = tried(flow, subjects, events=[{**moves, "contact": "#1"}, {**moves, "contact": "#2"}, paid])
    assert (found.entering, found.admitted) == ("triggers", 2)
    assert step(found, "paid").exits == {"next": 1, "timeout": 1}


PAUSE = "\nsteps: [{id: pause, kind: wait, for: 1d}]"
CHANGED = f"triggers: [{{record: contact, on: changed, fields: [city]}}]{PAUSE}"
SEGMENT = f"triggers: [{{segment: contact.city == 'Bonn'}}]{PAUSE}"
MOVES = {"set": {"city": "Bonn"}, "contact": "#2", "at": "+1d"}


@pytest.mark.parametrize(
    ("flow", "event", "how", "entered"),
    [
        (CHANGED, MOVES, "triggers", 1),
        (SEGMENT, MOVES, "triggers", 1),
        (SEGMENT, {"event": "form.sent", "fields": {"city": "Bonn"}, "at": "+1d", "contact": "#2"}, "triggers", 1),
        (SEGMENT.replace("contact.city == 'Bonn'", 'lead.status == "new"'),
         {"event": "form.sent", "type": "lead", "at": "+1d", "contact": "#2"}, "triggers", 1),
        (CHANGED, {**MOVES, "set": {"country": "DE"}}, "start", 3),
        (SEGMENT, {**MOVES, "set": {"lead.tier": "A"}}, "start", 3),
        (CHANGED.replace("on: changed, fields: [city]", "on: created"), MOVES, "start", 3),
        (NURTURE, {"event": "trial.started", "after": "1d", "since": "entry", "fields": {"plan": "pro"}}, "start", 3),
    ],
)  # fmt: skip
def test_what_the_script_changes_may_start_the_workflow(
    flow: str, event: dict[str, Any], how: str, entered: int
) -> None:
    found = tried(flow, [person(number) for number in (1, 2, 3)], events=[event])
    assert (found.entering, found.admitted) == (how, entered)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"event": "trial.startd"}, "Nothing in the workflow listens to trial.startd. Did you mean trial.started?"),
        ({"event": "trial.startd", "fields": {"city": "Bonn"}},
         "Nothing in the workflow listens to trial.startd. Did you mean trial.started?"),
        ({"event": "page.viewed"}, "Nothing in the workflow listens to page.viewed."),
        ({"event": "page.viewed", "fields": {"city": "Bonn"}}, ""),  # it sets a field
        ({"event": "plan.bought"}, ""),
        ({"event": "reply.received", "since": "hello"}, ""),
    ],
)  # fmt: skip
def test_events_that_nothing_listens_to_are_told(event: dict[str, Any], told: str) -> None:
    warnings = tried(NURTURE, 3, events=[event]).warnings
    assert [one for one in warnings if "listens" in one] == ([told] if told else [])


@pytest.mark.parametrize(
    ("reentry", "state", "reason"),
    [
        ("once", State.COMPLETED, "REENTRY_ONCE"),
        ("once", State.ACTIVE, "REENTRY_ONCE"),
        ("after_exit", State.COMPLETED, ""),
        ("after_exit", State.ACTIVE, "REENTRY_AFTER_EXIT"),
    ],
)
def test_who_has_been_in_the_workflow_enters_by_its_rules(reentry: str, state: State, reason: str) -> None:
    flow = f"reentry: {reentry}\nsteps: [{{id: hello, kind: wait, for: 1d}}]"
    there = dataclasses.replace(person(1), entered={"": Standing(state, START - DAY)})
    found = tried(flow, [there, person(2)])
    assert [one.reason for one in found.exclusions] == ([reason] if reason else [])
    assert found.admitted == (1 if reason else 2)
    assert any("is in the workflow already" in one for one in found.warnings) == (not state.over)


def test_a_pool_takes_nobody_who_has_been_in_the_workflow() -> None:
    pool = "{pool: {per_day: 1, at: '10:00'}, audience: {filter: 'employees > 1'}}"
    flow = f"triggers: [{pool}]\nreentry: after_exit\nsteps: [{{id: x, kind: exit}}]"
    there = dataclasses.replace(person(1), entered={"": Standing(State.COMPLETED, START - DAY)})
    found = tried(flow, [there, person(2)])
    assert [(one.reason, one.contacts) for one in found.exclusions] == [
        ("POOL_TAKES_NOBODY_TWICE", ("p1@example.com",))
    ]
    assert (found.admitted, found.enrollments) == (1, 1)
