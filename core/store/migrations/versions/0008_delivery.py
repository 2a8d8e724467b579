"""Endpoints with every option of delivery; deliveries in sequence, by contact, and in the endpoint's own form."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from core.store.metadata import Instant, Json, Name

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TEXTS = {"kind": "push", "filter": "", "payload_format": "standard", "ordering": "best_effort"} | {
    "verification": "not_required",
    "signing_seed": "",
    "gate_reason": "",
}
_VALUES = {"headers": "{}", "auth": "{}", "extra_signatures": "[]", "retry_delays": "[]"}
_NUMBERS = {
    "rate_per_second": sa.Float(),
    "max_in_flight": sa.Integer(),
    "failures": sa.Integer(),
    "warned_percent": sa.Integer(),
    "last_sequence": sa.BigInteger(),
}
_INSTANTS = ("gate_until", "rate_until", "probe_at")


def upgrade() -> None:
    """Add the columns; endpoints and deliveries that are there go on as they were."""
    for name, value in _TEXTS.items():
        op.add_column("endpoints", sa.Column(name, Name, nullable=False, server_default=value))
    for name, value in _VALUES.items():
        op.add_column("endpoints", sa.Column(name, Json(), nullable=False, server_default=value))
    for name, kind in _NUMBERS.items():
        op.add_column("endpoints", sa.Column(name, kind, nullable=False, server_default="0"))
    for name in _INSTANTS:
        op.add_column("endpoints", sa.Column(name, Instant()))
    op.add_column("deliveries", sa.Column("sequence", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("contact_id", Name, nullable=False, server_default=""))
    op.add_column("deliveries", sa.Column("payload", Name))
    op.add_column("deliveries", sa.Column("replay_id", Name))
