"""What happens to enrollments, as plain data: kept while a workflow is paused, and read again when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from core.domain.enrollment import (
    ApprovalDecided,
    DeliveryEnded,
    EventArrived,
    EventFacts,
    MessageEnded,
    Stimulus,
    TaskAnswered,
)

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (ApprovalDecided, DeliveryEnded, EventArrived, MessageEnded, TaskAnswered)
}
"""What comes from outside and must outlast a pause; the rest is made anew."""


def to_data(stimulus: Stimulus) -> dict[str, Any]:
    """Return a stimulus as plain data. Raises TypeError for one that is never kept."""
    name = type(stimulus).__name__
    if name not in _KINDS:
        raise TypeError(f"{name} is not kept")
    if isinstance(stimulus, EventArrived):
        event = asdict(stimulus.event)
        times = {key: event[key].isoformat() for key in ("occurred_at", "received_at")}
        return {"kind": name, "event": {**event, **times}}
    return {"kind": name, **asdict(stimulus)}


def from_data(data: Mapping[str, Any]) -> Stimulus:
    """Return the stimulus that plain data describes."""
    fields = {key: value for key, value in data.items() if key != "kind"}
    if data["kind"] == "EventArrived":
        event = fields["event"]
        times = {key: datetime.fromisoformat(event[key]) for key in ("occurred_at", "received_at")}
        return EventArrived(EventFacts(**{**event, **times}))
    stimulus: Stimulus = _KINDS[data["kind"]](**fields)
    return stimulus
