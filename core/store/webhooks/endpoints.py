"""Endpoints: the receivers of an organization's webhooks."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    Row,
    Table,
    and_,
    delete,
    func,
    literal_column,
    select,
    text,
    update,
)

from core.domain.webhooks import authentication
from core.domain.webhooks.authentication import Authentication
from core.domain.webhooks.bodies import PayloadFormat
from core.domain.webhooks.endpoint_options import Options
from core.domain.webhooks.receivers import Receiver
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.signing import ExtraSignature, SignatureFormat, SigningKey
from core.domain.webhooks.states import EndpointKind, EndpointState, Ordering, Verification
from core.store.control import audit
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import page
from core.store.systems.vault import UNSEALED, Vault
from core.store.transaction import Transaction
from core.store.webhooks import delivery_numbers

REMOVED_AT_ONCE = 100
"""Temporary endpoints that one round of upkeep deletes."""

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
    # What comes back from a receiver that wants its messages; another one for each URL.
    Column("challenge", Name, nullable=False, server_default=""),
    # Seed of the ed25519 key, base64; empty until it signs with one.
    Column("signing_seed", Name, nullable=False, server_default=""),
    # The key that belongs to it, `whpk_…`, shown to anybody; empty while it does not sign with one.
    Column("public_key", Name, nullable=False, server_default=""),
    # How many attempts in a row have failed.
    Column("failures", Integer, nullable=False, server_default="0"),
    # Last warning sent on the way to being disabled: 0, 50, 70 or 90.
    Column("warned_percent", Integer, nullable=False, server_default="0"),
    # Nothing is begun before this: a Retry-After, a fault of ours, an open breaker, an unverified endpoint's hour.
    Column("gate_until", Instant),
    # `retry_after`, `our_fault`, `breaker` or `unverified`.
    Column("gate_reason", Name, nullable=False, server_default=""),
    # Share of the usual rate, from 1 downwards while the receiver has too much to do.
    Column("pace", Float, nullable=False, server_default="1"),
    # Until when the rate is used up.
    Column("rate_until", Instant),
    # When a disabled endpoint is next tried by itself.
    Column("probe_at", Instant),
    # How often it was tried by itself since it was disabled.
    Column("probes", Integer, nullable=False, server_default="0"),
    # Of a temporary one: seconds that it may go without a stream, and when it is deleted; 0 and NULL for others.
    Column("idle_seconds", Integer, nullable=False, server_default="0"),
    Column("expires_at", Instant),
    Column("rev", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("endpoints_state", "state", "org_id", "id"),
    # The keys that anybody may ask for, whatever the organization.
    Index(
        "endpoints_public_key",
        "id",
        sqlite_where=text("public_key <> ''"),
        postgresql_where=text("public_key <> ''"),
    ),
    Index(
        "endpoints_expiry",
        "expires_at",
        sqlite_where=text("expires_at IS NOT NULL"),
        postgresql_where=text("expires_at IS NOT NULL"),
    ),
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


def options(row: Row[Any]) -> Options:
    """Return what its owner has decided about an endpoint; what authenticates as it is stored."""
    return Options(
        kind=EndpointKind(row.kind),
        url=row.url,
        description=row.description,
        event_types=tuple(row.event_types),
        filter=row.filter,
        headers=dict(row.headers),
        auth=authentication.from_column(row.auth),
        extra_signatures=_extra_signatures(row),
        payload_format=PayloadFormat(row.payload_format),
        retry_preset=Preset(row.retry_preset),
        retry_delays=retry_delays(row),
        rate_per_second=row.rate_per_second,
        max_in_flight=row.max_in_flight,
        ordering=Ordering(row.ordering),
    )


def option_columns(given: Options, fields: Collection[str]) -> dict[str, Any]:
    """Return these fields of options as columns."""
    columns = {
        "kind": given.kind,
        "url": given.url,
        "description": given.description,
        "event_types": list(given.event_types),
        "filter": given.filter,
        "headers": dict(given.headers),
        "auth": authentication.column(given.auth),
        "extra_signatures": [{"format": one.format, "header": one.header} for one in given.extra_signatures],
        "payload_format": given.payload_format,
        "retry_preset": given.retry_preset,
        "retry_delays": [delay.total_seconds() for delay in given.retry_delays],
        "rate_per_second": given.rate_per_second,
        "max_in_flight": given.max_in_flight,
        "ordering": given.ordering,
    }
    return {name: columns[name] for name in columns if name in fields}


def receiver(row: Row[Any], vault: Vault = UNSEALED) -> Receiver:
    """Return what sending to an endpoint needs. Raises MasterKeyMissing."""
    return Receiver(
        org_id=row.org_id,
        id=row.id,
        url=row.url,
        keys=opened_keys(row, vault),
        seed=seed_of(row, vault),
        extra_signatures=_extra_signatures(row),
        headers=row.headers,
        auth=opened_auth(row, vault),
        retry_preset=Preset(row.retry_preset),
        retry_delays=retry_delays(row),
        verification=Verification(row.verification),
        challenge=row.challenge,
    )


def seed_of(row: Row[Any], vault: Vault = UNSEALED) -> bytes:
    """Return the seed of an endpoint's `v1a` key; empty until it has one. Raises MasterKeyMissing."""
    return base64.b64decode(vault.open(row.signing_seed, about(row.org_id, row.id, "signing_seed")))


