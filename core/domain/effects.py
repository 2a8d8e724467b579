"""What a decision wants done, as data: `store.apply` turns each effect into rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Emit:
    """Send an event to the organization's webhook endpoints."""

    id: str
    """The message's id, derived from the enrollment and its rev: a repeated decision sends the same message."""
    event_type: str
    data: Mapping[str, Any]
    endpoint_id: str | None = None
    """This endpoint alone; None for every endpoint that wants the type."""
    awaited: bool = False
    """The enrollment waits for the final outcome."""


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """Set fields of a record; None removes one."""

    record_id: str
    record_type: str
    fields: Mapping[str, Any]
    """Dotted path to new value, such as `lifecycle_stage` or `custom.plan`."""


@dataclass(frozen=True, slots=True)
class RequestApproval:
    """Ask a second principal."""

    id: str
    title: str
    details: Mapping[str, Any]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CancelApproval:
    """Withdraw a request that no longer matters."""

    id: str


Effect = Emit | UpdateRecord | RequestApproval | CancelApproval
