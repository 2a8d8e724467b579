"""A wait for one of several events, and for those about one thing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from core.domain import machine
from core.domain.effects import KeepDeadLetter
from core.domain.enrollment import EventArrived, Migrated, State, TimerFired, Waiting
from core.domain.workflow.compile import compile_document
from core.domain.workflow.correlation import event_keys
from core.domain.workflow.source import parse
from tests.domain.machine_cases import DAY, HOUR, START, compiled, entered, happened, known, moved, settled, told

SEVERAL = """
steps:
  - id: answer
    kind: wait_for_event
    any_of:
      - {event: reply.received, when: event.fields.mood == "glad", exit: glad}
      - {event: reply.received, exit: replied}
      - {event: meeting.booked, exit: booked}
      - {event: page.seen}
    timeout: 3d
    exits: {glad: one, replied: two, booked: three, matched: four, timeout: end}
  - {id: one, kind: exit, reason: glad}
  - {id: two, kind: exit, reason: replied}
  - {id: three, kind: exit, reason: "{{ steps.answer.event_name }}"}
  - {id: four, kind: exit, reason: seen}
"""
ORDER = """
steps:
  - id: paid
    kind: wait_for_event
    event: order.paid
    match: {order_id: {cel: vars.order_id}}
    timeout: 2d
"""


def test_a_wait_for_several_events_names_them_all() -> None:
    transition = entered(compiled(SEVERAL))
    waiting = transition.enrollment.waiting
    assert waiting == Waiting("event", "reply.received\nmeeting.booked\npage.seen", START, "cnt_1")
    assert waiting.events == ("reply.received", "meeting.booked", "page.seen")
    assert transition.trace[1].reason == "Waits for reply.received or meeting.booked or page.seen for 3 days at most."


@pytest.mark.parametrize(
    ("name", "fields", "exit", "reason"),
    [
        ("reply.received", {"mood": "glad"}, "glad", "glad"),
        ("reply.received", {"mood": "sad"}, "replied", "replied"),
        ("reply.received", {}, "replied", "replied"),
        ("meeting.booked", {}, "booked", "meeting.booked"),
        ("page.seen", {}, "matched", "seen"),
    ],
)
def test_each_event_leads_by_its_own_exit(name: str, fields: dict[str, Any], exit: str, reason: str) -> None:
    version = compiled(SEVERAL)
    event = happened(name, START + HOUR, **fields)
    after = moved(version, entered(version).enrollment, EventArrived(event), START + HOUR)
    assert after.trace[0].exit == exit
    assert settled(after) == (State.EXITED, reason)
    assert after.enrollment.outputs["answer"] == {
        "matched": True,
        "event_id": "evt_021000",
        "event_name": name,
        "matched_at": "2026-03-02T10:00:00+00:00",
    }


def test_of_several_events_the_earliest_counts_at_the_timeout() -> None:
    version = compiled(SEVERAL)
    arrived = (
        happened("other", START + HOUR),
        happened("meeting.booked", START + 2 * HOUR),
        happened("page.seen", START + 3 * HOUR),
    )
    after = moved(version, entered(version).enrollment, TimerFired(), START + 3 * DAY, known(arrived=arrived))
    assert after.trace[0].exit == "booked"
    late = moved(version, entered(version).enrollment, TimerFired(), START + 3 * DAY)
    assert told(late)[0][2] == "No reply.received or meeting.booked or page.seen that fits came within 3 days."


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("A-17", "order_id=A-17"),
        (17, "order_id=17"),
        (17.0, "order_id=17"),
        (" 17 ", "order_id=17"),
        (True, "order_id=true"),
        ("a=b", "order_id=a=b"),
    ],
)
def test_a_wait_for_one_thing_listens_under_the_thing(given: Any, key: str) -> None:
    version = compiled(ORDER)
    transition = entered(version, variables={"order_id": given})
    assert transition.enrollment.waiting == Waiting("event", "order.paid", START, key)
    shown = key.removeprefix("order_id=")
    assert transition.trace[1].reason == f"Waits for order.paid with order_id {shown} for 2 days at most."
    assert transition.trace[1].inputs == {"vars.order_id": given}
    event = happened("order.paid", START + HOUR, order_id=given, total=3)
    assert key in event_keys("cnt_1", event.fields)
    after = moved(version, transition.enrollment, EventArrived(event), START + HOUR)
    assert after.trace[0].exit == "matched"


@pytest.mark.parametrize("fields", [{}, {"order_id": None}, {"order_id": "18"}, {"order_id": ["17"]}, {"order": "17"}])
def test_an_event_about_another_thing_changes_nothing(fields: dict[str, Any]) -> None:
    version = compiled(ORDER)
    waiting = entered(version, variables={"order_id": "17"}).enrollment
    event = happened("order.paid", START + HOUR, **fields)
    assert machine.advance(version, waiting, EventArrived(event), known(), START + HOUR) is None
    after = moved(version, waiting, TimerFired(), START + 2 * DAY, known(arrived=(event,)))
    assert after.trace[0].exit == "timeout"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({}, "There is no order_id to match events on: vars.order_id is not known."),
        (
            {"order_id": ["17"]},
            "There is no order_id to match events on: a text or number of at most 200 characters is needed.",
        ),
        (
            {"order_id": ""},
            "There is no order_id to match events on: a text or number of at most 200 characters is needed.",
        ),
        (
            {"order_id": "x" * 200},
            "There is no order_id to match events on: a text or number of at most 200 characters is needed.",
        ),
    ],
)
def test_a_wait_for_one_thing_that_is_not_known_fails(variables: dict[str, Any], reason: str) -> None:
    transition = entered(compiled(ORDER), variables=variables)
    assert settled(transition) == (State.FAILED, reason)
    (letter,) = [effect for effect in transition.effects if isinstance(effect, KeepDeadLetter)]
    assert letter.failure == "NOTHING_TO_MATCH"


def test_an_event_that_ended_one_wait_does_not_end_the_next_one() -> None:
    version = compiled("""
