"""Contacts, events and assumptions as authors write them; everything wrong is told at once, with the way out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.domain.errors import Invalid, Violation
from core.simulation.assumptions import Answers, read_assumptions
from core.simulation.made_up import made_up
from core.simulation.script import ScriptedEvent, read_script
from core.simulation.spans import Span
from core.simulation.subjects import read_subjects
from tests.simulation.cases import DAY, HOUR, NURTURE, compiled

OWN = "Put your own fields under custom, such as"
MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
A_DAY, TO_THREE = Span(DAY, DAY), Span(DAY, 3 * DAY)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"event": "a.b"}, ScriptedEvent("a.b")),
        ({"name": "a.b", "at": "+1d"}, ScriptedEvent("a.b", after=A_DAY)),
        ({"event": "a.b", "at": "2026-03-02T10:00:00+01:00"}, ScriptedEvent("a.b", at=MONDAY)),
        ({"event": "a.b", "after": ["1d", "3d"]}, ScriptedEvent("a.b", after=TO_THREE)),
        ({"event": "a.b", "after": "1d", "before": "3d"}, ScriptedEvent("a.b", after=TO_THREE)),
        ({"event": "a.b", "after": "1d", "share": 0.3}, ScriptedEvent("a.b", after=A_DAY, share=0.3, since="entry")),
        ({"event": "a.b", "share": "30%", "since": "start"}, ScriptedEvent("a.b", share=0.3)),
        ({"event": "a.b", "since": "hello", "contact": "#2"}, ScriptedEvent("a.b", since="hello", contact="#2")),
        (
            {"event": "a.b", "fields": {"x": 1, "city": "Rome", "email": "x@example.com"}},
            ScriptedEvent(
                "a.b", {"x": 1, "city": "Rome", "email": "x@example.com"}, changes={"contact": {"city": "Rome"}}
            ),
        ),
        (
            {"set": {"lead.tier": "A", "custom.plan": "pro"}, "at": "0"},
            ScriptedEvent("", changes={"lead": {"tier": "A"}, "contact": {"custom.plan": "pro"}}),
        ),
        (
            {"set": {"opportunity.stage_id": "done", "opportunity.status": "won"}},
            ScriptedEvent("", changes={"opportunity": {"stage_id": "done", "status": "won"}}),
        ),
    ],
)  # fmt: skip
def test_an_event_is_read(written: dict[str, Any], read: ScriptedEvent) -> None:
    assert read_script([written]) == (read,)


@pytest.mark.parametrize(
    ("written", "field", "reason"),
    [
        ({}, "events[0].event", "MISSING_KEY"),
        ({"event": "a", "share": 2}, "events[0].share", "NOT_A_SHARE"),
        ({"event": "a", "after": "soon"}, "events[0].after", "NOT_A_DURATION"),
        ({"event": "a", "after": ["3d", "1d"]}, "events[0].after", "WRONG_ORDER"),
        ({"event": "a", "at": "1d", "after": "1d"}, "events[0].after", "CONFLICT"),
        ({"event": "a", "contcat": "x"}, "events[0].contcat", "UNKNOWN_KEY"),
        ({"set": {"teir": "A"}}, "events[0].set.teir", "UNKNOWN_FIELD"),
        ({"set": {"opportunity.status": "sold"}}, "events[0].set.opportunity.status", "UNKNOWN_VALUE"),
        ({"event": "a", "fields": {"email": "nobody"}}, "events[0].fields.email", "INVALID_EMAIL"),
        ("a", "events[0]", "WRONG_TYPE"),
    ],
)
def test_what_is_wrong_with_an_event_is_told(written: Any, field: str, reason: str) -> None:
    with pytest.raises(Invalid) as told:
        read_script([written])
    assert [(one.field, one.reason) for one in told.value.violations] == [(field, reason)]


def test_a_contact_is_read_with_what_belongs_to_it() -> None:
    (subject,) = read_subjects(
        [
            {
                "email": "Ada@Example.com",
                "employees": "12",
                "custom.plan": "pro",
                "custom": {"seats": 3},
                "lead": {"tier": "A"},
                "lead.score": 70,
                "company": {"name": "Acme"},
                "lists": "club, beta",
                "variables": {"x": 1},
                "key": 7,
            }
        ]
    )
    assert subject.contact.fields == {
        "email": "Ada@example.com", "employees": 12, "custom": {"plan": "pro", "seats": 3},
    }  # fmt: skip
    assert subject.lead is not None
    assert subject.lead.fields == {"contact_id": subject.contact.id, "tier": "A", "score": 70}
    assert subject.company is not None
    assert subject.company.fields == {"name": "Acme"}
    assert (subject.lists, subject.variables, subject.key) == ({"club", "beta"}, {"x": 1}, "7")
    assert subject.label == "Ada@example.com"


def test_everything_wrong_with_contacts_is_told_at_once() -> None:
    with pytest.raises(Invalid) as told:
        read_subjects([{"email": "x"}, {"employes": 3}, {"leed": 1}, 5, {"id": "c", "lists": 4}, {"id": "c"}])
    assert [(one.field, one.reason, one.hint) for one in told.value.violations] == [
        ("contacts[0].email", "INVALID_EMAIL", "Send one like ada@example.com."),
        ("contacts[1].employes", "UNKNOWN_FIELD", f"Did you mean employees? {OWN} custom.employes."),
        ("contacts[2].leed", "UNKNOWN_FIELD", "Did you mean lead?"),
        ("contacts[3]", "WRONG_TYPE", "Write {email: …}."),
        ("contacts[4].lists", "WRONG_TYPE", "Write [customers]."),
        ("contacts[5]", "DUPLICATE_CONTACT", "Leave one of them out."),
    ]  # fmt: skip


def test_made_up_contacts_are_plausible_and_the_same_for_a_seed() -> None:
    crowd = made_up(500, 7)
    assert crowd == made_up(500, 7)
    assert crowd[:100] == made_up(100, 7)
    assert crowd != made_up(500, 8)
    assert len({one.contact.fields["email"] for one in crowd}) == 500
    assert {one.lead.fields["tier"] for one in crowd if one.lead} == {"A", "B", "C", "D"}
    assert 0 < sum(one.contact.fields.get("unsubscribed") is True for one in crowd) < 40
    rows = [{"id": one.contact.id, **one.contact.fields, "lead": one.lead.fields if one.lead else {}} for one in crowd]
    assert [one.contact for one in read_subjects(rows)] == [one.contact for one in crowd]


def test_assumptions_are_read() -> None:
    version = compiled(NURTURE)
    read = read_assumptions(
        {
            "approvals": {"approve": 0.5, "reject": "20%", "after": ["1h", "2d"], "decider": "Bea"},
            "deliveries": "failed",
            "messages": "none",
            "qualify": [{"share": 0.4, "decision": "qualified"}, {"decision": "nurture"}],
            "assign_owner": "none",
            "events": [{"event": "reply.received", "share": 0.2}],
            "arrive_over": "3d",
        },
        version,
    )
    assert read.approvals == Answers((("approve", 0.5), ("reject", 0.2)), Span(HOUR, 2 * DAY), {"decider": "Bea"})
    assert (read.deliveries.shares, read.messages.shares, read.tasks.shares) == (
        (("failed", 1.0),), (), (("answered", 1.0),),
    )  # fmt: skip
    assert [(one.share, one.outputs) for one in read.qualify] == [
        (0.4, {"decision": "qualified"}),
        (1.0, {"decision": "nurture"}),
    ]
    assert (read.owners, read.arrive_over, len(read.events)) == (False, timedelta(days=3), 1)


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "Did you mean Europe/Berlin?"),
        ("Mars/Base", "Write an IANA name, such as Europe/Berlin."),
        (7, "Write an IANA name, such as Europe/Berlin."),
    ],
)
def test_a_time_zone_that_there_is_not_is_refused_with_the_nearest_name(zone: Any, hint: str) -> None:
    with pytest.raises(Invalid) as told:
        read_assumptions({"organization_timezone": zone})
    assert told.value.violations == (
        Violation("assumptions.organization_timezone", "UNKNOWN_TIMEZONE", f"there is no time zone {zone}", hint),
    )
    assert read_assumptions({"organization_timezone": "Europe/Berlin"}).organization_timezone == "Europe/Berlin"


def test_everything_wrong_with_assumptions_is_told_at_once() -> None:
    with pytest.raises(Invalid) as told:
        read_assumptions(
            {
                "aprovals": "approve",
                "deliveries": "deliverd",
                "messages": {"sent": 0.8, "failed": 0.4},
                "tasks": 4,
                "qualify": {"tear": "A"},
                "steps": {"helo": "sent", "pause": "x", "hello": "send"},
                "events": [{}],
                "organization_timezone": "Mars/Base",
            },
            compiled(NURTURE),
        )
    assert [(one.field, one.reason) for one in told.value.violations] == [
        ("assumptions.aprovals", "UNKNOWN_KEY"),
        ("assumptions.deliveries", "UNKNOWN_VALUE"),
        ("assumptions.messages", "TOO_MUCH"),
        ("assumptions.tasks", "WRONG_TYPE"),
        ("assumptions.qualify.tear", "UNKNOWN_KEY"),
        ("assumptions.organization_timezone", "UNKNOWN_TIMEZONE"),
        ("assumptions.steps.helo", "UNKNOWN_STEP"),
        ("assumptions.steps.pause", "NOTHING_TO_ASSUME"),
        ("assumptions.steps.hello", "UNKNOWN_VALUE"),
        ("assumptions.events[0].event", "MISSING_KEY"),
    ]


@pytest.mark.parametrize(
    ("assumed", "field"),
    [
        ({"tasks": {"output": {"intent": "zzz"}}}, "assumptions.tasks.output.intent"),
        ({"steps": {"ask": {"output": {"intent": 1}}}}, "assumptions.steps.ask.output.intent"),
        ({"deliveries": {"answer": {"score": "high"}}}, "assumptions.deliveries.answer.score"),
        ({"tasks": {"output": {"intent": "zzz"}}, "steps": {"ask": {"output": {"intent": "buy"}}}}, ""),
        ({"tasks": {"output": {"intent": 1}}, "steps": {"ask": {"after": "1d"}}}, "assumptions.tasks.output.intent"),
        ({"tasks": "none", "deliveries": {"answer": {"score": 3}}}, ""),
    ],
)
def test_an_assumed_answer_must_fit_what_the_step_asks_for(assumed: dict[str, Any], field: str) -> None:
    version = compiled(
        """
        steps:
          - {id: ask, kind: agent_task, title: T, output_schema: {properties: {intent: {enum: [buy, sell]}}}}
          - {id: hook, kind: webhook, event_type: a.b, await: true,
             answer_schema: {properties: {score: {type: integer}}}}
        """
    )
    problems: tuple[Violation, ...] = ()
    try:
        read_assumptions(assumed, version)
    except Invalid as error:
        problems = error.violations
    assert [one.field for one in problems] == ([field] if field else [])
