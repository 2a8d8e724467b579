"""What is kept of a decision, and what it explains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.domain.enrollment import EventArrived, Redriven, State, TimerFired, Waiting
from core.domain.explain import explain
from tests.domain.machine_cases import (
    APPROVAL,
    AWAITED,
    EVENT,
    HOUR,
    START,
    WAIT,
    compiled,
    entered,
    happened,
    known,
    moved,
)


def test_the_trace_does_not_keep_whole_payloads() -> None:
    version = compiled("steps: [{id: a, kind: log, message: '{{ event.fields.text }}{{ event.fields.list }}'}]")
    event = happened("x", START, text="a" * 5_000, list=list(range(5_000)))
    inputs = entered(version, event=event).trace[1].inputs
    assert inputs["event.fields.text"] == "a" * 500 + "… (5,000 characters)"
    assert inputs["event.fields.list"] == "(5,000 items)"


@pytest.mark.parametrize(
    ("text", "why", "following"),
    [
        (
            WAIT,
            "It stands at pause of version 3. It came there at entry, 2026-03-02 09:00 UTC: "
            "Enrolled by key_1 into version 3. Waits 2 days, until 2026-03-04 09:00 UTC.",
            "At 2026-03-04 09:00 UTC it goes on to the end.",
        ),
        (
            EVENT,
            "It stands at reply of version 3. It came there at entry, 2026-03-02 09:00 UTC: "
            "Enrolled by key_1 into version 3. Waits for reply.received for 3 days at most.",
            "A reply.received that fits leads to thanks; without one it goes to the end at 2026-03-05 09:00 UTC.",
        ),
        (
            "steps: [{id: say, kind: log, message: Hello.}, {id: bye, kind: exit, reason: enough}]",
            "It left the workflow at bye on 2026-03-02 09:00 UTC: enough.",
            "Nothing more will happen.",
        ),
    ],
)
def test_an_enrollment_explains_itself_from_stored_facts(text: str, why: str, following: str) -> None:
    version = compiled(text)
    transition = entered(version)
    assert explain(version, transition.enrollment, transition.trace) == (why, following)


def test_an_approval_and_a_delivery_explain_both_ways_on() -> None:
    version = compiled(APPROVAL)
    transition = entered(version)
    assert transition.enrollment.waiting is not None
    subject = transition.enrollment.waiting.subject
    assert explain(version, transition.enrollment, transition.trace)[1] == (
        f"A decision on {subject} leads to yes when approved, to no when rejected; "
        "without one it goes to no at 2026-03-03 09:00 UTC."
    )
    version = compiled(AWAITED)
    transition = entered(version)
    assert transition.enrollment.waiting is not None
    subject = transition.enrollment.waiting.subject
    assert explain(version, transition.enrollment, transition.trace)[1] == (
        f"The delivery of {subject} leads to the end, its final failure to sad."
    )


def following(text: str, **given: Any) -> str:
    version = compiled(text)
    transition = entered(version, **given)
    return explain(version, transition.enrollment, transition.trace)[1]


SEVERAL = """
steps:
  - id: answer
    kind: wait_for_event
    any_of: [{event: reply, exit: good}, {event: call, exit: good}, {event: bounce, exit: bad}]
    timeout: 3d
    exits: {good: thanks, bad: end, timeout: end}
  - {id: thanks, title: Say thanks, kind: log, message: x}
"""
PAID = "steps: [{id: paid, kind: wait_for_event, event: order.paid, match: {order_id: {cel: vars.id}}}]"
TIMED = """
steps:
  - {id: ask, kind: webhook, event_type: x.y, await: true, timeout: 2h, exits: {failed: sad}}
  - {id: done, kind: exit}
  - {id: sad, kind: exit}
"""
TASK = """
steps:
  - {id: read, kind: agent_task, title: Read it, output_schema: {type: object}, timeout: 1d, exits: {timeout: end}}
  - {id: done, kind: exit}
"""
MESSAGE = """
steps:
  - {id: mail, kind: message, subject: Hi, text: Hi, await: true, exits: {sent: done, failed: sad}}
  - {id: done, kind: exit}
  - {id: sad, kind: exit}
