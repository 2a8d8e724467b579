"""What happens during a pause survives being stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from core.domain import stimuli
from core.domain.enrollment import (
    ApprovalDecided,
    DeliveryEnded,
    EventArrived,
    EventFacts,
    MessageEnded,
    Stimulus,
    TaskAnswered,
    TimerFired,
)

_AT = datetime(2026, 11, 21, 9, 30, 0, 123456, tzinfo=UTC)
_EVENT = EventFacts("evt_1", "reply.received", "action", {"text": "yes", "n": [1, {"a": None}]}, _AT, _AT, "src_1", 2)


@pytest.mark.parametrize(
    "stimulus",
    [
        EventArrived(_EVENT),
        ApprovalDecided("apr_1", True, "mem_1", "fine"),
        DeliveryEnded("msg_1", False, "timeout", 504, {"ok": [1]}),
        MessageEnded("out_1", True, "sent"),
        TaskAnswered("tsk_1", {"tier": "A"}, "agt_1"),
    ],
)
def test_what_happens_is_read_back_as_it_was_kept(stimulus: Stimulus) -> None:
    assert stimuli.from_data(json.loads(json.dumps(stimuli.to_data(stimulus)))) == stimulus


def test_what_the_engine_makes_itself_is_never_kept() -> None:
    with pytest.raises(TypeError):
        stimuli.to_data(TimerFired())
