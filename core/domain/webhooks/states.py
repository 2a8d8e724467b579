"""Where endpoints and deliveries are in their lives, and the choices that decide how an endpoint gets its messages."""

from __future__ import annotations

from enum import StrEnum


class EndpointState(StrEnum):
    """Whether deliveries are sent to an endpoint."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class EndpointKind(StrEnum):
    """How an endpoint gets its messages."""

    PUSH = "push"
    PULL = "pull"


class Ordering(StrEnum):
    """In which order an endpoint gets its messages."""

    BEST_EFFORT = "best_effort"
    BY_CONTACT = "by_contact"


class Verification(StrEnum):
    """Whether a receiver has shown that it wants the messages."""

    NOT_REQUIRED = "not_required"
    UNVERIFIED = "unverified"
    VERIFIED = "verified"


class DeliveryState(StrEnum):
    """How far a delivery is; all but pending are final."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    DROPPED = "dropped"
    SKIPPED = "skipped"
    """Not sent, because its endpoint is disabled; a replay can send it."""
