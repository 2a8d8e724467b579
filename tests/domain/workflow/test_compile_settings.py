"""What a document says beside its steps is checked key by key; every mistake names its place and the way out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from core.domain.workflow.version import Breaker, Version

STEPS = "\nsteps: [{id: a, kind: exit}]"


def _problems(text: str) -> list[tuple[str, str]]:
    return [(one.field, one.reason) for one in compile_document(parse(text + STEPS)).problems]


def _hints(text: str) -> dict[str, str]:
    return {one.field: one.hint for one in compile_document(parse(text + STEPS)).problems}


def _version(text: str) -> Version:
    compiled = compile_document(parse(text + STEPS))
    assert compiled.version is not None, compiled.problems
    return compiled.version


TOO_LONG = "x" * 2_001


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        # texts
        ("title: 3", [("title", "WRONG_TYPE")]),
        (f"title: {'x' * 201}", [("title", "TOO_LONG")]),
        (f"description: {TOO_LONG}", [("description", "TOO_LONG")]),
        ("timezone: Mars/Olympus", [("timezone", "UNKNOWN_TIMEZONE")]),
        ("timezone: 0", [("timezone", "UNKNOWN_TIMEZONE")]),
        ("gaols: []", [("gaols", "UNKNOWN_KEY")]),
        # re-entry
        ("reentry: twice", [("reentry", "UNKNOWN_VALUE")]),
        ("reentry: []", [("reentry", "UNKNOWN_VALUE")]),
        ("reentry: ''", [("reentry", "UNKNOWN_VALUE")]),
        ("reentry: after_interval", [("reentry_interval", "MISSING_KEY")]),
        ("reentry: after_interval\nreentry_interval: soon", [("reentry_interval", "NOT_A_DURATION")]),
        ("reentry: after_interval\nreentry_interval: 3", [("reentry_interval", "WRONG_TYPE")]),
        ("reentry_interval: 3d", [("reentry_interval", "CONFLICT")]),
        ("reentry: once\nreentry_interval: 3d", [("reentry_interval", "CONFLICT")]),
        ("reentry: concurrent_by_key\ntriggers: [{event: a}]", [("key", "MISSING_KEY")]),
        (
            "reentry: concurrent_by_key\ntriggers: [{event: a, key: event.id}, {segment: 'true'}]",
            [("key", "MISSING_KEY")],
        ),
        # key
        ("key: 3", [("key", "WRONG_TYPE")]),
        ("key: event.idd", [("key", "EXPRESSION_UNKNOWN_NAME")]),
        ("key: steps.a.x", [("key", "EXPRESSION_UNKNOWN_NAME")]),
        # declared names
        ("variables: [plan]", [("variables", "WRONG_TYPE")]),
        ("variables: {plan: text}", [("variables.plan", "UNKNOWN_VALUE")]),
        ("variables: {plan: [string]}", [("variables.plan", "UNKNOWN_VALUE")]),
        ("variables: {My Plan: string}", [("variables.My Plan", "BAD_NAME")]),
        ("event_fields: {a: strin, B: string}", [("event_fields.a", "UNKNOWN_VALUE"), ("event_fields.B", "BAD_NAME")]),
        ("event_fields: {amount: number}\nkey: event.fields.amuont", [("key", "EXPRESSION_UNKNOWN_NAME")]),
        ("variables: {plan: string}\nentry: {when: vars.plan > 3}", [("entry.when", "EXPRESSION_TYPE")]),
        # entry
        ("entry: everybody", [("entry", "WRONG_TYPE")]),
        ("entry: {wen: 'true'}", [("entry.wen", "UNKNOWN_KEY")]),
        ("entry: {when: contact.email}", [("entry.when", "EXPRESSION_TYPE")]),
        ("entry: {suppress: 3}", [("entry.suppress", "WRONG_TYPE")]),
        ("entry: {suppress_lists: customers}", [("entry.suppress_lists", "WRONG_TYPE")]),
        ("entry: {suppress_lists: ''}", [("entry.suppress_lists", "WRONG_TYPE")]),
        (
            "entry: {suppress_lists: [customers, Our Customers, 3]}",
            [("entry.suppress_lists[1]", "BAD_NAME"), ("entry.suppress_lists[2]", "BAD_NAME")],
        ),
        # goals and exit rules
        ("goals: {name: won}", [("goals", "WRONG_TYPE")]),
        ("exit_on: [replied]", [("exit_on[0]", "WRONG_TYPE")]),
        ("exit_on: [{name: replied}]", [("exit_on[0]", "MISSING_KEY")]),
        ("exit_on: [{event: a, events: [b]}]", [("exit_on[0].events", "CONFLICT")]),
        ("exit_on: [{events: []}]", [("exit_on[0].events", "WRONG_COUNT")]),
        (
            "exit_on: [{events: [a, '', 3]}]",
            [("exit_on[0].events[1]", "EMPTY"), ("exit_on[0].events[2]", "WRONG_TYPE")],
        ),
        ("exit_on: [{evnt: a, when: 'true'}]", [("exit_on[0].evnt", "UNKNOWN_KEY")]),
        ("goals: [{event: a, when: contact.emial == 'x'}]", [("goals[0].when", "EXPRESSION_UNKNOWN_NAME")]),
        ('exit_on: [{when: now > timestamp("2027-01-10T00:00:00Z")}]', [("exit_on[0].when", "TIME_ALONE")]),
        ("goals: [{when: now > moment(event.occurred_at) && vars.x == 1}]", [("goals[0].when", "TIME_ALONE")]),
        ("exit_on: [{when: now > moment(contact.custom.ends)}, {event: a, when: now > event.occurred_at}]", []),
        ("goals: [{event: a, name: 3}]", [("goals[0].name", "WRONG_TYPE")]),
        ("goals: [{event: a, name: []}]", [("goals[0].name", "WRONG_TYPE")]),
        ("goals: [{event: a}, {event: a, when: 'true'}]", [("goals[1].name", "DUPLICATE_NAME")]),
        (f"goals: [{', '.join(f'{{event: e{index}}}' for index in range(21))}]", [("goals", "WRONG_TYPE")]),
        # calendars
        ("calendars: [office]", [("calendars", "WRONG_TYPE")]),
        ("calendars: {office: always}", [("calendars.office", "WRONG_TYPE")]),
        ("calendars: {office: {hour: 09:00-17:00}}", [("calendars.office.hour", "UNKNOWN_KEY")]),
        ("calendars: {office: {days: [munday]}}", [("calendars.office.days[0]", "UNKNOWN_WEEKDAY")]),
        ("calendars: {' ': {days: [mon]}}", [("calendars", "BAD_NAME")]),
        (f"calendars: {{{', '.join(f'c{index}: {{}}' for index in range(21))}}}", [("calendars", "TOO_MANY")]),
        # quiet hours and caps
        ("quiet_hours: at night", [("quiet_hours", "NOT_AN_OPENING")]),
        ("quiet_hours: {from: 21:00}", [("quiet_hours.to", "MISSING_KEY")]),
        ("quiet_hours: {form: 21:00, from: 21:00, to: 08:00}", [("quiet_hours.form", "UNKNOWN_KEY")]),
        ("frequency_caps: {per: day}", [("frequency_caps.at_most", "MISSING_KEY")]),
        ("frequency_caps: [{at_most: 0, per: day}]", [("frequency_caps[0].at_most", "OUT_OF_RANGE")]),
        ("frequency_caps: [{at_most: 1, per: month}]", [("frequency_caps[0].per", "NOT_A_DURATION")]),
        ("frequency_caps: {at_most: 1, per: day, channel: {}}", [("frequency_caps.channel", "BAD_NAME")]),
        ("frequency_caps: {at_most: 1, per: day, otherwise: wait}", [("frequency_caps.otherwise", "UNKNOWN_VALUE")]),
        # circuit breaker
        ("circuit_breaker: true", [("circuit_breaker", "WRONG_TYPE")]),
        ("circuit_breaker: never", [("circuit_breaker", "WRONG_TYPE")]),
        ("circuit_breaker: {percent: 0}", [("circuit_breaker.percent", "OUT_OF_RANGE")]),
        ("circuit_breaker: {percent: true}", [("circuit_breaker.percent", "OUT_OF_RANGE")]),
        ("circuit_breaker: {of_last: 9}", [("circuit_breaker.of_last", "OUT_OF_RANGE")]),
        ("circuit_breaker: {of_last: 20.5}", [("circuit_breaker.of_last", "OUT_OF_RANGE")]),
        ("circuit_breaker: {percents: 5}", [("circuit_breaker.percents", "UNKNOWN_KEY")]),
    ],
)
def test_a_mistake_in_a_setting_has_its_path_and_reason(text: str, problems: list[tuple[str, str]]) -> None:
    assert _problems(text) == problems


def test_mistakes_in_all_settings_and_steps_are_said_at_once_in_document_order() -> None:
    text = """
