"""Scoring models and their versions, plans, and whose turn it is in routing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, and_, select, update

from core.domain import names
from core.domain.enrollment import EventFacts
from core.domain.qualification.facts import Origin
from core.store.events import events
from core.store.metadata import Instant, Json, Name, day_of, metadata, org_id
from core.store.paging import page
from core.store.record_rows import record_changes
from core.store.transaction import Transaction

scoring_models = Table(
    "scoring_models",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("title", Name, nullable=False),
    Column("newest_version", Integer, nullable=False),
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
    Column("published_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

plans = Table(
    "plans",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("kind", Name, nullable=False),
    Column("hash", Name, nullable=False),
    Column("body", Json, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("applied_at", Instant),
)

routing_cursors = Table(
    "routing_cursors",
    metadata,
    org_id(),
    Column("model_id", Name, primary_key=True),
    Column("position", Integer, nullable=False),
)

_EVENT_COLUMNS = ("id", "event_name", "event_type", "fields", "occurred_at", "received_at")
_MOST_EVENTS = 500


async def publish(
    tx: Transaction, model_id: str, *, title: str, source: str, document: Mapping[str, Any], published_by: str
) -> Row[Any]:
    """Add the next version of a model and return it; of two at once, one waits and gets the later number."""
    fresh = {"title": title, "newest_version": 0, "published": f"{model_id}#0", "updated_at": tx.now}
    await tx.insert(scoring_models, [{"id": model_id, **fresh}], on_conflict="ignore")
    model = await tx.first(select(scoring_models).where(scoring_models.c.id == model_id).with_for_update())
    assert model is not None
    version = model.newest_version + 1
    published = names.derive("mdl", tx.now, model_id, version)
    changed = {"title": title, "newest_version": version, "published": published, "updated_at": tx.now}
    await tx.run(update(scoring_models).where(scoring_models.c.id == model_id).values(changed))
    row = {
        "model_id": model_id,
        "version": version,
        "title": title,
        "source": source,
        "document": document,
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


async def list_newest(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of models, the most recently published first, and the token of the next."""
    statement = select(scoring_models)
    return await page(tx, statement, scoring_models.c.published, size, token)


async def model_ids(tx: Transaction) -> list[str]:
    """Return the ids of the models there are, for hints."""
    return [row.id for row in await tx.all(select(scoring_models.c.id).order_by(scoring_models.c.id).limit(200))]


async def keep_plan(
    tx: Transaction, plan_id: str, *, kind: str, digest: str, body: Mapping[str, Any], by: str, expires_at: datetime
) -> None:
    """Store a plan."""
    row = {
        "id": plan_id,
        "kind": kind,
        "hash": digest,
        "body": body,
        "created_by": by,
        "created_at": tx.now,
        "expires_at": expires_at,
        "applied_at": None,
    }
    await tx.insert(plans, [row])


async def get_plan(tx: Transaction, plan_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a plan, or None; `lock` holds it until the transaction ends."""
    statement = select(plans).where(plans.c.id == plan_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def extend_plan(tx: Transaction, plan_id: str, expires_at: datetime) -> None:
    """Let a plan last longer."""
    await tx.run(update(plans).where(plans.c.id == plan_id).values(expires_at=expires_at))


async def mark_applied(tx: Transaction, plan_id: str) -> bool:
    """Note that a plan is applied now and tell whether it was not before."""
    unapplied = and_(plans.c.id == plan_id, plans.c.applied_at.is_(None))
    return bool(await tx.run(update(plans).where(unapplied).values(applied_at=tx.now)))


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


async def field_origins(tx: Transaction, record_id: str, until: datetime | None) -> dict[str, Origin]:
    """Return who last set each field of a record and when, up to an instant where one is given, by dotted path."""
    statement = select(record_changes.c.field, record_changes.c.actor, record_changes.c.created_at)
    statement = statement.where(record_changes.c.record_id == record_id).order_by(record_changes.c.id)
    if until is not None:
        statement = statement.where(record_changes.c.created_at <= until)
    return {row.field: Origin(row.actor, row.created_at) for row in await tx.all(statement)}


async def contact_events(
    tx: Transaction, contact_id: str, event_names: Iterable[str], since: datetime, until: datetime
) -> tuple[EventFacts, ...]:
    """Return the contact's events of these names that were received between two instants, oldest first.

    Of more than 500 only the newest count: no rule's cap is that far away.
    """
    table = events
    rows = await tx.all(
        select(*(table.c[name] for name in _EVENT_COLUMNS))
        .where(
            table.c.contact_id == contact_id,
            table.c.id >= names.compose("evt", since, 0),
            table.c.day >= day_of(since),
            table.c.event_name.in_(sorted(event_names)),
            table.c.received_at <= until,
        )
        .order_by(table.c.id.desc())
        .limit(_MOST_EVENTS)
    )
    return tuple(EventFacts(*row) for row in reversed(rows))
