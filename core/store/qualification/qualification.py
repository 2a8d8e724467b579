"""Scoring models and their versions, and whose turn it is in a model's own routing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, select, text, update

from core.domain import names
from core.domain.workflow import own_kinds
from core.domain.workflow.own_kinds import OwnKinds
from core.store import paging
from core.store.events.events import CHANGE_OF_RECORD, events
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

scoring_models = Table(
    "scoring_models",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("title", Name, nullable=False),
    Column("newest_version", Integer, nullable=False),
    # The one in use; 0 for the newest, whichever that is.
    Column("active_version", Integer, nullable=False, server_default=text("0")),
    # A time-ordered key of the newest publication: ids are chosen by people, so they cannot order a list by age.
    Column("published", Name, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("scoring_models_published", "org_id", "published", unique=True),
)

scoring_model_versions = Table(
    "scoring_model_versions",
    metadata,
    org_id(),
    Column("model_id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("title", Name, nullable=False),
    Column("source", Name, nullable=False),
    Column("document", Json, nullable=False),
    # The kinds of own fields it was checked with, by whole name: what is defined later changes nothing.
    Column("own_kinds", Json, nullable=False),
    Column("published_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

routing_cursors = Table(
    "routing_cursors",
    metadata,
    org_id(),
    Column("model_id", Name, primary_key=True),
    Column("position", Integer, nullable=False),
)

_LATELY = 5_000
"""Events that are looked at to tell which names come in."""


async def publish(
    tx: Transaction,
    model_id: str,
    *,
    title: str,
    source: str,
    document: Mapping[str, Any],
    published_by: str,
    own: OwnKinds = own_kinds.NONE,
    activate: bool = True,
) -> Row[Any]:
    """Add the next version of a model and return it; of two at once, one waits and gets the later number.

    The first version is active whatever is said.
    """
    fresh = {"title": title, "newest_version": 0, "published": f"{model_id}#0", "updated_at": tx.now}
    fresh["active_version"] = 0
    await tx.insert(scoring_models, [{"id": model_id, **fresh}], on_conflict="ignore")
    model = await tx.first(select(scoring_models).where(scoring_models.c.id == model_id).with_for_update())
    assert model is not None
    version = model.newest_version + 1
    published = names.derive("mdl", tx.now, model_id, version)
    changed = {"title": title, "newest_version": version, "published": published, "updated_at": tx.now}
    changed["active_version"] = version if activate else active_version(model) or version
    await tx.run(update(scoring_models).where(scoring_models.c.id == model_id).values(changed))
    row = {
        "model_id": model_id,
        "version": version,
        "title": title,
        "source": source,
        "document": document,
        "own_kinds": own_kinds.as_json(own),
        "published_by": published_by,
        "created_at": tx.now,
    }
    await tx.insert(scoring_model_versions, [row])
    found = await get_version(tx, model_id, version)
    assert found is not None
    return found


async def get_version(tx: Transaction, model_id: str, version: int = 0) -> Row[Any] | None:
    """Return a version of a model, the newest for 0, or None."""
    table = scoring_model_versions
    statement = select(table).where(table.c.model_id == model_id).order_by(table.c.version.desc()).limit(1)
    return await tx.first(statement.where(table.c.version == version) if version else statement)


async def get_model(tx: Transaction, model_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a model, or None; `lock` holds it until the transaction ends."""
    statement = select(scoring_models).where(scoring_models.c.id == model_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def get_active(tx: Transaction, model_id: str) -> Row[Any] | None:
    """Return the version of a model that is in use, or None."""
    model = await get_model(tx, model_id)
    return None if model is None else await get_version(tx, model_id, model.active_version)


def active_version(model: Row[Any]) -> int:
    """Return which version of a model is in use."""
    return int(model.active_version or model.newest_version)


async def activate(tx: Transaction, model_id: str, version: int) -> None:
    """Make a version the one in use; the caller holds the model."""
    where = scoring_models.c.id == model_id
    await tx.run(update(scoring_models).where(where).values(active_version=version, updated_at=tx.now))


async def versions_page(tx: Transaction, model_id: str, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of a model's versions, newest first, and the token of the next."""
    table = scoring_model_versions
    statement = select(table).where(table.c.model_id == model_id).order_by(table.c.version.desc())
    here, size = f"versions:{model_id}", paging.page_size(size)
    if token:
        statement = statement.where(table.c.version < int(paging.decode_token(token, here)))
    rows = await tx.all(statement.limit(size + 1))
    more = len(rows) > size
    return rows[:size], paging.encode_token(str(rows[size - 1].version), here) if more else ""


async def recent_event_names(tx: Transaction) -> frozenset[str]:
    """Return the names of events that came in of late."""
    statement = select(events.c.event_name).where(events.c.event_type != CHANGE_OF_RECORD)
    rows = await tx.all(statement.order_by(events.c.id.desc()).limit(_LATELY))
    return frozenset(row.event_name for row in rows)


async def list_newest(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of models, the most recently published first, and the token of the next."""
    statement = select(scoring_models)
    return await paging.page(tx, statement, scoring_models.c.published, size, token)


async def model_ids(tx: Transaction) -> list[str]:
    """Return the ids of the models there are, for hints."""
    return [row.id for row in await tx.all(select(scoring_models.c.id).order_by(scoring_models.c.id).limit(200))]


async def cursor(tx: Transaction, model_id: str, *, lock: bool = False) -> int:
    """Return whose turn it is; `lock` makes everybody else who wants a turn of this model wait."""
    here = routing_cursors.c.model_id == model_id
    statement = select(routing_cursors.c.position).where(here)
    if lock:
        await tx.insert(routing_cursors, [{"model_id": model_id, "position": 0}], on_conflict="ignore")
        statement = statement.with_for_update()
    row = await tx.first(statement)
    return 0 if row is None else int(row.position)


async def move_cursor(tx: Transaction, model_id: str, position: int) -> None:
    """Set whose turn is next; the caller holds the cursor."""
    await tx.run(update(routing_cursors).where(routing_cursors.c.model_id == model_id).values(position=position))
