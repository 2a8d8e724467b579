"""Why a contact is not in a workflow: told from what is stored, the first thing that keeps it out in front."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.domain.enrollment import EventFacts, State
from core.domain.workflow.firing import look
from core.domain.workflow.timed_looks import InLine, timed_look
from core.domain.workflow.trigger_kinds import PoolTrigger, ScheduleTrigger
from core.domain.workflow.version import Version
from core.domain.workflow.why_not import PastRefusal, TimedLook, TriggerLook, WhyNot, why_not
from core.domain.workflow.zones import Zone
from tests.domain.machine_cases import DAY, START, WAIT, compiled, entered, happened, known

TRIGGERED = f"triggers: [{{event: trial.started, when: 'event.fields.plan == \"pro\"'}}]\n{WAIT}"


def asked(version: Version, state: str = "active", **given: Any) -> WhyNot:
    return why_not(version, state, given.pop("facts", known()), START, **given)


def looked(version: Version, event: EventFacts) -> TriggerLook:
    found = look(version.triggers[0], event, known(), START)
    assert found is not None
    return TriggerLook(0, event, found)


def rules(answer: WhyNot) -> list[tuple[str, bool]]:
    return [(reason.rule, reason.holds) for reason in answer.reasons]


def test_one_who_is_in_it_is_told_so() -> None:
    version = compiled(WAIT)
    answer = asked(version, enrollments=[entered(version).enrollment])
    assert answer.verdict == "enrolled"
    assert answer.summary == "It is in the workflow since 2026-03-02 09:00 UTC and stands at pause."
    assert rules(answer) == [("enrollment", True), ("reentry", False), ("trigger", False)]


def test_the_first_rule_that_fails_is_the_answer() -> None:
    version = compiled(f"entry: {{when: contact.employees > 3, suppress: 'lead.tier == \"C\"'}}\n{WAIT}")
    answer = asked(version, facts=known(employees=2))
    assert answer.verdict == "kept_out"
    assert answer.summary == "The entry condition contact.employees > 3 does not hold (contact.employees is 2)."
    assert rules(answer) == [("suppression", True), ("entry", False), ("trigger", False)]


def test_one_who_was_in_it_is_told_how_it_ended() -> None:
    version = compiled(WAIT)
    over = replace(
        entered(version).enrollment, state=State.EXITED, ended_at=START + DAY, end_reason="Exit rule gone: it holds."
    )
    answer = asked(version, enrollments=[over])
    assert answer.verdict == "kept_out"
    assert answer.reasons[0].sentence == (
        "It entered at 2026-03-02 09:00 UTC, by key_1, and it ended at 2026-03-03 09:00 UTC: Exit rule gone: it holds."
    )
    again = compiled(f"reentry: after_exit\n{WAIT}")
    assert asked(again, enrollments=[over]).verdict == "may_enter"


def test_a_trigger_that_did_not_fire_says_why() -> None:
    version = compiled(TRIGGERED)
    event = happened("trial.started", START - timedelta(hours=1), plan="free")
    answer = asked(version, looks=[looked(version, event)])
    assert answer.verdict == "may_enter"
    assert answer.summary == (
        "It may enter, but no trigger fired: trial.started came in, and "
        'event.fields.plan == "pro" does not hold (event.fields.plan is free).'
    )
    (reason,) = answer.reasons
    assert (reason.rule, reason.holds, reason.at) == ("trigger", False, event.received_at)
    assert reason.inputs["event.fields.plan"] == "free"


def test_without_an_event_it_says_what_would_start_the_workflow() -> None:
    answer = asked(compiled(TRIGGERED))
    assert answer.summary == "It may enter, but nothing that starts the workflow has happened lately."
    assert answer.reasons[-1].sentence == (
        "Nothing that starts the workflow has happened lately. "
        'It starts when trial.started comes in and event.fields.plan == "pro" holds.'
    )


TIMED = """triggers:
  - {schedule: {cron: '0 9 * * mon', timezone: Europe/Berlin}, audience: {list: club, filter: 'country = DE'}}
  - {pool: {per_day: 2, at: '10:00'}, audience: {filter: 'country = DE'}}
