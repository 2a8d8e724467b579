"""What a simulation finds: who goes where and when, who stays out, what would be sent."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from core.simulation.assumptions import Assumptions
from core.simulation.people import MOST_MOVES
from core.simulation.result import MessagesOnDay, Variant, as_data
from core.simulation.simulate import Simulator
from tests.simulation.cases import DAY, HOUR, NURTURE, START, compiled, people, person, step, tried, way

ASK = """
steps:
  - {id: ask, kind: approval, title: May I?, timeout: 2d, exits: {approved: yes, rejected: no, timeout: no}}
  - {id: yes, kind: exit, reason: allowed}
  - {id: no, kind: exit, reason: refused}
"""
LOOP = """
steps:
  - {id: pause, kind: wait, for: 1s, next: pause}
"""


def test_every_contact_goes_its_way_at_its_time() -> None:
    found = tried(NURTURE, events=[{"event": "reply.received", "contact": "p6@example.com", "at": "+3d"}], subjects=6)
    hot, cold = found.timelines[5], found.timelines[0]
    assert [(one.step_id, one.outcome, one.exit, one.at - START) for one in hot.entries] == [
        ("pause", "entered", "", timedelta()),
        ("pause", "waiting", "", timedelta()),
        ("pause", "ok", "next", DAY),
        ("which", "ok", "hot", DAY),
        ("call", "ok", "next", DAY),
        ("hello", "ok", "next", DAY),
        ("reply", "waiting", "", DAY),
        ("reply", "ok", "matched", 3 * DAY),
        ("mark", "ok", "next", 3 * DAY),
        ("tell", "ok", "next", 3 * DAY),
        ("tell", "ended", "", 3 * DAY),
    ]
    assert [(one.step_id, one.exit) for one in cold.entries if one.exit] == [
        ("pause", "next"),
        ("which", "else"),
        ("hello", "next"),
        ("reply", "timeout"),
        ("mark", "next"),
        ("tell", "next"),
    ]
    assert (found.states, found.admitted, found.warnings) == ({"completed": 6}, 6, ())


def test_messages_that_would_go_out_with_gaps_are_told() -> None:
    found = tried(NURTURE.replace(" | default: 'you'", ""), subjects=6)
    gaps = "6 messages would go out at hello with gaps, most often: contact.first_name is not known."
    assert f"{gaps} Write a default, or when_empty." in found.warnings


def test_the_funnel_accounts_for_everybody() -> None:
    found = tried(NURTURE, events=[{"event": "plan.bought", "share": 0.5, "after": "3d"}], subjects=20, horizon=5 * DAY)
    for one in found.funnel:
        assert one.entered == sum(one.exits.values()) + one.waiting + one.ended + one.failed, one
    reply = step(found, "reply")
    assert (reply.entered, reply.ended + reply.waiting, reply.ended) == (20, 20, found.goals["bought"])
    assert found.states == {"active": reply.waiting, "completed": reply.ended}


def test_messages_are_counted_by_day_and_channel() -> None:
    found = tried(NURTURE, subjects=4)
    assert found.messages == (MessagesOnDay((START + DAY).date(), "email", 4),)
    assert found.webhooks == {"nurture.done": 4}


def test_whoever_stays_out_is_listed_with_the_reason() -> None:
    found = tried(NURTURE, [person(1), person(2, employees=3), person(3, unsubscribed=True)])
    assert [(one.outcome, one.reason, one.count, one.contacts) for one in found.exclusions] == [
        ("not_eligible", "ENTRY_CONDITION", 1, ("p2@example.com",)),
        ("suppressed", "UNSUBSCRIBED", 1, ("p3@example.com",)),
    ]
    assert [one.state for one in found.journeys] == ["completed", "excluded", "excluded"]
    assert "contact.employees > 5 does not hold" in found.journeys[1].reason


def test_an_event_that_a_trigger_listens_to_enrolls_instead_of_the_start() -> None:
    events = [
        {"event": "trial.started", "contact": "#1", "at": "+1h", "fields": {"plan": "pro"}},
        {"event": "trial.started", "contact": "#2", "at": "+2h", "fields": {"plan": "free"}},
    ]
    found = tried(NURTURE, events=events)
    assert found.admitted == 1
    assert found.timelines[0].entries[0].at == START + HOUR
    assert found.timelines[0].entries[0].reason.startswith("Enrolled by event:evt_")
    assert tried(NURTURE, events=events, entering="start").admitted == 3


def test_a_pool_takes_so_many_a_day_and_says_when_it_is_empty() -> None:
    pool = """
    timezone: UTC
    triggers: [{pool: {per_day: 2, at: "10:00"}, audience: {filter: 'employees > 5 AND NOT country = "FR"'}}]
    steps: [{id: hello, kind: message, subject: Hi, text: Hello}]
    """
    subjects = [*people(5), person(6, country="FR"), person(7, employees=1)]
    found = tried(pool, subjects)
    first = START.date()
    assert found.messages == tuple(
        MessagesOnDay(first + timedelta(days=n), "email", c) for n, c in enumerate((2, 2, 1))
    )
    assert "The pool has had nobody left since 2026-03-05 10:00 UTC." in found.warnings


def test_a_schedule_lets_its_audience_enter_whenever_it_comes_round() -> None:
    weekly = """
    timezone: UTC
    reentry: after_exit
    triggers: [{schedule: {cron: "0 9 * * mon"}, audience: {list: club}}]
    steps: [{id: hello, kind: message, subject: Hi, text: Hello}]
    """
    member = dataclasses.replace(person(1), lists=frozenset({"club"}))
    found = tried(weekly, [member, person(2)], horizon=15 * DAY)
    assert [one.day.isoformat() for one in found.messages] == ["2026-03-09", "2026-03-16"]
    assert [one.enrollments for one in found.journeys] == [2, 0]


def test_a_goal_about_a_record_is_reached_when_the_record_changes() -> None:
    flow = """
    goals: [{name: customer, when: contact.lifecycle_stage == "customer"}]
    steps: [{id: pause, kind: wait, for: 20d}]
    """
    found = tried(flow, events=[{"set": {"lifecycle_stage": "customer"}, "contact": "#2", "at": "+4d"}])
    assert found.goals == {"customer": 1}
    assert found.timelines[1].entries[-1].at == START + 4 * DAY


def test_what_an_event_says_of_its_contact_is_known_from_then_on() -> None:
    flow = """
    steps:
      - {id: form, kind: wait_for_event, event: form.sent, timeout: 9d, exits: {matched: which, timeout: end}}
      - {id: which, kind: branch, cases: [{name: vp, when: 'contact.job_title == "VP"'}], exits: {vp: end, else: end}}
    """
    found = tried(flow, events=[{"event": "form.sent", "after": "1d", "fields": {"job_title": "VP", "x": 1}}])
    assert step(found, "which").exits == {"vp": 3}


def test_an_event_may_wait_for_entry_or_for_a_step() -> None:
    after_step = [{"event": "reply.received", "since": "reply", "after": "2h"}]
    after_entry = [{"event": "reply.received", "since": "entry", "after": "2h"}]  # before anybody listens
    assert tried(NURTURE, events=after_step).timelines[0].entries[-1].at == START + DAY + 2 * HOUR
    assert step(tried(NURTURE, events=after_entry), "reply").exits == {"timeout": 3}


def test_an_event_finds_whoever_waits_for_what_its_fields_say() -> None:
    flow = """
    steps:
      - id: paid
        kind: wait_for_event
        event: invoice.paid
        match: {order: "{{ contact.custom.order }}"}
        timeout: 9d
        exits: {matched: end, timeout: end}
    """
    subjects = [person(n, custom={"order": n}) for n in (1, 2)]
    found = tried(
        flow, subjects, events=[{"event": "invoice.paid", "contact": "#1", "at": "+1d", "fields": {"order": 2}}]
    )
    assert [way(found, n) for n in (0, 1)] == [[("paid", "timeout")], [("paid", "matched")]]


def test_what_a_step_emits_comes_back_as_an_event() -> None:
    flow = """
    goals: [{name: done, event: went.well}]
    steps:
      - {id: say, kind: emit_event, event: went.well}
      - {id: pause, kind: wait, for: 1d}
    """
    found = tried(flow)
    assert (found.emitted, found.goals, found.states) == ({"went.well": 3}, {"done": 3}, {"completed": 3})


@pytest.mark.parametrize(
    ("assume", "ends"),
    [
        ({}, {"allowed": 4}),
        ({"approvals": "reject"}, {"refused": 4}),
        ({"approvals": "none"}, {"refused": 4}),
        ({"approvals": {"approve": 1, "after": "3d"}}, {"refused": 4}),
        ({"steps": {"ask": "reject"}}, {"refused": 4}),
    ],
)
def test_an_approval_is_decided_as_assumed(assume: Any, ends: dict[str, int]) -> None:
    assert tried(ASK, 4, assume=assume).ends == ends


def test_what_is_left_to_chance_comes_out_the_same_for_the_same_seed_and_in_any_order() -> None:
    assume = {"approvals": {"approve": 0.5, "reject": 0.3, "after": ["1h", "3d"]}}
    subjects = people(60)
    first = tried(ASK, subjects, assume=assume, seed=1)
    assert tried(ASK, subjects, assume=assume, seed=1) == first
    turned = tried(ASK, subjects[::-1], assume=assume, seed=1)
    assert {one.contact: one.turns for one in turned.journeys} == {one.contact: one.turns for one in first.journeys}
    assert tried(ASK, subjects, assume=assume, seed=2).journeys != first.journeys
    assert 8 < first.ends["allowed"] < 40


def test_ways_of_a_split_are_compared_by_the_goals_they_lead_to() -> None:
    flow = """
    goals: [{name: bought, event: plan.bought}]
    steps:
      - {id: ab, kind: split, ways: {a: 50, b: 50}, exits: {a: short, b: long}}
      - {id: short, kind: wait, for: 1d, next: end}
      - {id: long, kind: wait, for: 5d, next: end}
    """
    found = tried(flow, 100, events=[{"event": "plan.bought", "after": "2d"}])
    (a, b) = found.variants
    assert a.entered + b.entered == 100
    assert (a.converted, b.converted) == (0, b.entered)
    assert isinstance(a, Variant)


def test_a_split_that_draws_by_contact_counts_contacts() -> None:
    flow = """
    reentry: after_exit
    goals: [{name: bought, event: plan.bought}]
    triggers: [{event: trial.started}]
    steps:
      - {id: ab, kind: split, by: contact, ways: {a: 50, b: 50}, exits: {a: pause, b: pause}}
      - {id: pause, kind: wait, for: 1d}
    """
    events = [
        {"event": name, "after": after}
        for start, bought in (("1h", "2h"), ("10h", "11h"), ("20h", "21h"))
        for name, after in (("trial.started", start), ("plan.bought", bought))
    ]
    found = tried(flow, 20, events=events)
    assert (found.enrollments, found.goals) == (60, {"bought": 60})
    assert sum(one.entered for one in found.variants) == sum(one.converted for one in found.variants) == 20


def test_questions_are_answered_in_the_moment_they_are_asked() -> None:
    flow = """
    steps:
      - {id: rate, kind: score, exits: {qualified: give}}
      - {id: give, kind: assign_owner, record: lead, among: [mem_a, mem_b]}
      - {id: over, kind: enroll, workflow: other}
    """
    found = tried(flow, 4, assume={"qualify": {"decision": "qualified", "score": 80, "tier": "A"}})
    assert found.handed_over == {"other": 4}
    assert [entry.outcome for entry in found.timelines[0].entries if entry.step_id == "give"] == ["waiting", "ok"]
    assert {entry.at for one in found.timelines for entry in one.entries} == {START}
    owners = [entry.reason for one in found.timelines for entry in one.entries if "Gave the lead to" in entry.reason]
    assert [reason.split()[4] for reason in owners] == ["mem_a.", "mem_b.", "mem_a.", "mem_b."]


def test_a_model_that_nothing_is_assumed_of_is_warned_about() -> None:
    found = tried("steps: [{id: rate, kind: score}]", 2)
    assert found.states == {"failed": 2}
    assert (
        "2 enrollments could not be qualified at rate: assume what the model decides, under qualify." in found.warnings
    )


def test_an_agent_answers_with_an_example_that_fits_its_schema() -> None:
    flow = """
    steps:
      - id: think
        kind: agent_task
        title: Read it
        output_schema: {type: object, properties: {mood: {enum: [good, bad]}}, required: [mood]}
      - id: which
        kind: branch
        cases: [{name: good, when: 'steps.think.mood == "good"'}]
        exits: {good: end, else: end}
    """
    found = tried(flow, 40)
    assert set(step(found, "which").exits) == {"good", "else"}
    assert step(tried(flow, 5, assume={"tasks": {"output": {"mood": "bad"}}}), "which").exits == {"else": 5}


ANSWERED = """
steps:
  - {id: ask, kind: webhook, event_type: a.b, await: true, answer_schema: {properties: {score: {type: integer}}}}
  - {id: think, kind: agent_task, title: T, timeout: 2d, output_schema: {type: string, enum: [yes, no]}}
