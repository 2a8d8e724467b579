"""Where an enrollment goes when it moves to another version."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.domain.enrollment import Waiting, WaitPolicy
from core.domain.workflow.compile import compile_document
from core.domain.workflow.migration import EXIT, destination
from core.domain.workflow.source import parse
from core.domain.workflow.version import Version

_SINCE = datetime(2026, 11, 1, tzinfo=UTC)


def _version(number: int, steps: str, head: str = "") -> Version:
    compiled = compile_document(
        parse(f"title: T\n{head}variables: {{order: string}}\nsteps:\n{steps}"), workflow_id="w", number=number
    )
    assert compiled.version is not None, compiled.problems
    return compiled.version


_ASK = "{id: ask, kind: approval, exits: {rejected: end, timeout: end}, title: "
_OLD = _version(
    1,
    f"""
  - {{id: pause, kind: wait, for: 3d}}
  - {{id: rest, kind: wait, for: 3d, title: Rest}}
  - {{id: moves, kind: wait, until_true: contact.city == "Bonn", timeout: 2d}}
  - {{id: reply, kind: wait_for_event, event: reply.received, timeout: 2d}}
  - {{id: paid, kind: wait_for_event, event: paid, match: {{order_id: "{{{{ vars.order }}}}"}}}}
  - {_ASK}Go on?, timeout: 2d}}
  - {{id: vote, kind: approval, title: Go on?, exits: {{rejected: end}}}}
  - {{id: judge, kind: agent_task, title: Judge, output_schema: {{type: object}}, timeout: 2d}}
  - {{id: tell, kind: webhook, event_type: my.event, await: true, exits: {{failed: end}}}}
  - {{id: hear, kind: webhook, event_type: my.event, await: true, exits: {{failed: end}}}}
  - {{id: mail, kind: message, channel: dm, to: x, text: Hi}}
  - {{id: say, kind: log, message: done}}
  - {{id: launch_gate, kind: log, message: as an approval}}
""",
)
_NEW = _version(
    2,
    f"""
  - {{id: pause, kind: wait, for: 1d}}
  - {{id: rest, kind: wait, for: 3d, title: Rest well}}
  - {{id: moves, kind: wait, until_true: contact.city == "Bonn", timeout: 3d}}
  - {{id: reply, kind: wait_for_event, event: reply.received}}
  - {{id: paid, kind: wait_for_event, event: paid, match: {{invoice: "{{{{ vars.order }}}}"}}}}
  - {_ASK}Really?, timeout: 3d}}
  - {{id: vote, kind: approval, title: Really?, exits: {{rejected: end}}}}
  - {{id: judge, kind: agent_task, title: Judge, output_schema: {{type: string}}, timeout: 2d}}
  - {{id: tell, kind: webhook, event_type: my.event}}
  - {{id: hear, kind: webhook, event_type: my.event, await: true, timeout: 1d, exits: {{failed: end}}}}
  - {{id: mail, kind: message, channel: dm, to: x, text: Hello, ignore_quiet_hours: true}}
  - {{id: say, kind: wait, for: 1h}}
  - {{id: clicked, kind: wait_for_event, event: link.clicked, timeout: 5d}}
