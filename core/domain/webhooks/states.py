"""Where endpoints and deliveries are in their lives."""

from __future__ import annotations

from enum import StrEnum


class EndpointState(StrEnum):
    """Whether deliveries are sent to an endpoint."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """How far a delivery is; all but pending are final."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"
