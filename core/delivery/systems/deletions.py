"""Deletions that travel: what was deleted there goes here, what was deleted here goes there.

Either can be undone: here a record is only out of sight, there it is archived or lies in the recycle bin. Where the
other side has changed the record since both were last in step, a rule decides, and where it decides against the
deletion, each side stays as it is and the outcome says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from core.delivery.systems import translating
from core.delivery.systems.client import System, Theirs, Write, Wrote
from core.domain.frozen import frozen
from core.domain.records.schema import Schema
from core.domain.systems import comparison
from core.domain.systems.comparison import Side
from core.domain.systems.settings import SystemSettings, TypeMapping
from core.store.merging import merges
from core.store.merging.merging import lock_work
from core.store.records import deleting, record_rows, record_schema
from core.store.records.record_rows import Record
from core.store.systems import sync_links
from core.store.systems.sync_links import Link
from core.store.systems.syncs import Item
from core.store.transaction import Transaction

Leave = Callable[[Transaction, Sequence[str], str, str], Awaitable[None]]
"""Ends, in the same transaction, what runs for contacts that go: their ids, who did it, and why."""

_REASON = "The contact was deleted in the system of record."


@frozen
class Gone:
    """Records that were deleted here, with what is remembered of them."""

    records: tuple[tuple[Record, Link], ...]
    merged: frozenset[str]
    schema: Schema


@frozen
class Carried:
    """What became of a batch of deletions, and which links that ends or settles."""

    items: tuple[Item, ...]
    ended: tuple[str, ...]
    settled: Mapping[str, int]


async def take(
    tx: Transaction,
    sync: Row[Any],
    settings: SystemSettings,
    mapping: TypeMapping,
    found: Sequence[Theirs],
    leave: Leave,
) -> list[Item]:
    """Delete here what was deleted there, and return what became of each; a preview only tells."""
    links = await sync_links.of_externals(tx, sync.connection_id, mapping.type, [one.id for one in found])
    named = sorted(link.record_id for link in links.values())
    if not named:
        return []
    await lock_work(tx, *named)
    held = await record_rows.hold(tx, [(tx.org_id, record_id) for record_id in named])
    items, going, ended = [], [], []
    for one in found:
        link = links.get(one.id)
        if link is None:
            continue
        record = held.get((tx.org_id, link.record_id))
        if record is None:  # gone on both sides
            ended.append(link.record_id)
        elif _goes_here(settings, mapping, record, link, one):
            going.append(record)
            items.append(Item(record.id, one.id, mapping.type, "deleted_here"))
        else:
            hint = "Restore it there, or delete it here."
            error = "it was deleted there and changed here"
            items.append(Item(record.id, one.id, mapping.type, "conflict", error=error, hint=hint))
    if not sync.preview:
        await _delete(tx, sync, going, leave)
        await sync_links.remove(tx, sync.connection_id, [*ended, *(record.id for record in going)])
    return items


async def next_batch(tx: Transaction, sync: Row[Any], mapping: TypeMapping, size: int) -> Gone:
    """Return the next records that were deleted here since they were last in step."""
    found = await sync_links.of_deleted(tx, sync.connection_id, mapping.type, sync.cursor, size)
    merged = await merges.standing_of(tx, [record.id for record, _ in found])
    return Gone(tuple(found), frozenset(merged), await record_schema.of(tx))


async def push(system: System, settings: SystemSettings, mapping: TypeMapping, gone: Gone, *, preview: bool) -> Carried:
    """Delete there what was deleted here. Raises what the client raises: then the batch comes again."""
    chosen = [(record, link) for record, link in gone.records if record.id not in gone.merged]
    there = await system.by_id(mapping, [link.external_id for _, link in chosen]) if chosen else {}
    going = [
        (record, link)
        for record, link in chosen
        if link.external_id not in there
        or _goes_there(settings, mapping, record, link, there[link.external_id], gone.schema)
    ]
    writes = [Write(record.id, "", link.external_id, {}, record.rev) for record, link in going]
    wrote = await system.delete(mapping, writes) if writes and not preview else [Wrote()] * len(writes)
    done = {write.record_id: one for write, one in zip(writes, wrote, strict=False)}
    items = [_item(mapping, record, link, gone, done) for record, link in gone.records]
    return Carried(
        tuple(items),
        tuple(item.record_id for item in items if item.outcome == "deleted_there"),
        {
            record.id: record.rev
            for (record, _), item in zip(gone.records, items, strict=True)
            if item.outcome in ("conflict", "skipped")
        },
    )


async def remember(tx: Transaction, sync: Row[Any], carried: Carried) -> None:
    """Forget the links of what is gone on both sides, and note what is not to be asked again; a preview does not."""
    if not sync.preview:
        await sync_links.remove(tx, sync.connection_id, carried.ended)
        await sync_links.settle(tx, sync.connection_id, carried.settled)


async def _delete(tx: Transaction, sync: Row[Any], going: Sequence[Record], leave: Leave) -> None:
    if not going:
        return
    actor, cause = f"connection:{sync.connection_id}", f"sync:{sync.id}"
    contacts = [record.id for record in going if record.type == "contact"]
    if contacts:
        await leave(tx, contacts, actor, _REASON)
    written = await deleting.delete(tx, going, actor=actor, cause=cause)
    # Leads go with their contact; that is no reason to delete them there.
    await sync_links.settle(tx, sync.connection_id, {one.record.id: one.record.rev for one in written})


def _goes_here(settings: SystemSettings, mapping: TypeMapping, record: Record, link: Link, there: Theirs) -> bool:
    """Tell whether a deletion there holds for the record here, which perhaps was changed."""

    def later() -> Side:
        return "ours" if there.modified_at is None or record.updated_at > there.modified_at else "theirs"

    changed = comparison.differs(mapping.fields, translating.ours(mapping, record.fields), link.base)
    return comparison.deletion_holds(settings.deletion_conflict, changed=changed, deleted_here=False, later=later)


def _goes_there(
    settings: SystemSettings, mapping: TypeMapping, record: Record, link: Link, there: Theirs, schema: Schema
) -> bool:
    """Tell whether a deletion here holds for the record there, which perhaps was changed."""

    def later() -> Side:
        known = there.modified_at is not None and record.deleted_at is not None
        return "ours" if known and record.deleted_at > there.modified_at else "theirs"  # type: ignore[operator]

    values, _ = translating.theirs(mapping, there, schema)
    changed = comparison.differs(mapping.fields, values, link.base)
    return comparison.deletion_holds(settings.deletion_conflict, changed=changed, deleted_here=True, later=later)


def _item(mapping: TypeMapping, record: Record, link: Link, gone: Gone, done: Mapping[str, Wrote]) -> Item:
    if record.id in gone.merged:
        hint = "Merge the two there."
        error = "it was merged into another here"
        return Item(record.id, link.external_id, mapping.type, "skipped", error=error, hint=hint)
    wrote = done.get(record.id)
    if wrote is None:
        hint = "Restore it here, or delete it there."
        error = "it was deleted here and changed there"
        return Item(record.id, link.external_id, mapping.type, "conflict", error=error, hint=hint)
    outcome = "failed" if wrote.error else "deleted_there"
    return Item(record.id, link.external_id, mapping.type, outcome, error=wrote.error, hint=wrote.hint)