"""
GATE = '{id: gate, kind: filter, when: "true", exits: {otherwise: sad}}'
ASKS = f"{GATE}, {{id: ask, kind: approval, title: Ok?, timeout: 1d"
SENDS = f"{GATE}, {{id: ask, kind: webhook, event_type: x.y, await: true"
TELLS = f"{GATE}, {{id: ask, kind: message, subject: Hi, text: Hi, await: true"
NEXT = "{id: done, kind: exit}, {id: sad, kind: exit}"
SCORE = "steps: [{id: rate, kind: score, on_error: done}, {id: rest, kind: wait, for: 1d}, {id: done, kind: exit}]"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            SEVERAL,
            "A reply or call that fits leads to thanks (Say thanks), a bounce that fits leads to the end; "
            "without one it goes to the end at 2026-03-05 09:00 UTC.",
        ),
        (PAID, "An order.paid with order_id 7 that fits leads to the end."),
        (SCORE, "The core answers rate at once. Should it fail for good, it goes to done."),
    ],
)
def test_every_wait_tells_where_it_leads(text: str, sentence: str) -> None:
    assert following(text, variables={"id": 7}) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            TIMED,
            "The delivery of {subject} leads to done, its final failure to sad; "
            "without one it goes to sad at 2026-03-02 11:00 UTC.",
        ),
        (TASK, "An agent's answer to {subject} leads to done; without one it goes to the end at 2026-03-03 09:00 UTC."),
        (MESSAGE, "The outcome of {subject} leads to done by sent, to sad by failed."),
        (
            f"steps: [{SENDS}, timeout: 2h}}, {NEXT}]",
            "The delivery of {subject} leads to done. Should it fail for good, the enrollment fails; "
            "without an outcome the enrollment fails at 2026-03-02 11:00 UTC.",
        ),
        (
            f"steps: [{SENDS}, on_error: sad}}, {NEXT}]",
            "The delivery of {subject} leads to done. Should it fail for good, it goes to sad.",
        ),
        (
            f"steps: [{SENDS}, timeout: 2h, exits: {{timeout: sad}}}}, {NEXT}]",
            "The delivery of {subject} leads to done. Should it fail for good, the enrollment fails; "
            "without an outcome it goes to sad at 2026-03-02 11:00 UTC.",
        ),
        (
            f"steps: [{TELLS}}}, {NEXT}]",
            "The outcome of {subject} leads to done by sent. Should it fail for good, the enrollment fails.",
        ),
        (
            f"steps: [{ASKS}, on_reject: fail, on_timeout: approve}}, {NEXT}]",
            "A decision on {subject} leads to done when approved; when rejected the enrollment fails; "
            "without one it goes to done at 2026-03-03 09:00 UTC.",
        ),
        (
            f"steps: [{ASKS}, on_reject: cancel, on_timeout: cancel}}, {NEXT}]",
            "A decision on {subject} leads to done when approved, and ends it when rejected; "
            "without one it ends at 2026-03-03 09:00 UTC.",
        ),
        (
            f"steps: [{ASKS}, on_timeout: fail, on_error: sad, exits: {{rejected: end}}}}, {NEXT}]",
            "A decision on {subject} leads to done when approved, to the end when rejected; "
            "without one it goes to sad at 2026-03-03 09:00 UTC.",
        ),
        (
            f"steps: [{ASKS}, roles: [admin], on_timeout: escalate, exits: {{rejected: end, timeout: sad}}}}, {NEXT}]",
            "A decision on {subject} leads to done when approved, to the end when rejected; without one others are "
            "asked as well at 2026-03-03 09:00 UTC, and after the same time again it goes to sad.",
        ),
    ],
)
def test_every_wait_for_others_tells_for_what(text: str, sentence: str) -> None:
    version = compiled(text)
    transition = entered(version)
    assert transition.enrollment.waiting is not None
    subject = transition.enrollment.waiting.subject
    assert explain(version, transition.enrollment, transition.trace)[1] == sentence.format(subject=subject)


@pytest.mark.parametrize(
    ("on_error", "sentence"),
    [
        ("fail", "Should it fail for good, the enrollment fails."),
        ("continue", "Should it fail for good, it goes on to done."),
        ("sad", "Should it fail for good, it goes to sad."),
    ],
)
def test_a_step_to_be_tried_again_tells_when_and_what_follows_a_last_failure(on_error: str, sentence: str) -> None:
    version = compiled(f"""
