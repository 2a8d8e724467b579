"""When and how much each member can take on, and what they have taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Column, Table, func, select, update

from core.domain.records.standard import CLOSED_LEAD_STATUSES
from core.domain.routing import availability as domain
from core.domain.routing.availability import Availability
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.qualification.assignments import assignments
from core.store.records.record_rows import records
from core.store.transaction import Transaction

member_availability = Table(
    "member_availability",
    metadata,
    org_id(),
    Column("member_id", Name, primary_key=True),
    Column("availability", Json, nullable=False),
    Column("updated_at", Instant, nullable=False),
)


async def put(tx: Transaction, member_id: str, given: Availability) -> None:
    """Replace what is known of a member."""
    row = {"availability": domain.to_json(given), "updated_at": tx.now}
    if not await tx.insert(member_availability, [{"member_id": member_id, **row}], on_conflict="ignore"):
        await tx.run(update(member_availability).where(member_availability.c.member_id == member_id).values(**row))


async def of(tx: Transaction, member_ids: Iterable[str]) -> dict[str, Availability]:
    """Return what is known of members; whoever never said anything is always there."""
    wanted = sorted(set(member_ids))
    table = member_availability
    rows = await tx.all(select(table).where(table.c.member_id.in_(wanted))) if wanted else ()
    said = {row.member_id: domain.from_json(row.availability) for row in rows}
    return {member: said.get(member, Availability()) for member in wanted}


async def got_since(tx: Transaction, since: Mapping[str, datetime], *, but: str = "") -> dict[str, int]:
    """Return how many leads members got since an instant of each; the lead `but` does not count."""
    found: dict[str, int] = {}
    for instant in set(since.values()):
        together = sorted(member for member, began in since.items() if began == instant)
        statement = (
            select(assignments.c.member_id, func.count().label("taken"))
            .where(
                assignments.c.member_id.in_(together),
                assignments.c.created_at >= instant,
                assignments.c.lead_id != but,
            )
            .group_by(assignments.c.member_id)
        )
        found |= {row.member_id: int(row.taken) for row in await tx.all(statement)}
    return found


async def open_leads(tx: Transaction, member_ids: Sequence[str], *, but: str = "") -> dict[str, int]:
    """Return how many leads members own that are not closed; the lead `but` does not count."""
    if not member_ids:
        return {}
    status = func.coalesce(records.c.status, "new")
    statement = (
        select(records.c.owner_id, func.count().label("taken"))
        .where(
            records.c.type == "lead",
            records.c.owner_id.in_(sorted(member_ids)),
            records.c.id != but,
            records.c.deleted_at.is_(None),
            status.not_in(sorted(CLOSED_LEAD_STATUSES)),
        )
        .group_by(records.c.owner_id)
    )
    return {row.owner_id: int(row.taken) for row in await tx.all(statement)}