"""
MONDAY = START.replace(hour=8) + 7 * DAY


@pytest.mark.parametrize(
    ("position", "lists", "line", "takes", "told"),
    [
        (0, ["club"], {}, True,
         "the schedule 0 9 * * mon takes it on Monday 2026-03-09 09:00 (Europe/Berlin): it is on the list club and "
         "country = DE holds (contact.country is DE)"),
        (0, [], {"before": None}, False,
         "the schedule 0 9 * * mon, which comes round next on Monday 2026-03-09 09:00 (Europe/Berlin), does not take "
         "it: it is not on the list club"),
        (0, ["club"], {"before": None}, False,
         "the schedule 0 9 * * mon, which comes round next on Monday 2026-03-09 09:00 (Europe/Berlin), does not take "
         "it: country = DE does not hold (contact.country is DE)"),
        (0, [], {"next_at": None}, False, "the schedule 0 9 * * mon comes round no more"),
        (1, [], {"before": 0}, True,
         "the pool of 2 a day has it in line: it is the next, and its turn is on Monday 2026-03-09 09:00 "
         "(Europe/Berlin) at the latest; country = DE holds (contact.country is DE)"),
        (1, [], {"before": 3, "taken": 1}, True,
         "the pool of 2 a day has it in line: 3 contacts are before it, and its turn is on Tuesday 2026-03-10 10:00 "
         "(Europe/Berlin) at the latest; country = DE holds (contact.country is DE)"),
        (1, [], {"before": 20_000, "at_least": True}, True,
         "the pool of 2 a day has it in line: at least 20,000 contacts are before it; "
         "country = DE holds (contact.country is DE)"),
        (1, [], {"was_in": True}, False,
         "the pool of 2 a day takes nobody who has been in the workflow, and it has"),
    ],
)  # fmt: skip
def test_schedules_and_pools_say_whom_they_take_and_when(
    position: int, lists: list[str], line: dict[str, Any], takes: bool, told: str
) -> None:
    trigger = compiled(f"{TIMED}{WAIT}").triggers[position]
    assert isinstance(trigger, ScheduleTrigger | PoolTrigger)
    facts = replace(known(country="DE"), lists=frozenset(lists))
    given = InLine(**{"next_at": MONDAY, "zone": Zone("Europe/Berlin", "workflow"), **line})
    look = timed_look(position, trigger, facts, given)
    assert (look.takes, look.sentence) == (takes, told)


def test_what_fires_by_time_is_part_of_the_answer() -> None:
    version = compiled(f"{TIMED.rstrip()}\n  - {{event: a}}\n{WAIT}")
    out, taken = TimedLook(0, False, "the schedule does not take it"), TimedLook(1, True, "the pool takes it")
    answer = asked(version, timed=[out, taken])
    assert answer.summary == "It may enter, and the pool takes it."
    assert [(one.sentence, one.holds) for one in answer.reasons] == [
        ("Nothing that starts the workflow has happened lately. It starts when a comes in.", False),
        ("The schedule does not take it.", False),
        ("The pool takes it.", True),
    ]
    assert asked(version, timed=[out]).summary == "It may enter, but the schedule does not take it."


def test_a_closed_workflow_lets_nobody_in() -> None:
    answer = asked(compiled(WAIT), "archived")
    assert (answer.verdict, answer.summary) == ("not_open", "Nobody enters: the workflow is archived.")
    assert ("workflow", False) in rules(answer)


def test_a_paused_workflow_lets_in_whom_no_rule_keeps_out() -> None:
    answer = asked(compiled(WAIT), "paused")
    assert (answer.verdict, ("workflow", False) in rules(answer)) == ("may_enter", True)
    assert answer.summary.startswith("It may enter, by a call or an event, and would stand at the first step")
    kept_out = asked(compiled(f"entry: {{when: contact.employees > 3}}\n{WAIT}"), "paused")
    assert kept_out.verdict == "kept_out"


def test_refusals_are_told_with_when_and_for_whom() -> None:
    refusal = PastRefusal(START, "suppressed", "UNSUBSCRIBED", "The contact has unsubscribed.", "event:evt_1", {}, 3)
    reason = asked(compiled(WAIT), refusals=[refusal]).reasons[-1]
    assert (reason.rule, reason.holds, reason.at) == ("attempt", False, START)
    assert reason.sentence == ("The contact has unsubscribed. (3 times, last at 2026-03-02 09:00 UTC, for event:evt_1)")
    once = replace(refusal, times=1)
    assert (
        asked(compiled(WAIT), refusals=[once])
        .reasons[-1]
        .sentence.endswith("(at 2026-03-02 09:00 UTC, for event:evt_1)")
    )


def test_the_newest_event_stands_for_the_next_one() -> None:
    text = f"entry: {{when: event.fields.n > 1}}\nreentry: concurrent_by_key\nkey: event.fields.n\n{WAIT}"
    version = compiled(f"triggers: [{{event: a}}]\n{text}")
    assert asked(version).summary.endswith("because event.fields.n is not known.")
    answer = asked(version, looks=[looked(version, happened("a", START, n=2))])
    assert answer.verdict == "may_enter"
    there = replace(entered(version).enrollment, key="2")
    answer = asked(version, looks=[looked(version, happened("a", START, n=2))], enrollments=[there])
    assert ("reentry", False) in rules(answer)
