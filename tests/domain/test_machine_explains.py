"""What is kept of a decision, and what it explains."""

from __future__ import annotations

import pytest

from core.domain.explain import explain
from tests.domain.machine_cases import APPROVAL, AWAITED, EVENT, START, WAIT, compiled, entered, happened


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
