"""What came in and did not fit: kept as it came, until somebody mends the mapping or the schema, or puts it aside."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    Row,
    Select,
    Table,
    and_,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)

from core import ids
from core.domain import names
from core.domain.errors import QuarantineFull
from core.domain.frozen import frozen
from core.domain.records.ingestion import IncomingEvent
from core.store.metadata import Instant, Json, Name, dump_json, metadata, org_id, read_json
from core.store.transaction import Transaction

LARGEST_KEPT = 256 * 1024
"""Bytes of a body; what goes beyond is cut off, and such a body cannot be redriven."""

KEPT_WAITING = timedelta(days=90)
KEPT_ENDED = timedelta(days=30)
"""Both since it came."""

MOST_AT_ONCE = 1_000
MOST_WAITING = 10_000
"""Of a source; what would be more is refused, so that its sender keeps it."""


class QuarantineState(StrEnum):
    """Where something quarantined is in its life."""

    WAITING = "waiting"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class Form(StrEnum):
    """What the kept body is."""

    INBOUND = "inbound"
    """A body of another system's own form."""
    EVENT = "event"
    """An event of our own form, as `event_body` writes it."""


_WAITS = "state = 'waiting'"
_HAS_ID = "state = 'waiting' AND message_id <> ''"

quarantine = Table(
    "quarantine",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("source_id", Name, nullable=False),
    Column("form", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Column("field", Name, nullable=False),
    Column("message", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # In bytes, before anything was cut off.
    Column("body_length", Integer, nullable=False),
    # Those that mappings see.
    Column("headers", Json, nullable=False),
    Column("query", Json, nullable=False),
    # The deduplication key under which it came; empty where it has none.
    Column("message_id", Name, nullable=False),
    Column("received_at", Instant, nullable=False),
    # The event it became.
    Column("event_id", Name, nullable=False, server_default=""),
    Column("ended_at", Instant),
    Column("ended_by", Name, nullable=False, server_default=""),
    Index(
        "quarantine_waiting",
        "org_id",
        "source_id",
        "id",
        sqlite_where=text(_WAITS),
        postgresql_where=text(_WAITS),
    ),
    Index(
        "quarantine_message",
        "org_id",
        "source_id",
        "message_id",
        unique=True,
        sqlite_where=text(_HAS_ID),
        postgresql_where=text(_HAS_ID),
    ),
    Index("quarantine_age", "received_at"),
)


@frozen
class Misfit:
    """Something to keep apart."""

    source_id: str
    body: bytes = dataclasses.field(repr=False)
    reason: str
    field: str
    message: str
    message_id: str = ""
    form: str = Form.EVENT
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    query: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)


def event_body(event: IncomingEvent) -> bytes:
    """Return an event of our own form as it is kept."""
    return dump_json(asdict(event)).encode()


def event_of(body: bytes) -> IncomingEvent:
    """Return the event that `event_body` wrote."""
    return IncomingEvent(**read_json(body.decode()))


def is_whole(row: Row[Any]) -> bool:
    """Tell whether the body was kept to its end."""
    return bool(row.body_length == len(row.body))


async def keep(tx: Transaction, misfits: Sequence[Misfit]) -> list[str]:
    """Keep these apart and return their ids, in order; one whose message waits already has that one's id.

    Raises QuarantineFull: then the whole transaction is to be undone.
    """
    kept = await _put(tx, misfits)
    for source_id in sorted({one.source_id for one in misfits}):
        if await _waiting(tx, source_id) > MOST_WAITING:
            raise QuarantineFull(source_id=source_id, limit=MOST_WAITING)
    return kept


async def keep_some(tx: Transaction, misfits: Sequence[Misfit]) -> list[str]:
    """Keep of these what there is room for, in order; the id of one that is not kept is empty.

    What others keep at the same time is not counted: together they may go beyond the most by as much as one request.
    """
    there = await waiting_of(tx, {(one.source_id, one.message_id) for one in misfits if one.message_id})
    sources = {one.source_id for one in misfits}
    room = {source_id: MOST_WAITING - await _waiting(tx, source_id) for source_id in sorted(sources)}
    known, chosen = set(there), []
    for index, one in enumerate(misfits):
        key = (one.source_id, one.message_id)
        if key not in known:
            if room[one.source_id] <= 0:
                continue
            room[one.source_id] -= 1
            known |= {key} if one.message_id else set()
        chosen.append(index)
    kept = dict(zip(chosen, await _put(tx, [misfits[index] for index in chosen]) if chosen else (), strict=True))
    return [kept.get(index, "") for index in range(len(misfits))]


async def _put(tx: Transaction, misfits: Sequence[Misfit]) -> list[str]:
    minted = [_new_id(tx, index) for index in range(len(misfits))]
    left = dict(zip(minted, misfits, strict=True))
    under: dict[str, str] = {}
    while left:
        await tx.insert(quarantine, [_row(row_id, one, tx) for row_id, one in left.items()], on_conflict="ignore")
        there = await waiting_of(tx, {(one.source_id, one.message_id) for one in left.values() if one.message_id})
        under |= {row_id: there.get((one.source_id, one.message_id), "") for row_id, one in left.items()}
        under |= {row_id: row_id for row_id, one in left.items() if not one.message_id}
        left = {row_id: one for row_id, one in left.items() if not under[row_id]}  # redriven just now by somebody else
    return [under[row_id] for row_id in minted]


async def _waiting(tx: Transaction, source_id: str) -> int:
    wanted = quarantine.c.source_id == source_id, quarantine.c.state == literal_column("'waiting'")  # as in the index
    row = await tx.first(select(func.count(quarantine.c.id).label("waiting")).where(*wanted))
    return 0 if row is None else int(row.waiting)


def _new_id(tx: Transaction, index: int) -> str:
    """Return a new id: within a batch, later ones sort after earlier ones."""
    return names.compose("qtn", tx.now, (index << 64) | int.from_bytes(ids.new_secret_bytes(8)))


def _row(row_id: str, misfit: Misfit, tx: Transaction) -> dict[str, Any]:
    return {
        "id": row_id,
        "source_id": misfit.source_id,
        "form": misfit.form,
        "reason": misfit.reason,
        "field": misfit.field,
        "message": misfit.message,
        "state": QuarantineState.WAITING,
        "body": misfit.body[:LARGEST_KEPT],
        "body_length": len(misfit.body),
        "headers": dict(misfit.headers),
        "query": dict(misfit.query),
        "message_id": misfit.message_id,
        "received_at": tx.now,
    }


async def waiting_of(tx: Transaction, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return what waits under each `(source, message_id)`, by its id."""
    by_source: dict[str, set[str]] = {}
    for source_id, message_id in keys:
        by_source.setdefault(source_id, set()).add(message_id)
    if not by_source:
        return {}
    table = quarantine
    named = [
        and_(table.c.source_id == source_id, table.c.message_id.in_(sorted(message_ids)))
        for source_id, message_ids in sorted(by_source.items())
    ]
    wanted = table.c.state == QuarantineState.WAITING, table.c.message_id != "", or_(*named)
    rows = await tx.all(select(table.c.id, table.c.source_id, table.c.message_id).where(*wanted))
    return {(row.source_id, row.message_id): row.id for row in rows}


async def came_after_all(tx: Transaction, source_id: str, event_ids: Mapping[str, str], by: str) -> None:
    """Note that messages which waited were sent again and fit now; `event_ids` has the event of each message id."""
    waiting = await waiting_of(tx, {(source_id, message_id) for message_id in event_ids})
    await redriven(tx, {row_id: event_ids[message_id] for (_, message_id), row_id in waiting.items()}, by)


async def redriven(tx: Transaction, event_ids: Mapping[str, str], by: str) -> None:
    """Note which event each of these became."""
    if event_ids:
        became = case(dict(event_ids), value=quarantine.c.id)
        values = {"state": QuarantineState.REDRIVEN, "event_id": became, "ended_at": tx.now, "ended_by": by}
        await tx.run(update(quarantine).where(quarantine.c.id.in_(sorted(event_ids))).values(values))


async def misfit_again(tx: Transaction, row_id: str, reason: str, field_: str, message: str) -> None:
    """Note why something still does not fit."""
    values = {"reason": reason, "field": field_, "message": message}
    await tx.run(update(quarantine).where(quarantine.c.id == row_id).values(values))


async def discard(tx: Transaction, row_ids: Sequence[str], by: str) -> int:
    """Put aside what waits among these and return how many there were."""
    values = {"state": QuarantineState.DISCARDED, "ended_at": tx.now, "ended_by": by}
    wanted = quarantine.c.id.in_(sorted(row_ids)), quarantine.c.state == QuarantineState.WAITING
    return await tx.run(update(quarantine).where(*wanted).values(values))


def listing() -> Select[Any]:
    """Return the query of what is quarantined, without bodies."""
    return select(*(column for column in quarantine.c if column.name not in ("body", "headers", "query")))


async def get(tx: Transaction, row_id: str) -> Row[Any] | None:
    """Return one with its body, or None."""
    return await tx.first(select(quarantine).where(quarantine.c.id == row_id))


async def hold(tx: Transaction, row_ids: Iterable[str], *, whole: bool = False) -> dict[str, Row[Any]]:
    """Return those with these ids, by id, held until the transaction ends; bodies and headers only with `whole`."""
    statement = select(quarantine) if whole else listing()
    wanted = statement.where(quarantine.c.id.in_(sorted(set(row_ids)))).order_by(quarantine.c.id)
    return {row.id: row for row in await tx.all(wanted.with_for_update())}


async def oldest_waiting(tx: Transaction, source_id: str) -> list[str]:
    """Return ids of what waits of a source, oldest first."""
    wanted = quarantine.c.source_id == source_id, quarantine.c.state == QuarantineState.WAITING
    rows = await tx.all(select(quarantine.c.id).where(*wanted).order_by(quarantine.c.id).limit(MOST_AT_ONCE))
    return [row.id for row in rows]


async def counts(tx: Transaction, source_ids: Iterable[str]) -> dict[str, int]:
    """Return how many wait of each source that has any."""
    table = quarantine
    wanted = table.c.source_id.in_(sorted(set(source_ids))), table.c.state == QuarantineState.WAITING
    rows = await tx.all(
        select(table.c.source_id, func.count().label("waiting")).where(*wanted).group_by(table.c.source_id)
    )
    return {row.source_id: row.waiting for row in rows}


async def forget_old(tx: Transaction) -> int:
    """Delete what has been here too long, in a system transaction; return how many."""
    received = quarantine.c.received_at
    over = or_(quarantine.c.state != QuarantineState.WAITING, received < tx.now - KEPT_WAITING)
    return await tx.run(delete(quarantine).where(received < tx.now - KEPT_ENDED, over))
