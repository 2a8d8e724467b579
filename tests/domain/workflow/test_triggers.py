"""Triggers as authors write them: each kind is read, and everything wrong with one is said at once."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.domain.filters import Comparison
from core.domain.steps.shapes import Lookups, Scope
from core.domain.workflow import firing
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from core.domain.workflow.trigger_kinds import (
    Audience,
    EventTrigger,
    PoolTrigger,
    RecordTrigger,
    ScheduleTrigger,
    SegmentTrigger,
    SourceTrigger,
    Trigger,
)
from core.domain.workflow.triggers import MOST_TRIGGERS, read_triggers, trigger_schema
from core.domain.workflow.variables import trigger_environment
from core.domain.workflow.version import Version
from core.domain.workflow.zones import Zone

EVERY_KIND: list[dict[str, Any]] = [
    {"event": "trial.started", "when": 'event.fields.plan == "pro"', "key": "event.fields.order_id"},
    {"source": "web", "event": "form.submitted", "when": "lead.score > 10", "key": "event.id"},
    {"record": "lead", "on": "changed", "fields": ["tier", "custom.plan"], "when": "before.tier != lead.tier"},
    {"segment": '"vip" in contact.lists && company.employees > 10'},
    {"schedule": {"cron": "0 9 * * mon", "timezone": "Europe/Berlin"}, "audience": {"list": "news"}},
    {
        "pool": {"per_day": 50, "at": "08:30", "days": ["mon", "thursday"], "timezone": "Europe/Paris"},
        "audience": {"filter": "country = DE"},
    },
]


def read(raw: Any, sources: frozenset[str] | None = None) -> tuple[tuple[Trigger, ...], list[tuple[str, str]]]:
    scope = Scope(trigger_environment(), Lookups(source_ids=sources))
    found = read_triggers(raw, scope)
    return found, [(problem.field, problem.reason) for problem in scope.problems]


def version_of(text: str) -> Version:
    steps = "" if "steps:" in text else "\nsteps: [{id: pause, kind: wait, for: 2d}]"
    compiled = compile_document(parse(text + steps), workflow_id="w", number=1)
    assert compiled.version is not None, compiled.problems
    return compiled.version


def test_every_kind_is_read() -> None:
    found, problems = read(EVERY_KIND)
    assert problems == []
    event, source, record, segment, schedule, pool = found
    assert isinstance(event, EventTrigger)
    assert (event.event, event.when and event.when.text) == ("trial.started", 'event.fields.plan == "pro"')
    assert event.key is not None
    assert event.key.text == "event.fields.order_id"
    assert isinstance(source, SourceTrigger)
    assert (source.source, source.event) == ("web", "form.submitted")
    assert isinstance(record, RecordTrigger)
    assert (record.record, record.on, record.fields) == ("lead", "changed", ("tier", "custom.plan"))
    assert isinstance(segment, SegmentTrigger)
    assert schedule == ScheduleTrigger("0 9 * * mon", Audience(list="news"), "Europe/Berlin")
    where = Comparison("country", "=", "DE", "string")
    days = frozenset({0, 3})
    assert pool == PoolTrigger(50, time(8, 30), Audience("country = DE", where), "Europe/Paris", days)


def test_every_kind_fits_the_schema_and_the_reader_agrees() -> None:
    validator = Draft202012Validator(trigger_schema())
    for raw in EVERY_KIND:
        assert list(validator.iter_errors(raw)) == []
    for raw in ({}, {"event": ""}, {"pool": {"at": "09:00"}, "audience": {}}, {"schedule": {"cron": "x"}}):
        assert list(validator.iter_errors(raw)) != []
        assert read([raw])[1] != []


@pytest.mark.parametrize(
    ("raw", "problems"),
    [
        ("x", [("triggers", "WRONG_TYPE")]),
        (["x"], [("triggers[0]", "WRONG_TYPE")]),
        ([{}], [("triggers[0].event", "MISSING_KEY")]),
        ([{"evnt": "x"}], [("triggers[0].evnt", "UNKNOWN_KEY"), ("triggers[0].event", "MISSING_KEY")]),
        ([{"event": "", "wen": "true"}], [("triggers[0].wen", "UNKNOWN_KEY"), ("triggers[0].event", "EMPTY")]),
        ([{"event": "$record.contact"}], [("triggers[0].event", "RESERVED_NAME")]),
        ([{"event": 3}], [("triggers[0].event", "WRONG_TYPE")]),
        ([{"event": "a", "when": "contact.emial"}], [("triggers[0].when", "EXPRESSION_UNKNOWN_NAME")]),
        ([{"event": "a", "when": "before.tier == 1"}], [("triggers[0].when", "EXPRESSION_UNKNOWN_NAME")]),
        ([{"source": "wbe"}], [("triggers[0].source", "UNKNOWN_SOURCE")]),
        ([{"record": "deal"}], [("triggers[0].record", "UNKNOWN_VALUE")]),
        ([{"record": "task"}], [("triggers[0].record", "UNKNOWN_VALUE")]),
        ([{"record": "lead", "contact": "contact_id"}], [("triggers[0].contact", "CONFLICT")]),
        ([{"record": "opportunity", "contact": "lead_id"}], [("triggers[0].contact", "NOT_A_REFERENCE")]),
        ([{"record": "lead", "on": "deleted"}], [("triggers[0].on", "UNKNOWN_VALUE")]),
        ([{"record": "lead", "fields": ["teir", 3]}], [
            ("triggers[0].fields[0]", "UNKNOWN_FIELD"), ("triggers[0].fields[1]", "WRONG_TYPE"),
        ]),
        ([{"record": "lead", "fields": []}], [("triggers[0].fields", "WRONG_TYPE")]),
        ([{"record": "lead", "on": "created", "fields": ["tier"]}], [("triggers[0].fields", "CONFLICT")]),
        ([{"segment": "lead.tier"}], [("triggers[0].segment", "EXPRESSION_TYPE")]),
        ([{"segment": "event.fields.x == 1"}], [("triggers[0].segment", "EXPRESSION_UNKNOWN_NAME")]),
        ([{"schedule": {"cron": "0 9 * *"}, "audience": {}}], [("triggers[0].schedule.cron", "NOT_A_SCHEDULE")]),
        ([{"schedule": {"timezone": "Europe/Berln"}, "audience": {}}], [
            ("triggers[0].schedule.cron", "MISSING_KEY"), ("triggers[0].schedule.timezone", "UNKNOWN_TIMEZONE"),
        ]),
        ([{"schedule": {"cron": "0 9 * * *"}}], [("triggers[0].audience", "MISSING_KEY")]),
        ([{"pool": {"per_day": 0, "at": "25:00", "days": ["mo"]}, "audience": {"fitler": "x"}}], [
            ("triggers[0].pool.per_day", "OUT_OF_RANGE"),
            ("triggers[0].pool.at", "NOT_A_TIME"),
            ("triggers[0].pool.days", "UNKNOWN_WEEKDAY"),
            ("triggers[0].audience.fitler", "UNKNOWN_KEY"),
        ]),
        ([{"pool": {"per_day": 5}, "audience": {"filter": "contry = DE"}}], [
            ("triggers[0].audience.filter", "UNKNOWN_FILTER_FIELD"),
        ]),
        ([{"event": "a"}] * (MOST_TRIGGERS + 1), [("triggers", "TOO_MANY")]),
    ],
)  # fmt: skip
def test_everything_wrong_is_said(raw: Any, problems: list[tuple[str, str]]) -> None:
    found = read(raw, frozenset({"web"}))[1]
    assert [(path.removesuffix("[0]") if "days" in path else path, reason) for path, reason in found] == problems


KEYS = [
    "event", "source", "record", "segment", "schedule", "pool", "audience", "when", "key", "on", "fields", "cron",
    "contact",    "per_day", "at", "days", "timezone", "filter", "list",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab$.", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3))
def test_no_document_breaks_the_reader(raw: list[Any]) -> None:
    found, problems = read(raw)
    assert problems or len(found) == len(raw)


def test_a_version_says_what_it_listens_to() -> None:
    version = version_of(
        """
