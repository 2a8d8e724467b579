"""Sources of events, and the inbound URLs by which other systems reach them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, and_, delete, or_, select, text, update

from core import ids
from core.domain.frozen import frozen
from core.domain.names import ALPHABET
from core.store import paging
from core.store.metadata import Instant, Json, Name, dump_json, metadata, org_id, read_json
from core.store.transaction import Transaction

sources = Table(
    "sources",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("display_name", Name, nullable=False),
    # `webhook`, `affiliate` or `inbound`.
    Column("kind", Name, nullable=False),
    # Ids are the caller's choice; this one is in order of creation.
    Column("position", Name, nullable=False),
    # {"kind", "secrets", "hmac", "challenge_token"}; NULL while whoever knows the URL is believed.
    Column("verifier", Json),
    # {"event_name", "fields", …}, each CEL; NULL where the conventions do.
    Column("mapping", Json),
    # JSON Schema of the events' fields; NULL for any.
    Column("schema", Json),
    # Noted to the minute.
    Column("last_event_at", Instant),
    Column("rev", Integer, nullable=False, server_default=text("1")),
    Column("created_at", Instant, nullable=False),
    # NULL while it is as it was created.
    Column("updated_at", Instant),
    Index("sources_position", "org_id", "position", unique=True),
)

inbound_urls = Table(
    "inbound_urls",
    metadata,
    org_id(),
    Column("digest", Name, primary_key=True),
    Column("source_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    # Set once another one has taken its place.
    Column("expires_at", Instant),
    Index("inbound_urls_source", "org_id", "source_id"),
    # A URL is looked up before its organization is known; a digest of 160 random bits names one.
    Index("inbound_urls_digest", "digest"),
)

MOST_URLS = 10
"""Of one source at once: the present one, and those whose grace period runs."""

_TOKEN_BYTES = 20
_TOKEN_LENGTH = 32
_USE_IS_NOTED_EVERY = timedelta(minutes=1)


_DOORS_SQLITE = "SELECT id, kind, schema FROM sources WHERE org_id = $1 AND id IN (SELECT value FROM json_each($2))"
_DOORS_POSTGRESQL = "SELECT id, kind, schema FROM sources WHERE org_id = $1 AND id = ANY($2::text[])"


def new_token() -> str:
    """Return a new last part of an inbound URL: 160 random bits."""
    number = int.from_bytes(ids.new_secret_bytes(_TOKEN_BYTES))
    return "".join(ALPHABET[(number >> shift) & 31] for shift in range(0, _TOKEN_LENGTH * 5, 5))


def token_is_well_formed(token: str) -> bool:
    """Tell a foreign token from a possible one, without asking the store."""
    return len(token) == _TOKEN_LENGTH and set(token) <= set(ALPHABET)


def digest(token: str) -> str:
    """Return what is stored of a token: it is random, so a fast hash keeps it safe."""
    return hashlib.sha256(token.encode()).hexdigest()


async def by_tokens(tx: Transaction, tokens: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the sources whose inbound URLs end so and work now, by token. Asks every organization."""
    url = inbound_urls
    by_digest = {digest(token): token for token in tokens}
    rows = await tx.all(
        select(sources, url.c.digest)
        .join(url, and_(url.c.org_id == sources.c.org_id, url.c.source_id == sources.c.id))
        .where(url.c.digest.in_(sorted(by_digest)), or_(url.c.expires_at.is_(None), url.c.expires_at > tx.now))
    )
    return {by_digest[row.digest]: row for row in rows}


async def by_id(tx: Transaction, source_ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the sources with these ids, by id."""
    rows = await tx.all(select(sources).where(sources.c.id.in_(sorted(set(source_ids)))))
    return {row.id: row for row in rows}


@frozen
class Door:
    """What of a source matters to each of its events."""

    kind: str
    schema: Mapping[str, Any] | None
    """JSON Schema of the events' fields; None for any."""


async def doors(tx: Transaction, source_ids: Iterable[str]) -> dict[str, Door]:
    """Return the sources with these ids, by id: the look-up of every event that comes in."""
    wanted = sorted(set(source_ids))
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_DOORS_POSTGRESQL, tx.org_id, wanted)
    else:
        rows = await tx.fetch(_DOORS_SQLITE, tx.org_id, dump_json(wanted))
    return {row[0]: Door(row[1], read_json(row[2]) if isinstance(row[2], str) else row[2]) for row in rows}


async def get(tx: Transaction, source_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a source, or None; locked, nobody else changes it until the transaction ends."""
    statement = select(sources).where(sources.c.id == source_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def newest_ids(tx: Transaction, limit: int = 200) -> list[str]:
    """Return ids of sources, newest first."""
    rows = await tx.all(select(sources.c.id).order_by(sources.c.position.desc()).limit(limit))
    return [row.id for row in rows]


async def create(
    tx: Transaction, source_id: str, display_name: str, kind: str, settings: Mapping[str, Any] | None = None
) -> Row[Any] | None:
    """Create a source and return it; an empty id is minted. Returns None when the id is taken.

    `settings` are its verifier, mapping and schema, as they are stored.
    """
    position = ids.mint("src", tx.now)
    row_id = source_id or position
    about = {"display_name": display_name, "kind": kind, "position": position, "created_at": tx.now}
    given = {name: None for name in ("verifier", "mapping", "schema")} | dict(settings or {})
    if not await tx.insert(sources, [{"id": row_id, **about, **given}], on_conflict="ignore"):
        return None
    return await get(tx, row_id)


async def change(tx: Transaction, source_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Change a source and return it; it must be there."""
    counted = {"rev": sources.c.rev + 1, "updated_at": tx.now}
    await tx.run(update(sources).where(sources.c.id == source_id).values({**values, **counted}))
    row = await get(tx, source_id)
    if row is None:
        raise LookupError(f"source {source_id} is gone")
    return row


async def page(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of sources and the next token."""
    return await paging.page(tx, select(sources), sources.c.position, size, token)


async def open_url(tx: Transaction, source_id: str, old_end: datetime) -> str:
    """Give a source a new inbound URL and return its token; no old one works beyond `old_end`."""
    url = inbound_urls
    of_it = url.c.source_id == source_id
    await tx.run(delete(url).where(of_it, url.c.expires_at <= tx.now))
    later = or_(url.c.expires_at.is_(None), url.c.expires_at > old_end)
    await tx.run(update(url).where(of_it, later).values(expires_at=old_end))
    rows = await tx.all(select(url.c.digest).where(of_it).order_by(url.c.created_at.desc(), url.c.digest))
    surplus = [row.digest for row in rows[MOST_URLS - 1 :]]
    await tx.run(delete(url).where(of_it, or_(url.c.digest.in_(surplus), url.c.expires_at <= tx.now)))
    token = new_token()
    await tx.insert(url, [{"digest": digest(token), "source_id": source_id, "created_at": tx.now, "expires_at": None}])
    return token


async def note_use(tx: Transaction, source: Row[Any]) -> None:
    """Remember that events come in now; not every time, because all of them would wait for this one row."""
    noted = source.last_event_at
    if noted is None or tx.now - noted >= _USE_IS_NOTED_EVERY:
        await tx.run(update(sources).where(sources.c.id == source.id).values(last_event_at=tx.now))
