"""Routings and their versions, and the turns that each of their rules gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, select, update

from core.domain import names
from core.domain.routing import turns as turning
from core.domain.routing.turns import Turns
from core.domain.workflow import own_kinds
from core.domain.workflow.own_kinds import OwnKinds
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import page
from core.store.transaction import Transaction

routings = Table(
    "routings",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("title", Name, nullable=False),
    Column("newest_version", Integer, nullable=False),
    # A time-ordered key of the newest publication: ids are chosen by people, so they cannot order a list by age.
    Column("published", Name, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("routings_published", "org_id", "published", unique=True),
)

routing_versions = Table(
    "routing_versions",
    metadata,
    org_id(),
    Column("routing_id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("title", Name, nullable=False),
    Column("source", Name, nullable=False),
    # The kinds of own fields it was checked with, by whole name: what is defined later changes nothing.
    Column("own_kinds", Json, nullable=False),
    Column("published_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

routing_turns = Table(
    "routing_turns",
    metadata,
    org_id(),
    Column("routing_id", Name, primary_key=True),
    # Rules keep their turns from version to version.
    Column("rule_id", Name, primary_key=True),
    Column("turns", Json, nullable=False),
)

_LOCK = ""
"""The routing and the rule of the row that whoever gives a lead holds."""


async def hold(tx: Transaction) -> None:
    """Make everybody else who gives a lead wait until this transaction ends.

    One lock for an organization: what a person has room for is asked by all of its routings. It comes before the locks
    of records.
    """
    lock = {"routing_id": _LOCK, "rule_id": _LOCK, "turns": {}}
    await tx.insert(routing_turns, [lock], on_conflict="ignore")
    held = (routing_turns.c.routing_id == _LOCK) & (routing_turns.c.rule_id == _LOCK)
    await tx.first(select(routing_turns.c.rule_id).where(held).with_for_update())


async def publish(
    tx: Transaction, routing_id: str, *, title: str, source: str, published_by: str, own: OwnKinds = own_kinds.NONE
) -> Row[Any]:
    """Add the next version of a routing and return it; of two at once, one waits and gets the later number."""
    fresh = {"title": title, "newest_version": 0, "published": f"{routing_id}#0", "updated_at": tx.now}
    await tx.insert(routings, [{"id": routing_id, **fresh}], on_conflict="ignore")
    row = await tx.first(select(routings).where(routings.c.id == routing_id).with_for_update())
    assert row is not None, "it was inserted, or was there"
    version = row.newest_version + 1
    published = names.derive("rte", tx.now, routing_id, version)
    changed = {"title": title, "newest_version": version, "published": published, "updated_at": tx.now}
    await tx.run(update(routings).where(routings.c.id == routing_id).values(changed))
    about = {"title": title, "source": source, "published_by": published_by, "created_at": tx.now}
    about["own_kinds"] = own_kinds.as_json(own)
    await tx.insert(routing_versions, [{"routing_id": routing_id, "version": version, **about}])
    found = await get_version(tx, routing_id, version)
    assert found is not None, "it was just written"
    return found


async def get_version(tx: Transaction, routing_id: str, version: int = 0) -> Row[Any] | None:
    """Return a version of a routing, the newest for 0, or None."""
    table = routing_versions
    statement = select(table).where(table.c.routing_id == routing_id).order_by(table.c.version.desc()).limit(1)
    return await tx.first(statement.where(table.c.version == version) if version else statement)


async def list_newest(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of routings, the most recently published first, and the token of the next."""
    return await page(tx, select(routings), routings.c.published, size, token)


async def ids(tx: Transaction) -> list[str]:
    """Return the ids of the routings there are, for hints."""
    return [row.id for row in await tx.all(select(routings.c.id).order_by(routings.c.id).limit(200))]


async def turns_of(tx: Transaction, routing_id: str) -> dict[str, Turns]:
    """Return the turns that a routing's rules gave so far, by rule."""
    here = routing_turns.c.routing_id == routing_id
    rows = await tx.all(select(routing_turns.c.rule_id, routing_turns.c.turns).where(here))
    return {row.rule_id: turning.from_json(row.turns) for row in rows}


async def keep_turns(tx: Transaction, routing_id: str, rule_id: str, turns: Turns) -> None:
    """Write the turns of a rule; the caller holds the lock."""
    stored: Mapping[str, Any] = turns.as_json
    row = {"routing_id": routing_id, "rule_id": rule_id, "turns": stored}
    if not await tx.insert(routing_turns, [row], on_conflict="ignore"):
        here = (routing_turns.c.routing_id == routing_id) & (routing_turns.c.rule_id == rule_id)
        await tx.run(update(routing_turns).where(here).values(turns=stored))
