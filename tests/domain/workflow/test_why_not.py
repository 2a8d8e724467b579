"""Why a contact is not in a workflow: told from what is stored, the first thing that keeps it out in front."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from core.domain.enrollment import EventFacts, State
from core.domain.workflow.firing import look
from core.domain.workflow.version import Version
from core.domain.workflow.why_not import PastRefusal, TriggerLook, WhyNot, why_not
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


def test_a_closed_workflow_lets_nobody_in() -> None:
    for state in ("paused", "archived"):
        answer = asked(compiled(WAIT), state)
        assert (answer.verdict, answer.summary) == ("not_open", f"Nobody enters: the workflow is {state}.")
        assert ("workflow", False) in rules(answer)


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