triggers:
  - {event: trial.started}
  - {source: Web form}
  - {record: company}
  - {segment: 'lead.tier == "A" && company.employees > 10'}
  - {schedule: {cron: '@daily'}, audience: {}}
goals: [{name: paid, event: order.paid}]
exit_on: [{name: gone, when: contact.unsubscribed == true}]
"""
    )
    assert firing.trigger_events(version) == ("trial.started", "$record.company", "$record.contact", "$record.lead")
    assert firing.trigger_sources(version) == ("Web form",)
    assert firing.moving_events(version) == ("order.paid", "$record.contact")


def test_a_wait_for_a_date_of_a_record_is_looked_at_when_that_record_changes() -> None:
    version = version_of(
        """
steps:
  - {id: a, kind: wait, for: 3d, at: "09:00"}
  - {id: b, kind: wait, until: "2027-01-01"}
  - {id: c, kind: wait, until: "{{ event.fields.day }}", exits: {missing: end}}
  - {id: d, kind: wait, until: {cel: "moment(company.custom.day)"}, exits: {missing: end}}
  - {id: e, kind: wait, until: "{{ lead.custom.day }}", exits: {missing: end}}
  - {id: f, kind: wait, until_true: opportunity.status == "won"}
"""
    )
    records = ("contact", "company", "lead", "opportunity")
    assert firing.moving_events(version) == tuple(f"$record.{one}" for one in records)


def test_schedules_and_pools_come_round_on_their_own_clocks() -> None:
    berlin = Zone("Europe/Berlin")
    monday = datetime(2026, 3, 2, 8, tzinfo=UTC)  # 09:00 there
    (schedule,), _ = read([{"schedule": {"cron": "0 9 * * mon"}, "audience": {}}])
    (pool,), _ = read([{"pool": {"per_day": 5, "at": "09:00", "days": ["mon", "thu"]}, "audience": {}}])
    assert isinstance(schedule, ScheduleTrigger)
    assert isinstance(pool, PoolTrigger)
    assert schedule.next_after(monday, berlin) == datetime(2026, 3, 9, 8, tzinfo=UTC)
    assert pool.next_after(monday, berlin) == datetime(2026, 3, 5, 8, tzinfo=UTC)
    friday = datetime(2026, 3, 27, 12, tzinfo=UTC)  # the clocks go forward on Sunday
    assert schedule.next_after(friday, berlin) == datetime(2026, 3, 30, 7, tzinfo=UTC)
