"""Endpoints: the receivers of an organization's webhooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Row, Table, delete, func, select, update

from core.domain.webhooks.signing import SigningKey
from core.domain.webhooks.states import EndpointState
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import page
from core.store.transaction import Transaction

endpoints = Table(
    "endpoints",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("url", Name, nullable=False),
    Column("description", Name, nullable=False),
    # Names of event types; empty for all.
    Column("event_types", Json, nullable=False),
    Column("retry_preset", Name, nullable=False),
    # [{"secret", "expires_at"}], newest first; the current one does not expire.
    Column("secrets", Json, nullable=False),
    Column("state", Name, nullable=False),
    Column("disabled_reason", Name, nullable=False),
    # Since when every attempt has failed; NULL while it answers.
    Column("failing_since", Instant),
    # `push` to its URL, or `pull`.
    Column("kind", Name, nullable=False, server_default="push"),
    # CEL on the event; empty for all.
    Column("filter", Name, nullable=False, server_default=""),
    Column("headers", Json, nullable=False, server_default="{}"),
    # {"scheme": "basic" | "bearer" | "oauth2" | "mtls", …}; empty for none.
    Column("auth", Json, nullable=False, server_default="{}"),
    # [{"format": "v1a" | "sha256_hex" | "timestamped", "header"}]
    Column("extra_signatures", Json, nullable=False, server_default="[]"),
    # `standard`, `event` or `array`.
    Column("payload_format", Name, nullable=False, server_default="standard"),
    # Seconds between attempts in place of the preset's; empty for the preset's.
    Column("retry_delays", Json, nullable=False, server_default="[]"),
    Column("rate_per_second", Float, nullable=False, server_default="0"),
    Column("max_in_flight", Integer, nullable=False, server_default="0"),
    # `best_effort` or `by_contact`.
    Column("ordering", Name, nullable=False, server_default="best_effort"),
    # `not_required`, `unverified` or `verified`.
    Column("verification", Name, nullable=False, server_default="not_required"),
    # Seed of the ed25519 key, base64; empty until it signs with one.
    Column("signing_seed", Name, nullable=False, server_default=""),
    # How many attempts in a row have failed.
    Column("failures", Integer, nullable=False, server_default="0"),
    # Last warning sent on the way to being disabled: 0, 50, 70 or 90.
    Column("warned_percent", Integer, nullable=False, server_default="0"),
    # Nothing is begun before this: a Retry-After, an open breaker, an unverified endpoint's hour.
    Column("gate_until", Instant),
    # `retry_after`, `breaker` or `unverified`.
    Column("gate_reason", Name, nullable=False, server_default=""),
    # Until when the rate is used up.
    Column("rate_until", Instant),
    # When a disabled endpoint is next tried by itself.
    Column("probe_at", Instant),
    # Deliveries made for it so far.
    Column("last_sequence", BigInteger, nullable=False, server_default="0"),
    Column("rev", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("endpoints_state", "state", "org_id", "id"),
)


def signing_keys(secrets: Sequence[Mapping[str, Any]]) -> tuple[SigningKey, ...]:
    """Return the `secrets` column as keys."""
    return tuple(
        SigningKey(item["secret"], datetime.fromisoformat(item["expires_at"]) if item["expires_at"] else None)
        for item in secrets
    )


def secrets_column(keys: Iterable[SigningKey]) -> list[dict[str, str | None]]:
    """Return keys as the `secrets` column."""
    return [{"secret": k.secret, "expires_at": k.expires_at.isoformat() if k.expires_at else None} for k in keys]


async def create(
    tx: Transaction,
    endpoint_id: str,
    *,
    url: str,
    description: str,
    event_types: Sequence[str],
    retry_preset: str,
    secret: str,
) -> Row[Any]:
    """Insert an active endpoint and return it."""
    row = {
        "id": endpoint_id,
        "url": url,
        "description": description,
        "event_types": list(event_types),
        "retry_preset": retry_preset,
        "secrets": secrets_column([SigningKey(secret)]),
        "state": EndpointState.ACTIVE,
        "disabled_reason": "",
        "failing_since": None,
        "rev": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    await tx.insert(endpoints, [row])
    created = await get(tx, endpoint_id)
    assert created is not None
    return created


async def get(tx: Transaction, endpoint_id: str, *, lock: Literal["", "change", "delete"] = "") -> Row[Any] | None:
    """Return an endpoint, or None; `lock` holds it until the transaction ends, for `delete` also against new events."""
    statement = select(endpoints).where(endpoints.c.id == endpoint_id)
    if lock:
        statement = statement.with_for_update(key_share=lock == "change")
    return await tx.first(statement)


async def count(tx: Transaction) -> int:
    """Return how many endpoints the organization has."""
    row = await tx.first(select(func.count()).select_from(endpoints))
    assert row is not None
    return int(row[0])


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of endpoints, newest first, and the token of the next."""
    return await page(tx, select(endpoints), endpoints.c.id, size, token)


async def change(tx: Transaction, endpoint_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Set columns of an endpoint that is known to exist, count its rev, and return it."""
    changed = {**values, "rev": endpoints.c.rev + 1, "updated_at": tx.now}
    await tx.run(update(endpoints).where(endpoints.c.id == endpoint_id).values(changed))
    row = await get(tx, endpoint_id)
    assert row is not None
    return row


async def remove(tx: Transaction, endpoint_id: str) -> None:
    """Delete an endpoint."""
    await tx.run(delete(endpoints).where(endpoints.c.id == endpoint_id))


async def listeners(tx: Transaction, org_ids: Iterable[str]) -> dict[str, list[tuple[str, frozenset[str]]]]:
    """Return each organization's endpoints in every state, as (id, event types it wants), in one query.

    None of them is deleted before the transaction ends: else a delivery could wait for ever for one that is gone.
    """
    rows = await tx.all(
        select(endpoints.c.org_id, endpoints.c.id, endpoints.c.event_types)
        .where(endpoints.c.org_id.in_(sorted(set(org_ids))))
        .order_by(endpoints.c.org_id, endpoints.c.id)
        .with_for_update(read=True, key_share=True)
    )
    found: dict[str, list[tuple[str, frozenset[str]]]] = {}
    for row in rows:
        found.setdefault(row.org_id, []).append((row.id, frozenset(row.event_types)))
    return found


async def disable(tx: Transaction, org_id: str, endpoint_id: str, reason: str) -> str | None:
    """Turn an active endpoint off in a system transaction; return its URL, or None when it was not active."""
    here = (endpoints.c.org_id == org_id, endpoints.c.id == endpoint_id)
    values = {
        "state": EndpointState.DISABLED,
        "disabled_reason": reason,
        "rev": endpoints.c.rev + 1,
        "updated_at": tx.now,
    }
    active = endpoints.c.state == EndpointState.ACTIVE
    if not await tx.run(update(endpoints).where(*here, active).values(values)):
        return None
    row = await tx.first(select(endpoints.c.url).where(*here))
    assert row is not None
    return str(row.url)


async def note_health(
    tx: Transaction, answering: Iterable[tuple[str, str]], failing: Iterable[tuple[str, str]]
) -> None:
    """Note in a system transaction which endpoints (organization, id) answer again and which have begun to fail."""
    if recovered := list(answering):
        await tx.run(update(endpoints).where(these(endpoints, recovered)).values(failing_since=None))
    if broken := list(failing):
        statement = update(endpoints).where(these(endpoints, broken), endpoints.c.failing_since.is_(None))
        await tx.run(statement.values(failing_since=tx.now))