def opened_keys(row: Row[Any], vault: Vault) -> tuple[SigningKey, ...]:
    """Return an endpoint's keys, newest first. Raises MasterKeyMissing."""
    at = about(row.org_id, row.id, "secrets")
    return tuple(SigningKey(vault.open(key.secret, at), key.expires_at) for key in signing_keys(row.secrets))


def opened_auth(row: Row[Any], vault: Vault) -> Authentication | None:
    """Return how requests to an endpoint authenticate. Raises MasterKeyMissing."""
    return vault.open_auth(authentication.from_column(row.auth), about(row.org_id, row.id, "auth"))


def about(org: str, endpoint_id: str, column: str) -> str:
    """Return what the secrets of a column of an endpoint are bound to."""
    return f"{org}/{endpoint_id}/{column}"


def sealed(vault: Vault, org: str, endpoint_id: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns with what is secret in them as it is stored. Raises MasterKeyMissing."""
    found = dict(columns)
    if "secrets" in found:
        at = about(org, endpoint_id, "secrets")
        found["secrets"] = [{**one, "secret": vault.seal(one["secret"], at)} for one in found["secrets"]]
    if "auth" in found:
        auth = authentication.from_column(found["auth"])
        found["auth"] = authentication.column(vault.seal_auth(auth, about(org, endpoint_id, "auth")))
    if "signing_seed" in found:
        found["signing_seed"] = vault.seal(found["signing_seed"], about(org, endpoint_id, "signing_seed"))
    return found


def _extra_signatures(row: Row[Any]) -> tuple[ExtraSignature, ...]:
    return tuple(ExtraSignature(SignatureFormat(one["format"]), one["header"]) for one in row.extra_signatures)


def retry_delays(row: Row[Any]) -> tuple[timedelta, ...]:
    """Return an endpoint's own waits between attempts; empty for the preset's."""
    return tuple(timedelta(seconds=seconds) for seconds in row.retry_delays)


async def create(
    tx: Transaction, endpoint_id: str, *, secret: str, vault: Vault = UNSEALED, **columns: Any
) -> Row[Any]:
    """Insert an active endpoint and return it; columns that are not given have their defaults."""
    row = {
        "id": endpoint_id,
        "url": "",
        "description": "",
        "event_types": [],
        "retry_preset": Preset.STANDARD,
        "secrets": secrets_column([SigningKey(secret)]),
        "state": EndpointState.ACTIVE,
        "disabled_reason": "",
        "failing_since": None,
        "rev": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
        **columns,
    }
    await tx.insert(endpoints, [sealed(vault, tx.org_id, endpoint_id, row)])
    created = await get(tx, endpoint_id)
    assert created is not None
    return created


Lock = Literal["", "use", "change", "delete"]
"""What is to be done with an endpoint: `use` keeps it from being deleted, `delete` keeps events from it."""


async def get(tx: Transaction, endpoint_id: str, *, lock: Lock = "") -> Row[Any] | None:
    """Return an endpoint, or None; `lock` holds it until the transaction ends. Deliveries are locked after it."""
    statement = select(endpoints).where(endpoints.c.id == endpoint_id)
    if lock:
        statement = statement.with_for_update(read=lock == "use", key_share=lock != "delete")
    return await tx.first(statement)


async def count(tx: Transaction) -> int:
    """Return how many endpoints the organization has."""
    row = await tx.first(select(func.count()).select_from(endpoints))
    assert row is not None
    return int(row[0])


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of endpoints, newest first, and the token of the next."""
    return await page(tx, select(endpoints), endpoints.c.id, size, token)


async def change(tx: Transaction, endpoint_id: str, values: Mapping[str, Any], vault: Vault = UNSEALED) -> Row[Any]:
    """Set columns of an endpoint that is known to exist, count its rev, and return it; secrets are given open."""
    changed = {**sealed(vault, tx.org_id, endpoint_id, values), "rev": endpoints.c.rev + 1, "updated_at": tx.now}
    await tx.run(update(endpoints).where(endpoints.c.id == endpoint_id).values(changed))
    row = await get(tx, endpoint_id)
    assert row is not None
    return row


async def remove(tx: Transaction, endpoint_id: str) -> None:
    """Delete an endpoint, in its organization's transaction; what waits for it is dropped soon, by the dispatcher."""
    await tx.run(delete(endpoints).where(endpoints.c.id == endpoint_id))
    await delivery_numbers.forget(tx, tx.org_id, endpoint_id)
    tx.wake("dispatcher")


async def verify(tx: Transaction, proofs: Iterable[tuple[str, str, str]]) -> None:
    """Note in a system transaction, or in its own, that these endpoints want their messages.

    Each is told by organization, id and the challenge that it had: what another URL has proved since then counts not.
    """
    if proven := list(proofs):
        at = and_(
            these(endpoints, [(org, endpoint_id) for org, endpoint_id, _ in proven]),
            endpoints.c.challenge.in_(sorted({challenge for *_, challenge in proven})),
        )
        gate = {"gate_until": None, "gate_reason": ""}
        unheld = endpoints.c.gate_reason == "unverified"
        await tx.run(update(endpoints).where(at, unheld).values(gate))
        counted = {"verification": Verification.VERIFIED, "rev": endpoints.c.rev + 1, "updated_at": tx.now}
        await tx.run(update(endpoints).where(at).values(counted))
        tx.wake("dispatcher")


async def public_keys(tx: Transaction, limit: int, *, only: str = "", after: str = "") -> Sequence[Row[Any]]:
    """Return id and public key of endpoints of every organization that sign with one, in a system transaction.

    They are in the order of their ids, those `after` one of them.
    """
    c = endpoints.c
    statement = select(c.id, c.public_key).where(c.public_key != literal_column("''")).order_by(c.id).limit(limit)
    if only:
        statement = statement.where(c.id == only)
    return await tx.all(statement.where(c.id > after) if after else statement)


async def renew(tx: Transaction, row: Row[Any]) -> None:
    """Put off when a temporary endpoint is deleted: somebody streams from it."""
    until = tx.now + timedelta(seconds=row.idle_seconds)
    await tx.run(update(endpoints).where(endpoints.c.id == row.id).values(expires_at=until))


async def remove_expired(tx: Transaction) -> None:
    """Delete, in a system transaction, temporary endpoints that nobody streams from any more."""
    c = endpoints.c
    old = select(c.org_id, c.id).where(c.expires_at <= tx.now).order_by(c.expires_at).limit(REMOVED_AT_ONCE)
    for row in await tx.all(old.with_for_update(skip_locked=True)):
        await remove(tx.within(row.org_id), row.id)
        summary = "removed a temporary endpoint that nobody streamed from"
        await audit.by_system(tx, row.org_id, "RemoveEndpoint", subject_id=row.id, summary=summary)
