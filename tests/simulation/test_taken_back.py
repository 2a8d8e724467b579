"""A simulated message that was taken back has no other outcome later on, as the mailer would not send it either."""

from __future__ import annotations

from datetime import timedelta

from tests.simulation.cases import HOUR, START, tried

WAITS = """
exit_on: [{name: replied, event: reply.received}]
steps:
  - {id: ask, kind: message, subject: Hi, text: Hello, await: true, timeout: 2h, exits: {sent: end, timeout: rest}}
  - {id: rest, kind: wait, for: 5d}
"""


def _told(events: list[dict[str, str]], after: str) -> list[tuple[str, str, timedelta]]:
    found = tried(WAITS, events=events, assume={"messages": {"sent": 1.0, "after": after}}, subjects=1, timelines=1)
    told = [(one.outcome, one.reason, one.at - START) for one in found.timelines[0].entries]
    return [(outcome, reason.partition(" was ")[2], at) for outcome, reason, at in told if " was " in reason]


def test_what_did_not_leave_in_time_is_not_told_as_sent_later() -> None:
    assert _told([], after="1d") == [
        ("failed", "not sent within 2 hours; it is taken back.", 2 * HOUR),
        ("skipped", "not sent, on purpose: it was not sent within 2 hours.", 2 * HOUR),
    ]


def test_what_a_rule_took_back_is_not_told_as_sent_later() -> None:
    assert _told([{"event": "reply.received", "at": "+1h"}], after="1d") == [
        ("skipped", "not sent, on purpose: Exit rule replied: reply.received came in.", HOUR),
    ]


def test_what_had_left_before_is_told_once() -> None:
    assert _told([{"event": "reply.received", "at": "+1d"}], after="1h") == [("ok", "sent.", HOUR)]