frequency_caps: {at_most: none, per: day}
quiet_hours: {from: 21:00}
calendars: {office: {hours: 9-5}}
exit_on: [{name: gone, when: contact.gone}]
goals: [{nmae: won, event: deal.won}]
entry: {when: lead.teir == "A", suppress_lists: [A B]}
key: event.nmae
event_fields: {amount: money}
reentry_interval: 3d
triggers: [{evnt: x}, {event: y, when: '1'}]
circuit_breaker: {percent: 200, of_last: 5}
steps:
  - {id: a, kind: wait, for: 1d, within: offce, retry: {atempts: 3}, on_error: nowhere}
  - {id: b, kind: log, message: '{{ contact.nme }}'}
"""
    problems = [(one.field, one.reason) for one in compile_document(parse(text)).problems]
    assert problems == [
        ("frequency_caps.at_most", "OUT_OF_RANGE"),
        ("quiet_hours.to", "MISSING_KEY"),
        ("calendars.office.hours", "NOT_AN_OPENING"),
        ("exit_on[0].when", "EXPRESSION_UNKNOWN_NAME"),
        ("goals[0].nmae", "UNKNOWN_KEY"),
        ("entry.when", "EXPRESSION_UNKNOWN_NAME"),
        ("entry.suppress_lists[0]", "BAD_NAME"),
        ("key", "EXPRESSION_UNKNOWN_NAME"),
        ("event_fields.amount", "UNKNOWN_VALUE"),
        ("reentry_interval", "CONFLICT"),
        ("triggers[0].evnt", "UNKNOWN_KEY"),
        ("triggers[0].event", "MISSING_KEY"),
        ("triggers[1].when", "EXPRESSION_TYPE"),
        ("circuit_breaker.percent", "OUT_OF_RANGE"),
        ("circuit_breaker.of_last", "OUT_OF_RANGE"),
        ("steps[0].retry.atempts", "UNKNOWN_KEY"),
        ("steps[0].retry.attempts", "OUT_OF_RANGE"),
        ("steps[0].within", "UNKNOWN_CALENDAR"),
        ("steps[0].on_error", "UNKNOWN_TARGET"),
        ("steps[1].message", "TEMPLATE_UNKNOWN_NAME"),
    ]


@pytest.mark.parametrize(
    ("text", "field", "hint"),
    [
        ("gaols: []", "gaols", "Did you mean goals?"),
        ("reentry: after_exits", "reentry", "Did you mean after_exit?"),
        ("timezone: Europe/Berln", "timezone", "Did you mean Europe/Berlin?"),
        ("variables: {n: integr}", "variables.n", "Did you mean integer?"),
        ("entry: {supress: 'true'}", "entry.supress", "Did you mean suppress?"),
        ("exit_on: [{evnt: a, when: 'true'}]", "exit_on[0].evnt", "Did you mean event?"),
        ("circuit_breaker: {percents: 5}", "circuit_breaker.percents", "Did you mean percent?"),
        ("entry: {when: contact.emial == 'x'}", "entry.when", "Did you mean contact.email?"),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(text: str, field: str, hint: str) -> None:
    assert hint in _hints(text)[field]


@pytest.mark.parametrize(
    ("text", "what", "value"),
    [
        ("reentry: after_interval\nreentry_interval: 30d", "reentry_interval", timedelta(days=30)),
        ("circuit_breaker: off", "breaker", None),
        ("circuit_breaker: {}", "breaker", Breaker(10, 50)),
        ("circuit_breaker: {percent: 2.5, of_last: 10}", "breaker", Breaker(2.5, 10)),
        ("variables: {plan: string}", "variables", {"plan": "string"}),
        ("entry: {when: '\"vip\" in contact.lists'}", "needs", frozenset({"lists"})),
        ("entry: {suppress_lists: [a]}", "needs", frozenset({"lists"})),
        ("goals: [{event: a, when: company.employees > 5}]", "needs", frozenset({"company"})),
        ("frequency_caps: {at_most: 1, per: day}", "needs", frozenset({"sent"})),
    ],
)
def test_a_setting_is_in_the_version(text: str, what: str, value: Any) -> None:
    assert getattr(_version(text), what) == value


def test_a_rule_without_a_name_is_called_by_its_event_and_goals_come_first() -> None:
    version = _version("exit_on: [{event: gone}, {name: x, when: 'true'}]\ngoals: [{events: [a, b]}]")
    assert [(rule.kind, rule.name, rule.events) for rule in version.rules] == [
        ("goal", "a", ("a", "b")),
        ("exit", "gone", ("gone",)),
        ("exit", "x", ()),
    ]


def test_triggers_with_keys_of_their_own_need_no_other() -> None:
    assert _problems("reentry: concurrent_by_key\ntriggers: [{event: a, key: event.id}]") == []


def test_empty_keys_count_as_absent() -> None:
    empty = "title:\nreentry:\nentry:\ngoals:\ncalendars:\nquiet_hours:\ncircuit_breaker:\ntriggers:\nkey:\nvariables:"
    assert _problems(empty) == []
