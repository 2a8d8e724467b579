"""Endpoints with every option of delivery; deliveries in sequence, by contact, and in the endpoint's own form."""

from __future__ import annotations

from typing import Any

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
_NUMBERS: dict[str, Any] = {
    "rate_per_second": sa.Float(),
    "max_in_flight": sa.Integer(),
    "failures": sa.Integer(),
    "warned_percent": sa.Integer(),
    "last_sequence": sa.BigInteger(),
    "probes": sa.Integer(),
}
_INSTANTS = ("gate_until", "rate_until", "probe_at")
_PENDING = "state = 'pending'"
_ORDERED = f"{_PENDING} AND contact_id <> ''"


def _index(name: str, columns: list[str], where: str, table: str = "deliveries") -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Add the columns; endpoints and deliveries that are there go on as they were."""
    for name, value in _TEXTS.items():
        op.add_column("endpoints", sa.Column(name, Name, nullable=False, server_default=value))
    for name, value in _VALUES.items():
        op.add_column("endpoints", sa.Column(name, Json(), nullable=False, server_default=value))
    for name, kind in _NUMBERS.items():
        op.add_column("endpoints", sa.Column(name, kind, nullable=False, server_default="0"))
    op.add_column("endpoints", sa.Column("pace", sa.Float(), nullable=False, server_default="1"))
    for name in _INSTANTS:
        op.add_column("endpoints", sa.Column(name, Instant()))
    op.add_column("deliveries", sa.Column("sequence", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("contact_id", Name, nullable=False, server_default=""))
    op.add_column("deliveries", sa.Column("payload", Name))
    op.add_column("deliveries", sa.Column("replay_id", Name))
    op.add_column("deliveries", sa.Column("lane", sa.SmallInteger(), nullable=False, server_default="0"))
    op.execute(f"UPDATE deliveries SET lane = 1 WHERE {_PENDING} AND attempt_count > attempts_before")  # noqa: S608 -- ours
    op.drop_index("deliveries_due", "deliveries")
    _index("deliveries_due", ["org_id", "endpoint_id", "lane", "due_at"], _PENDING)
    _index("deliveries_order", ["org_id", "endpoint_id", "contact_id", "sequence"], _ORDERED)
    _index("endpoints_public_key", ["id"], "signing_seed <> ''", "endpoints")


def downgrade() -> None:
    """Take them away."""
    op.drop_index("endpoints_public_key", "endpoints")
    op.drop_index("deliveries_order", "deliveries")
    op.drop_index("deliveries_due", "deliveries")
    for name in ("lane", "replay_id", "payload", "contact_id", "sequence"):
        op.drop_column("deliveries", name)
    _index("deliveries_due", ["org_id", "endpoint_id", "due_at"], _PENDING)
    for name in (*_INSTANTS, "pace", *_NUMBERS, *_VALUES, *_TEXTS):
        op.drop_column("endpoints", name)
