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
    "challenge": "",
    "signing_seed": "",
    "public_key": "",
    "gate_reason": "",
}
_VALUES = {"headers": "{}", "auth": "{}", "extra_signatures": "[]", "retry_delays": "[]"}
_NUMBERS: dict[str, Any] = {
    "rate_per_second": sa.Float(),
    "max_in_flight": sa.Integer(),
    "failures": sa.Integer(),
    "warned_percent": sa.Integer(),
    "probes": sa.Integer(),
    "idle_seconds": sa.Integer(),
}
_INSTANTS = ("gate_until", "rate_until", "probe_at", "expires_at")
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
    op.add_column("deliveries", sa.Column("place", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("deliveries", sa.Column("contact_id", Name, nullable=False, server_default=""))
    op.add_column("deliveries", sa.Column("payload", Name))
    op.add_column("deliveries", sa.Column("replay_id", Name))
    op.add_column("deliveries", sa.Column("lane", sa.SmallInteger(), nullable=False, server_default="0"))
    op.execute(f"UPDATE deliveries SET lane = 1 WHERE {_PENDING} AND attempt_count > attempts_before")  # noqa: S608 -- ours
    op.create_table(
        "delivery_numbers",
        sa.Column("org_id", Name, nullable=False),
        sa.Column("endpoint_id", Name, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("org_id", "endpoint_id"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE delivery_places")
        op.execute("ALTER TABLE delivery_numbers ENABLE ROW LEVEL SECURITY")
        op.execute("ALTER TABLE delivery_numbers FORCE ROW LEVEL SECURITY")
        op.execute(
            "CREATE POLICY organization ON delivery_numbers USING "
            "(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))"
        )
    op.drop_index("deliveries_due", "deliveries")
    _index("deliveries_due", ["org_id", "endpoint_id", "lane", "due_at", "place"], _PENDING)
    _index("deliveries_order", ["org_id", "endpoint_id", "contact_id", "place"], _ORDERED)
    _index("endpoints_public_key", ["id"], "public_key <> ''", "endpoints")
    _index("endpoints_expiry", ["expires_at"], "expires_at IS NOT NULL", "endpoints")


def downgrade() -> None:
    """Take them away."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP SEQUENCE delivery_places")
    op.drop_table("delivery_numbers")
    op.drop_index("endpoints_expiry", "endpoints")
    op.drop_index("endpoints_public_key", "endpoints")
    op.drop_index("deliveries_order", "deliveries")
    op.drop_index("deliveries_due", "deliveries")
    for name in ("lane", "replay_id", "payload", "contact_id", "place", "sequence"):
        op.drop_column("deliveries", name)
    _index("deliveries_due", ["org_id", "endpoint_id", "due_at"], _PENDING)
    for name in (*_INSTANTS, "pace", *_NUMBERS, *_VALUES, *_TEXTS):
        op.drop_column("endpoints", name)