steps:
  - {{id: gate, kind: filter, when: "true", exits: {{otherwise: sad}}}}
  - {{id: say, kind: log, message: x, retry: {{attempts: 3, delay: 5m}}, on_error: {on_error}}}
  - {{id: done, kind: exit}}
  - {{id: sad, kind: exit}}
""")
    enrollment = replace(
        entered(version, limit=0).enrollment,
        step_id="say",
        waiting=Waiting("retry", "1", START),
        due_at=START + HOUR,
        attempts=1,
    )
    assert explain(version, enrollment, ())[1] == f"At 2026-03-02 10:00 UTC say is tried again, try 2 of 3. {sentence}"


def test_a_delivery_to_be_tried_again_leads_where_its_failure_was_led() -> None:
    version = compiled(TIMED.replace("timeout: 2h", "retry: {attempts: 3, delay: 5m}"))
    enrollment = replace(
        entered(version).enrollment, waiting=Waiting("retry", "1", START), due_at=START + HOUR, attempts=1
    )
    assert explain(version, enrollment, ())[1] == (
        "At 2026-03-02 10:00 UTC ask is tried again, try 2 of 3. Should it fail for good, it goes to sad."
    )


def test_what_holds_an_enrollment_up_is_told_before_what_follows() -> None:
    version = compiled(
        "exit_on: [{name: replied, event: reply.received}]\ngoals: [{name: won, event: deal.won}]\n" + WAIT
    )
    transition = entered(version)
    reply = EventArrived(happened("reply.received", START))
    enrollment = replace(transition.enrollment, held=(reply, reply), skipping=True, converted="seen")
    why, following = explain(version, enrollment, transition.trace, paused=True)
    assert why.endswith("until 2026-03-04 09:00 UTC. It has reached the goal seen.")
    assert following == (
        "The workflow is paused: nothing happens before it is resumed, and due times are kept. "
        "2 things that happened during the pause will take effect first, oldest first. "
        "At 2026-03-04 09:00 UTC it goes on to the end. "
        "Until its next wait it passes over what acts on people and systems. "
        "Before that, goal won or exit rule replied would end it."
    )


def test_a_message_that_quiet_hours_hold_tells_when_it_is_sent() -> None:
    version = compiled("quiet_hours: {from: '08:00', to: '10:00'}\n" + MESSAGE)
    transition = entered(version)
    why, following = explain(version, transition.enrollment, transition.trace)
    assert "Held through quiet hours" in why
    assert following == "At 2026-03-02 10:00 UTC mail is carried out."


def test_a_failed_enrollment_tells_that_it_can_be_redriven() -> None:
    version = compiled("steps: [{id: work, kind: log, message: '{{ 1 | divided_by: 0 }}'}]")
    transition = entered(version)
    why, following = explain(version, transition.enrollment, transition.trace)
    assert why.startswith("It failed at work on 2026-03-02 09:00 UTC: The message could not be made")
    assert following == "Nothing more will happen, unless somebody redrives it: work is then tried again."


def test_who_is_let_go_on_did_not_come_there_at_entry() -> None:
    version = compiled("steps: [{id: work, kind: log, message: x}, {id: rest, kind: wait, for: 1d}]")
    failed = replace(entered(version).enrollment, state=State.FAILED, waiting=None, step_id="rest")
    again = moved(version, failed, Redriven("mem_1"), START + HOUR)
    assert (
        "It came there again, 2026-03-02 10:00 UTC: mem_1 lets rest be tried again."
        in (explain(version, again.enrollment, again.trace)[0])
    )


def test_a_converted_enrollment_tells_which_goal_it_reached() -> None:
    version = compiled("goals: [{name: won, event: deal.won}]\n" + WAIT)
    won = EventArrived(happened("deal.won", START + HOUR))
    after = moved(version, entered(version).enrollment, won, START + HOUR)
    why, _ = explain(version, after.enrollment, after.trace)
    assert why.endswith("at pause on 2026-03-02 10:00 UTC: Goal won: deal.won came in. It reached the goal won.")


def test_an_enrollment_that_waits_for_its_turn_says_so() -> None:
    version = compiled(WAIT)
    transition = entered(version, limit=0)
    assert explain(version, transition.enrollment, transition.trace)[1] == (
        "pause runs as soon as the engine comes to it at 2026-03-02 09:00 UTC."
    )
    gone = moved(version, transition.enrollment, TimerFired(), START, known())
    assert gone.enrollment.waiting is not None