"""


def test_an_endpoint_answers_with_an_example_that_fits_its_schema() -> None:
    assert tried(ANSWERED).states == {"completed": 3}
    assumed = {"deliveries": {"answer": {"score": 4}}, "steps": {"think": {"output": "yes"}}}
    assert tried(ANSWERED, assume=assumed).states == {"completed": 3}


def test_an_answer_that_cannot_be_made_up_is_none_and_the_report_says_so() -> None:
    flow = ANSWERED.replace("enum: [yes, no]", "pattern: '^[0-9]+$'")
    found = tried(flow)
    assert step(found, "think").exits == {"timeout": 3}
    assert "3 enrollments got no answer at think that fits its schema: assume one, under steps." in found.warnings


def test_warnings_name_what_nobody_reached_and_who_is_stuck() -> None:
    flow = """
    steps:
      - {id: ask, kind: approval, title: May I?, exits: {approved: yes, rejected: end}}
      - {id: yes, kind: log, message: yes}
    """
    assert tried(flow, 2, assume={"approvals": "none"}).warnings == (
        "Nobody came to yes.",
        "2 enrollments stand at ask (approval) without a deadline; give it a timeout.",
    )


def test_the_circuit_breaker_is_foretold() -> None:
    flow = """
    circuit_breaker: {percent: 10, of_last: 10}
    steps: [{id: rate, kind: score}]
    """
    (warning,) = [one for one in tried(flow, 12).warnings if "circuit breaker" in one]
    assert warning == (
        "The circuit breaker would have paused the workflow at 2026-03-02 09:00 UTC: "
        "10 of the last 10 step outcomes failed. The simulation went on."
    )


def test_a_loop_that_never_ends_is_left_where_it_stands() -> None:
    found = tried(LOOP, 1)
    assert found.transitions == MOST_MOVES
    assert found.states == {"active": 1}
    assert "went round so often" in found.warnings[-1]


def test_contacts_may_arrive_one_by_one() -> None:
    found = tried(NURTURE, 30, assume={"arrive_over": "10d"})
    entered = [one.entries[0].at for one in found.timelines]
    assert all(START <= at <= START + 10 * DAY for at in entered)
    assert len(set(entered)) == len(entered)


def test_frequency_caps_see_what_was_sent_before() -> None:
    flow = """
    timezone: UTC
    frequency_caps: {at_most: 1, per: 3d}
    steps:
      - {id: one, kind: message, subject: Hi, text: Hello}
      - {id: pause, kind: wait, for: 1h}
      - {id: two, kind: message, subject: Hi, text: Hello}
    """
    found = tried(flow, 1)
    assert [one.day - START.date() for one in found.messages] == [timedelta(), 3 * DAY]
    assert step(found, "two").held == 1


def test_progress_only_grows_and_ends_at_the_whole() -> None:
    told: list[tuple[int, int]] = []
    tried(NURTURE, 50, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (100, 100)


def test_a_simulation_can_be_carried_on_bit_by_bit() -> None:
    whole = tried(NURTURE, 5)
    simulator = Simulator(compiled(NURTURE), people(5), (), START, START + 30 * DAY, Assumptions())
    turns = 1
    while simulator.turn(1):
        turns += 1
    assert turns > 5
    assert simulator.result() == whole


def test_the_result_is_plain_data() -> None:
    data = as_data(tried(NURTURE, 2))
    assert data["start"] == "2026-03-02T09:00:00+00:00"
    assert data["funnel"][0] | {"exits": {}} == {
        "step_id": "pause", "kind": "wait", "title": "", "entered": 2, "exits": {}, "waiting": 0, "ended": 0,
        "failed": 0, "skipped": 0, "held": 0, "errors": 0, "median": 86400.0,
    }  # fmt: skip
    assert data["messages"] == [{"day": "2026-03-03", "channel": "email", "count": 2}]
