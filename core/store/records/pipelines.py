"""Pipelines of organizations, and what stands in their stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Column, Row, Select, Table, func, select, update

from core.domain.errors import Violation
from core.domain.records import pipelines as rules
from core.domain.records.pipelines import MOST_PIPELINES, Pipeline, Stage
from core.store.filtering import JsonPath, json_text
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.records.record_rows import records
from core.store.transaction import Transaction

OPPORTUNITY = "opportunity"
_log = structlog.get_logger()

pipelines = Table(
    "pipelines",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("display_name", Name, nullable=False),
    Column("stages", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)


def to_domain(row: Row[Any]) -> Pipeline:
    """Return a row as a pipeline."""
    return Pipeline(row.id, row.display_name, tuple(Stage.of(one) for one in row.stages))


def listing() -> Select[Any]:
    """Return the query of pipelines."""
    return select(pipelines)


async def get(tx: Transaction, pipeline_id: str, *, lock: bool = False) -> Pipeline | None:
    """Return a pipeline, or None; `lock` lets nobody move an opportunity in it until the transaction ends."""
    statement = select(pipelines).where(pipelines.c.id == pipeline_id)
    row = await tx.first(statement.with_for_update() if lock else statement)
    return None if row is None else to_domain(row)


async def count(tx: Transaction) -> int:
    """Return how many pipelines there are."""
    row = await tx.first(select(func.count(pipelines.c.id).label("number")).select_from(pipelines))
    return 0 if row is None else int(row.number)


async def put(tx: Transaction, pipeline: Pipeline) -> None:
    """Write a pipeline, or what it is from now on."""
    stages = [one.to_json() for one in pipeline.stages]
    values = {"display_name": pipeline.display_name, "stages": stages, "updated_at": tx.now}
    if not await tx.run(update(pipelines).where(pipelines.c.id == pipeline.id).values(values)):
        await tx.insert(pipelines, [{"id": pipeline.id, "created_at": tx.now, **values}])


async def place(
    tx: Transaction, moves: Sequence[tuple[Mapping[str, Any], Mapping[str, Any], str]]
) -> list[tuple[dict[str, Any], list[Violation]]]:
    """Return the patches of opportunities with what their stages say; each move is fields before, patch, path.

    Nobody takes stages away until the transaction ends.
    """
    known = await _held(tx)
    return [rules.place(known, before, patch, path) for before, patch, path in moves]


async def _held(tx: Transaction) -> list[Pipeline]:
    order = select(pipelines).order_by(pipelines.c.created_at, pipelines.c.id).limit(MOST_PIPELINES)
    return [to_domain(row) for row in await tx.all(order.with_for_update(read=True))]


async def placed(
    tx: Transaction, record_id: str, before: Mapping[str, Any], patch: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the patch of an opportunity with what its stage says; a stage that there is not is left out."""
    known = await _held(tx)
    _, wrong = rules.place(known, before, patch, "")
    if wrong:
        _log.warning("a stage that there is not was left out", record=record_id, field=wrong[0].field)
    return rules.placed(known, before, patch)


async def of_organizations(tx: Transaction, orgs: Collection[str]) -> dict[str, tuple[Pipeline, ...]]:
    """Return the pipelines of organizations, the oldest first; works in a loop's transaction too."""
    table = pipelines
    order = select(table).where(table.c.org_id.in_(sorted(orgs))).order_by(table.c.created_at, table.c.id)
    found: dict[str, tuple[Pipeline, ...]] = {}
    for row in await tx.all(order):
        found[row.org_id] = (*found.get(row.org_id, ()), to_domain(row))
    return found


async def standing(tx: Transaction, pipeline_id: str) -> Sequence[tuple[str, str | None, int]]:
    """Return how many opportunities of a pipeline stand in each stage with each amount: stage, amount, number."""
    inside, stage, amount = (
        json_text(JsonPath(records.c.fields, (name,)), tx.dialect) for name in ("pipeline_id", "stage_id", "amount")
    )
    rows = await tx.all(
        select(stage.label("stage"), amount.label("amount"), func.count(records.c.id).label("number"))
        .where(records.c.type == OPPORTUNITY, records.c.deleted_at.is_(None), inside == pipeline_id)
        .group_by("stage", "amount")
    )
    return [(row.stage or "", row.amount, row.number) for row in rows]