steps:
  - {id: first, kind: wait_for_event, event: ping, timeout: 1d}
  - {id: second, kind: wait_for_event, event: ping, timeout: 1d}
""")
    ping = happened("ping", START + HOUR)
    after = moved(version, entered(version).enrollment, EventArrived(ping), START + HOUR)
    assert after.enrollment.step_id == "second"
    assert machine.advance(version, after.enrollment, EventArrived(ping), known(), START + HOUR) is None


GAP = """
timezone: UTC
quiet_hours: 20:00-08:00
steps:
  - {id: pause, kind: wait, for: 12h}
  - {id: nudge, kind: message, subject: Use it, text: Please}
  - {id: note, kind: log, message: nudged}
  - {id: used, kind: wait_for_event, event: used, timeout: 2d%s, exits: {matched: yes, timeout: no}}
  - {id: yes, kind: exit, reason: yes}
  - {id: no, kind: exit, reason: no}
"""
HELD = START + 12 * HOUR
"""21:00: the message is held until 08:00."""
SENT = START + 23 * HOUR


@pytest.mark.parametrize(
    ("since", "counts_from"),
    [
        ("", HELD),  # right after a message, what is passed through at once left out: since that began
        (", since: nudge", HELD),
        (", since: pause", START),
        (", since: entry", START),
        (", since: note", SENT),
        (", since: no", SENT),  # a step that it never came to
    ],
)
def test_a_wait_counts_what_came_in_since_the_message_before_it_or_the_step_it_names(
    since: str, counts_from: datetime
) -> None:
    version = compiled(GAP % since)
    held = moved(version, entered(version).enrollment, TimerFired(), HELD)
    assert held.enrollment.due_at == SENT
    begun = moved(version, held.enrollment, TimerFired(), SENT)
    waiting = begun.enrollment.waiting
    assert waiting == Waiting("event", "used", counts_from, "cnt_1")
    assert begun.enrollment.due_at == SENT + 2 * DAY  # its time begins now all the same
    assert begun.enrollment.catches_up is (counts_from < SENT)
    back = f", counting what has come in since {counts_from:%Y-%m-%d %H:%M} UTC" if counts_from < SENT else ""
    assert begun.trace[-1].reason == f"Waits for used for 2 days at most{back}."
    later = moved(version, begun.enrollment, TimerFired(), SENT + 2 * DAY)
    assert later.trace[0].stood == 2 * DAY
    for at in (START + HOUR, HELD + HOUR, SENT + HOUR):
        after = machine.advance(version, begun.enrollment, EventArrived(happened("used", at)), known(), SENT + HOUR)
        assert (after is not None) is (at > counts_from)


def test_a_wait_that_counts_from_earlier_is_made_again_in_another_version_from_when_it_began() -> None:
    version = compiled(GAP % "")
    held = moved(version, entered(version).enrollment, TimerFired(), HELD).enrollment
    begun = moved(version, held, TimerFired(), SENT).enrollment
    longer = compiled((GAP % "").replace("timeout: 2d", "timeout: 5d"))
    after = moved(longer, begun, Migrated("used", "recompute", "key_1"), SENT + HOUR).enrollment
    assert (after.waiting, after.due_at) == (begun.waiting, SENT + 5 * DAY)
    again = moved(longer, after, Migrated("used", "recompute", "key_1"), SENT + 2 * HOUR).enrollment
    assert (again.waiting, again.due_at, again.waits_since) == (begun.waiting, SENT + 5 * DAY, SENT)


def test_what_is_remembered_of_steps_is_no_more_than_waits_ask_for() -> None:
    version = compiled(GAP % "")
    held = moved(version, entered(version).enrollment, TimerFired(), HELD).enrollment
    assert held.begun == {"nudge": HELD}
    assert moved(version, held, TimerFired(), SENT).enrollment.begun == {}
    named = compiled(GAP % ", since: pause")
    assert entered(named).enrollment.begun == {"pause": START}
    assert compiled(ORDER).begins == {}


def test_the_event_that_led_to_where_a_wait_counts_from_does_not_end_it_but_one_that_ended_a_wait_since_does() -> None:
    version = compiled("""
