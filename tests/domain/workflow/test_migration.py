"""Where an enrollment goes when it moves to another version."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.domain.enrollment import Waiting
from core.domain.workflow.compile import compile_document
from core.domain.workflow.migration import EXIT, destination
from core.domain.workflow.source import parse
from core.domain.workflow.version import Version

_SINCE = datetime(2026, 11, 1, tzinfo=UTC)


def _version(number: int, steps: str) -> Version:
    compiled = compile_document(parse(f"title: T\nsteps:\n{steps}"), workflow_id="w", number=number)
    assert compiled.version is not None, compiled.problems
    return compiled.version


_OLD = _version(
    1,
    """
  - {id: pause, kind: wait, for: 3d}
  - {id: reply, kind: wait_for_event, event: reply.received, timeout: 2d}
  - {id: ask, kind: approval, title: Go on?, exits: {rejected: end}}
  - {id: tell, kind: webhook, event_type: my.event, await: true, exits: {failed: end}}
  - {id: say, kind: log, message: done}
  - {id: launch_gate, kind: log, message: as an approval}
""",
)
_NEW = _version(
    2,
    """
  - {id: pause, kind: wait, for: 1d}
  - {id: reply, kind: wait_for_event, event: reply.received, timeout: 5d}
  - {id: ask, kind: approval, title: Really?, exits: {rejected: end}}
  - {id: tell, kind: webhook, event_type: my.event}
  - {id: say, kind: wait, for: 1h}
  - {id: clicked, kind: wait_for_event, event: link.clicked, timeout: 5d}
""",
)


@pytest.mark.parametrize(
    ("step", "waiting", "steps", "target", "keeps"),
    [
        ("pause", Waiting("timer", since=_SINCE), {}, "pause", True),
        ("reply", Waiting("event", "reply.received", _SINCE, "cnt_1"), {}, "reply", True),
        ("reply", Waiting("event", "reply.received", _SINCE, "cnt_1"), {"reply": "clicked"}, "clicked", False),
        ("reply", Waiting("event", "reply.received", _SINCE, "cnt_1"), {"reply": "pause"}, "pause", False),
        ("ask", Waiting("approval", "apr_1", _SINCE), {}, "ask", True),
        ("ask", Waiting("approval", "apr_1", _SINCE), {"ask": EXIT}, EXIT, False),
        ("tell", Waiting("delivery", "msg_1", _SINCE), {}, "", False),  # its outcome would find nobody
        ("tell", Waiting("delivery", "msg_1", _SINCE), {"tell": "pause"}, "", False),
        ("launch_gate", Waiting("approval", "apr_1", _SINCE), {"launch_gate": "say"}, "", False),  # no way past it
        ("say", None, {}, "", False),  # another kind now: somebody has to say what is meant
        ("say", None, {"say": "pause"}, "pause", False),
        ("pause", Waiting("retry", "1", _SINCE), {}, "pause", False),
        ("gone", None, {}, "", False),
    ],
)
def test_everybody_has_one_destination_or_a_reason(
    step: str, waiting: Waiting | None, steps: dict[str, str], target: str, keeps: bool
) -> None:
    where = destination(_OLD, _NEW, step, waiting, steps)
    assert (where.step_id, where.keeps_waiting) == (target, keeps)
    assert where.reason