""",
)
_TIMER, _RETRY = Waiting("timer", since=_SINCE), Waiting("retry", "1", _SINCE)
_UNTIL = Waiting("condition", 'contact.city == "Bonn"', _SINCE)
_REPLY = Waiting("event", "reply.received", _SINCE, "cnt_1")
_PAID = Waiting("event", "paid", _SINCE, "order_id=7")
_ASKED, _TASK = Waiting("approval", "apr_1", _SINCE), Waiting("task", "tsk_1", _SINCE)
_SENT = Waiting("delivery", "msg_1", _SINCE)


@pytest.mark.parametrize(
    ("step", "waiting", "steps", "asked", "target", "wait"),
    [
        ("pause", _TIMER, {}, None, "pause", "recompute"),  # it is made of something else
        ("pause", _TIMER, {}, "keep", "pause", "keep"),
        ("pause", _TIMER, {}, "restart", "pause", "restart"),
        ("pause", _TIMER, {"pause": "rest"}, None, "rest", "keep"),  # another step, made of the same
        ("pause", _TIMER, {"pause": "clicked"}, None, "clicked", "restart"),
        ("pause", _TIMER, {"pause": "clicked"}, "keep", "", None),  # the wait is not one for an event
        ("rest", _TIMER, {}, None, "rest", "keep"),  # what it is called has no say
        ("rest", _TIMER, {}, "recompute", "rest", "recompute"),
        ("moves", _UNTIL, {}, None, "moves", "recompute"),
        ("moves", _UNTIL, {}, "keep", "moves", "keep"),
        ("moves", _UNTIL, {"moves": "rest"}, "keep", "", None),  # nobody would look at its condition
        ("pause", _TIMER, {"pause": "moves"}, "keep", "", None),
        ("reply", _REPLY, {}, None, "reply", "recompute"),
        ("reply", _REPLY, {}, "keep", "", None),  # its time would come, and lead nowhere
        ("reply", _REPLY, {"reply": "clicked"}, None, "clicked", "recompute"),
        ("reply", _REPLY, {"reply": "clicked"}, "keep", "", None),  # nothing would end it
        ("reply", _REPLY, {"reply": "pause"}, None, "pause", "restart"),
        ("paid", _PAID, {}, None, "paid", "recompute"),
        ("paid", _PAID, {}, "keep", "paid", "keep"),
        ("ask", _ASKED, {}, None, "ask", "recompute"),
        ("ask", _ASKED, {"ask": EXIT}, None, EXIT, None),
        ("vote", _ASKED, {}, None, "vote", "keep"),  # what people were asked is what they decide
        ("vote", _ASKED, {}, "restart", "vote", "restart"),
        ("judge", _TASK, {}, None, "judge", "restart"),  # the answer would be another
        ("judge", _TASK, {}, "keep", "", None),
        ("judge", _TASK, {}, "recompute", "", None),
        ("tell", _SENT, {}, None, "", None),  # its outcome would find nobody
        ("tell", _SENT, {"tell": "pause"}, None, "", None),
        ("hear", _SENT, {}, None, "hear", "recompute"),
        ("hear", _SENT, {}, "restart", "", None),  # it would be sent twice
        ("mail", _TIMER, {}, None, "mail", "recompute"),  # quiet hours hold it no more
        ("launch_gate", _ASKED, {"launch_gate": "say"}, None, "", None),  # no way past it
        ("say", None, {}, None, "", None),  # another kind now: somebody has to say what is meant
        ("say", None, {"say": "pause"}, None, "pause", "restart"),
        ("pause", _RETRY, {}, None, "pause", "restart"),
        ("gone", None, {}, None, "", None),
    ],
)
def test_everybody_has_one_destination_or_a_reason(
    step: str,
    waiting: Waiting | None,
    steps: dict[str, str],
    asked: WaitPolicy | None,
    target: str,
    wait: WaitPolicy | None,
) -> None:
    where = destination(_OLD, _NEW, step, waiting, steps, {step: asked} if asked else {})
    assert (where.step_id, where.wait) == (target, wait), where.reason
    assert where.reason


@pytest.mark.parametrize(
    ("head", "step", "kept"),
    [
        ("timezone: Asia/Tokyo\n", "for: 3d, at: '09:00'", False),
        ("calendars: {office: {days: [mon]}}\n", "for: 3d, within: office", False),
        ("goals: [{name: bought, event: paid}]\n", "for: 3d, at: '09:00'", True),
    ],
)
def test_a_wait_is_made_of_the_clock_and_the_calendar_it_goes_by(head: str, step: str, kept: bool) -> None:
    body = f"  - {{id: pause, kind: wait, {step}}}\n"
    old = _version(1, body, "calendars: {office: {days: [tue]}}\n" if "office" in step else "")
    where = destination(old, _version(2, body, head), "pause", _TIMER, {}, {})
    assert (where.wait == "keep") is kept