steps:
  - {id: first, kind: wait_for_event, event: ping, timeout: 1d}
  - {id: pause, kind: wait, for: 1h}
  - {id: again, kind: wait_for_event, event: ping, since: entry, timeout: 1d}
""")
    came = happened("ping", START)
    first = entered(version, event=came).enrollment
    ping = happened("ping", START + HOUR)
    pausing = moved(version, first, EventArrived(ping), START + HOUR).enrollment
    again = moved(version, pausing, TimerFired(), START + 2 * HOUR).enrollment
    assert machine.advance(version, again, EventArrived(came), known(), START + 2 * HOUR) is None
    assert moved(version, again, EventArrived(ping), START + 2 * HOUR).enrollment.state is State.COMPLETED


@pytest.mark.parametrize(
    ("since", "problem"),
    [
        ("entry", None),
        ("later", None),
        ("latr", ("steps[0].since", "UNKNOWN_STEP", "Did you mean later?")),
        ("[entry]", ("steps[0].since", "WRONG_TYPE", "Write entry, or the id of a step that comes before.")),
    ],
)
def test_since_names_the_entry_or_a_step(since: str, problem: tuple[str, str, str] | None) -> None:
    text = f"steps: [{{id: a, kind: wait_for_event, event: x, since: {since}}}, {{id: later, kind: log, message: x}}]"
    problems = compile_document(parse(text)).problems
    assert [(one.field, one.reason, one.hint) for one in problems] == ([problem] if problem else [])
