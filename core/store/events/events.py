"""Events that came in: an inbox that only grows, and the matcher's claim on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, SmallInteger, Table, delete, select, text

from core.domain import names
from core.domain.effects import EmitEvent
from core.domain.enrollment import Enrollment, EventFacts
from core.domain.filters import Expression
from core.domain.frozen import frozen
from core.store import paging
from core.store.filtering import to_sql
from core.store.metadata import (
    Instant,
    Json,
    Name,
    day_of,
    dump_json,
    from_micros,
    metadata,
    org_id,
    to_micros,
)
from core.store.transaction import Transaction, values_by_column

CHANGE_OF_RECORD = "record"
"""Type of the core's own events, which tell of changed records."""

DEDUPLICATION = timedelta(days=7)
"""How long a source's `message_id` is remembered: longer than any sender we know retries."""

events = Table(
    "events",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("source_id", Name, nullable=False),
    Column("event_type", Name, nullable=False),
    Column("event_name", Name, nullable=False),
    Column("fields", Json, nullable=False),
    Column("contact_id", Name),
    Column("occurred_at", Instant, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("message_id", Name, nullable=False),
    Column("identity_conflict", Json),
    # Set while the matcher has not looked at it.
    Column("match_due_at", Instant),
    # How many workflows in a row led to it.
    Column("hops", Integer, nullable=False, server_default=text("0")),
    # Who brought it: a principal, or what `askers` follows further.
    Column("actor", Name, nullable=False, server_default=""),
    Index(
        "events_unmatched",
        "org_id",
        "match_due_at",
        "id",
        "day",
        sqlite_where=text("match_due_at IS NOT NULL"),
        postgresql_where=text("match_due_at IS NOT NULL"),
    ),
    Index("events_contact", "contact_id", "org_id", "id"),
    postgresql_partition_by="RANGE (day)",
)

event_dedup = Table(
    "event_dedup",
    metadata,
    org_id(),
    Column("source_id", Name, primary_key=True),
    Column("message_id", Name, primary_key=True),
    Column("event_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("event_dedup_age", "created_at"),
)

_EVERY_DAY = (0, 2**31 - 1)
_EVENT_COLUMNS = [column.name for column in events.c]
_FACTS = (
    "e.org_id, e.id, e.event_name, e.event_type, e.fields, e.contact_id, e.occurred_at, e.received_at, e.source_id, "
    "e.hops"
)
_RETURNED = "org_id, id, event_name, event_type, fields, contact_id, occurred_at, received_at, source_id, hops"
# Which organizations have work: one index probe for each of them, and none for those that have not. It begins elsewhere
# each time: with more of them than a batch has room for, all have their turn. `$1` is the instant, `$2` the limit.
# They come in the order of the index of what waits: for the least one alone, all keys of a day may be read.
_WORKING = (
    "WITH RECURSIVE waiting(org_id) AS (SELECT (SELECT org_id FROM events WHERE match_due_at <= $1{days} "
    "ORDER BY org_id, match_due_at LIMIT 1) UNION ALL SELECT "
    "(SELECT e.org_id FROM events e WHERE e.org_id > waiting.org_id AND e.match_due_at <= $1{days} "
    "ORDER BY org_id, match_due_at LIMIT 1) "
    "FROM waiting WHERE waiting.org_id IS NOT NULL), "
    "found AS (SELECT org_id, row_number() OVER (ORDER BY org_id) - 1 AS place, count(*) OVER () AS number "
    "FROM waiting WHERE org_id IS NOT NULL), "
    "working AS (SELECT org_id, ($2 - 1) / number + 1 AS share FROM found "
    "WHERE (place + number - $1 % number) % number < $2)"
)
# What is asked of a few days opens the partitions of these alone: half of what a claim costs.
_DAYS = " AND day >= $3 AND day <= $4"
CLAIM_SQLITE = (
    f"{_WORKING.format(days='')} UPDATE events SET match_due_at = NULL WHERE rowid IN (SELECT e.rowid FROM working w "  # noqa: S608
    "CROSS JOIN events e ON e.rowid IN (SELECT rowid FROM events WHERE org_id = w.org_id AND match_due_at <= $1 "
    f"ORDER BY match_due_at, id LIMIT (SELECT max(share) FROM working))) RETURNING {_RETURNED}"
)
CLAIM_POSTGRESQL = (
    f"{_WORKING.format(days=_DAYS)}, claimed AS MATERIALIZED (SELECT e.* FROM working w CROSS JOIN LATERAL "  # noqa: S608
    f"(SELECT org_id, id, day FROM events WHERE org_id = w.org_id AND match_due_at <= $1{_DAYS} "
    "ORDER BY match_due_at, id LIMIT w.share FOR UPDATE SKIP LOCKED) e), "
    "taken AS (UPDATE events e SET match_due_at = NULL "
    # Arrays, not a join: for so few rows none of the tables is to be read from end to end, whatever is known of them.
    f"WHERE e.day = ANY(ARRAY(SELECT DISTINCT day FROM claimed)) AND e.id = ANY(ARRAY(SELECT id FROM claimed)){_DAYS} "
    f"AND e.org_id = ANY(ARRAY(SELECT DISTINCT org_id FROM claimed)) RETURNING {_FACTS}) "
    f"SELECT (SELECT json_agg(json_build_array({_FACTS})) FROM taken e)"
)
"""All that was claimed comes as one text, so that what else is asked about `taken` may stand beside it."""
_ARRIVED_ON = (
    "e.org_id = w.org_id AND e.contact_id = w.contact_id AND e.id >= w.first_id AND e.day >= w.day "
    "AND e.event_name = w.event_name AND e.received_at >= w.since AND e.received_at <= w.until"
)
_UNMATCHED = {False: "", True: "AND e.match_due_at IS NOT NULL "}
_ARRIVED_SQLITE = {
    unmatched: "WITH w AS MATERIALIZED (SELECT value ->> 0 AS org_id, value ->> 1 AS contact_id, "  # noqa: S608
    "value ->> 2 AS event_name, value ->> 3 AS first_id, value ->> 4 AS day, value ->> 5 AS since, "
    "value ->> 6 AS until FROM json_each($1)) "
    f"SELECT {_FACTS} FROM w CROSS JOIN events e ON {_ARRIVED_ON} {condition}ORDER BY e.id"
    for unmatched, condition in _UNMATCHED.items()
}
_ARRIVED_POSTGRESQL = {
    unmatched: f"SELECT {_FACTS} FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[], "  # noqa: S608
    "$7::bigint[]) AS w(org_id, contact_id, event_name, first_id, day, since, until) CROSS JOIN LATERAL "
    # Contact by contact: with OFFSET 0 no day is read from end to end, whatever is known of it.
    f"(SELECT * FROM events e WHERE {_ARRIVED_ON} {condition}OFFSET 0) e ORDER BY e.id"
    for unmatched, condition in _UNMATCHED.items()
}
_CLAIM_ID_POSTGRESQL = (
    "INSERT INTO event_dedup (org_id, source_id, message_id, event_id, created_at) "
    "SELECT $1::text, source_id, message_id, event_id, $2::bigint "
    "FROM unnest($3::text[], $4::text[], $5::text[]) AS w(source_id, message_id, event_id) "
    "ON CONFLICT DO NOTHING RETURNING source_id, message_id"
)
_CLAIM_ID_SQLITE = (
    "INSERT INTO event_dedup (org_id, source_id, message_id, event_id, created_at) SELECT $1, value ->> 0, "
    "value ->> 1, value ->> 2, $2 FROM json_each($3) WHERE true ON CONFLICT DO NOTHING RETURNING source_id, message_id"
)
_FIRST_POSTGRESQL = (
    "SELECT d.source_id, d.message_id, d.event_id FROM unnest($2::text[], $3::text[]) AS w(source_id, message_id) "
    "JOIN event_dedup d USING (source_id, message_id) WHERE d.org_id = $1"
)
_FIRST_SQLITE = (
    "SELECT d.source_id, d.message_id, d.event_id FROM json_each($2) w CROSS JOIN event_dedup d "
    "ON d.org_id = $1 AND d.source_id = (w.value ->> 0) AND d.message_id = (w.value ->> 1)"
)


@frozen
class NewEvent:
    """An event to store."""

    id: str
    source_id: str
    event_type: str
    event_name: str
    fields: Mapping[str, Any]
    contact_id: str | None
    occurred_at: datetime
    message_id: str
    identity_conflict: Sequence[Any] = ()
    """Identifiers of the event that name somebody else."""
    hops: int = 0
    """How many workflows in a row led to it."""
    history: bool = False
    """The matcher never gets to see it."""
    actor: str = ""
    """Who brought it: a principal, or `event:` or `enrollment:` with the id of what led to it."""


@frozen
class UnmatchedEvent:
    """An event that the matcher has yet to look at."""

    org_id: str
    contact_id: str | None
    facts: EventFacts

    @property
    def id(self) -> str:
        """Return the event's id."""
        return self.facts.id

    @property
    def name(self) -> str:
        """Return the event's name."""
        return self.facts.name


async def claim_message_ids(tx: Transaction, wanted: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Remember which event each `(source, message_id)` belongs to; return those that had one before, with it.

    Waits for a transaction that is bringing the same one.
    """
    if not wanted:
        return {}
    rows = sorted((*key, event_id) for key, event_id in wanted.items())
    now = to_micros(tx.now)
    if tx.dialect == "postgresql":
        won = await tx.fetch(_CLAIM_ID_POSTGRESQL, tx.org_id, now, *values_by_column(rows))
    else:
        won = await tx.fetch(_CLAIM_ID_SQLITE, tx.org_id, now, dump_json(rows))
    return await first_events(tx, set(wanted) - {(row[0], row[1]) for row in won})


async def first_events(tx: Transaction, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return the event that each `(source, message_id)` belongs to, where there is one."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        first = await tx.fetch(_FIRST_POSTGRESQL, tx.org_id, *values_by_column(wanted))
    else:
        first = await tx.fetch(_FIRST_SQLITE, tx.org_id, dump_json(wanted))
    if first:
        tx.repeats.add("event")
    return {(row[0], row[1]): row[2] for row in first}


async def forget_old_message_ids(tx: Transaction) -> int:
    """Delete deduplication ids that are older than they are kept, in a system transaction; return how many."""
    return await tx.run(delete(event_dedup).where(event_dedup.c.created_at < tx.now - DEDUPLICATION))


async def store(tx: Transaction, new: Sequence[NewEvent]) -> None:
    """Write events of the transaction's organization and wake the matcher."""
    await store_many(tx, [(tx.org_id, event) for event in new])


async def store_many(tx: Transaction, new: Sequence[tuple[str, NewEvent]]) -> None:
    """Write events, each with its organization, and wake the matcher; it never looks at history."""
    if not new:
        return
    rows = [
        (
            org, event.id, day_of(names.minted_at(event.id)), names.bucket(org), event.source_id, event.event_type,
            event.event_name, event.fields, event.contact_id, event.occurred_at, tx.now, event.message_id,
            [asdict(conflict) for conflict in event.identity_conflict] or None,
            None if event.history else tx.now, event.hops, event.actor,
        )
        for org, event in new
    ]  # fmt: skip
    await tx.bulk_insert(events, _EVENT_COLUMNS, rows)
    tx.wake("matcher")


async def emit_many(tx: Transaction, emitted: Sequence[tuple[Enrollment, EmitEvent]]) -> None:
    """Write the events that enrollments emit, as if they had come in."""
    await store_many(
        tx,
        [
            (
                enrollment.org_id,
                NewEvent(
                    effect.id, f"workflow:{enrollment.workflow_id}", "action", effect.name, effect.fields,
                    enrollment.contact_id, tx.now, "", hops=effect.hops, actor=enrollment.actor,
                ),
            )
            for enrollment, effect in emitted
        ],
    )  # fmt: skip


async def contacts_of(tx: Transaction, event_ids: Iterable[str]) -> dict[str, str | None]:
    """Return the contact of each of these events."""
    wanted = sorted(set(event_ids))
    if not wanted:
        return {}
    days = {day_of(names.minted_at(event_id)) for event_id in wanted}
    rows = await tx.all(
        select(events.c.id, events.c.contact_id).where(events.c.id.in_(wanted), events.c.day.in_(sorted(days)))
    )
    return {row.id: row.contact_id for row in rows}


def days_around(now: datetime, around: timedelta | None) -> tuple[int, int]:
    """Return the first and the last day of the events that come so long before or after an instant, or of all."""
    return _EVERY_DAY if around is None else (day_of(now - around), day_of(now + around))


def unmatched(rows: Iterable[Sequence[Any]]) -> list[UnmatchedEvent]:
    """Return claimed rows as events, in order of arrival."""
    return sorted((UnmatchedEvent(row[0], row[5], to_facts(row)) for row in rows), key=lambda event: event.id)


WaitKey = tuple[str, str, str, datetime | None, datetime | None]
"""Organization, contact, event name, and the first and last instant of arrival that count; no last one means now."""


async def take_unmatched(tx: Transaction, org: str, event_id: str) -> bool:
    """Take one event off the matcher's list, and tell whether it was still on it."""
    day = day_of(names.minted_at(event_id))
    on_it = "org_id = $1 AND id = $2 AND day = $3 AND match_due_at IS NOT NULL"
    return bool(await tx.fetch(f"UPDATE events SET match_due_at = NULL WHERE {on_it} RETURNING id", org, event_id, day))  # noqa: S608


async def put_off(tx: Transaction, org: str, event_id: str, until: datetime) -> None:
    """Match an event no earlier than this."""
    day = day_of(names.minted_at(event_id))
    sql = "UPDATE events SET match_due_at = $4 WHERE org_id = $1 AND id = $2 AND day = $3"
    await tx.fetch(sql, org, event_id, day, to_micros(until))


async def received_since(
    tx: Transaction, keys: Iterable[WaitKey], *, unmatched: bool = False
) -> dict[tuple[str, str, str], list[EventFacts]]:
    """Return the events that arrived in time for each key, oldest first: all, or only those not yet matched."""
    rows = [
        (
            org, contact, name, names.compose("evt", since, 0), day_of(since), to_micros(since),
            to_micros(until or tx.now),
        )
        for org, contact, name, since, until in keys
        if since is not None
    ]  # fmt: skip
    if not rows:
        return {}
    if tx.dialect == "postgresql":
        found = await tx.fetch(_ARRIVED_POSTGRESQL[unmatched], *values_by_column(rows))
    else:
        found = await tx.fetch(_ARRIVED_SQLITE[unmatched], dump_json(rows))
    arrived: dict[tuple[str, str, str], list[EventFacts]] = {}
    for row in found:
        arrived.setdefault((row[0], row[5], row[2]), []).append(to_facts(row))
    return arrived


def to_facts(row: Sequence[Any]) -> EventFacts:
    """Return a row of what arrived as decisions see it."""
    fields = json.loads(row[4]) if isinstance(row[4], str) else row[4]
    return EventFacts(row[1], row[2], row[3], fields, from_micros(row[6]), from_micros(row[7]), *row[8:])


async def page(
    tx: Transaction, size: int, token: str, *, filter_text: str = "", where: Expression | None = None
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of events that came in, newest first, and the next token; `where` is what `filter_text` says."""
    statement = select(events).where(events.c.event_type != CHANGE_OF_RECORD)
    if where is not None:
        statement = statement.where(to_sql(where, {column.name: column for column in events.c}, tx.dialect))
    return await paging.page(tx, statement, events.c.id, size, token, filter_text=filter_text)


async def newest_of(tx: Transaction, contact_id: str, limit: int) -> list[EventFacts]:
    """Return the newest events of a contact, the newest first; the core's own are among them."""
    rows = await tx.all(
        select(events).where(events.c.contact_id == contact_id).order_by(events.c.id.desc()).limit(limit)
    )
    about = ("id", "event_name", "event_type", "fields", "occurred_at", "received_at", "source_id", "hops")
    return [EventFacts(*(getattr(row, name) for name in about)) for row in rows]
