"""One batch from here to there: read what is there, compare, write what differs, and remember what both are now.

What is not known to be there is looked for by its unique property before it is written, and written by it: repeated
after a crash, or after an answer that never came, it makes no second record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from core.delivery.systems import pulling, translating
from core.delivery.systems.client import System, Theirs, Write, Wrote
from core.domain.frozen import frozen
from core.domain.records import identity
from core.domain.records.schema import Schema
from core.domain.systems import comparison
from core.domain.systems.comparison import Comparison
from core.domain.systems.settings import SystemSettings, TypeMapping
from core.store.records import identifiers, record_schema
from core.store.records.record_rows import Record
from core.store.systems import sync_links
from core.store.systems.sync_links import Link
from core.store.systems.syncs import Item
from core.store.transaction import Transaction


@frozen
class Batch:
    """Records that are not in step, with what is remembered of them."""

    records: tuple[Record, ...]
    links: Mapping[str, Link]
    changed_at: Mapping[str, Mapping[str, Any]]
    schema: Schema


@frozen
class Pushed:
    """What became of a batch, and what to remember of it."""

    items: tuple[Item, ...]
    links: tuple[Link, ...]


async def next_batch(tx: Transaction, sync: Row[Any], mapping: TypeMapping, size: int) -> Batch:
    """Return the next records that are not in step, after the sync's cursor."""
    found = await sync_links.out_of_step(
        tx, sync.connection_id, mapping.type, sync.cursor, size, everything=sync.whole or (sync.preview and sync.whole)
    )
    by_id = {record.id: record for record in found}
    links = await sync_links.of_records(tx, sync.connection_id, by_id)
    changed_at = await pulling.changed_at(tx, mapping, by_id)
    return Batch(tuple(found), links, changed_at, await record_schema.of(tx))


async def push(system: System, mapping: TypeMapping, batch: Batch, *, preview: bool) -> Pushed:
    """Bring a batch there. Raises what the client raises: then nothing is remembered, and the batch comes again."""
    items: list[Item] = []
    keys = {record.id: translating.key_of(mapping, record.id, record.fields) for record in batch.records}
    for record in batch.records:
        if not keys[record.id] and record.id not in batch.links:
            items.append(_without_key(mapping, record))
    chosen = [record for record in batch.records if keys[record.id] or record.id in batch.links]
    there = await _there(system, mapping, chosen, batch.links, keys)
    compared = {record.id: _compare(mapping, record, there.get(record.id), batch) for record in chosen}
    writes = [
        Write(
            record.id,
            keys[record.id],
            _external_id(record, there, batch.links),
            translating.properties(mapping, compared[record.id].to_theirs),
            record.rev,
        )
        for record in chosen
        if compared[record.id].to_theirs
    ]
    wrote_all = [] if preview or not writes else await system.write(mapping, writes)
    done = {write.record_id: wrote for write, wrote in zip(writes, wrote_all, strict=False)}
    links = []
    wanted = {write.record_id for write in writes}
    for record in chosen:
        wrote = done.get(record.id)
        if record.id in wanted and wrote is None and not preview:
            wrote = Wrote(error="the system said nothing about it")
        known = _external_id(record, there, batch.links)
        item = _item(mapping, record, compared[record.id], wrote, known, wanted=record.id in wanted)
        items.append(item)
        if item.outcome != "failed" and not preview and item.external_id:
            links.append(Link(record.id, mapping.type, item.external_id, compared[record.id].base, record.rev))
    return Pushed(tuple(items), tuple(links))


async def remember(tx: Transaction, sync: Row[Any], settings: SystemSettings, pushed: Pushed) -> None:
    """Store what is known now, and the ids there as references of the records here."""
    kind = identity.external(translating.external_kind(settings.system, sync.connection_id))
    await sync_links.put(tx, sync.connection_id, pushed.links)
    await identifiers.claim(
        tx, [(tx.org_id, link.type, kind, link.external_id, link.record_id) for link in pushed.links]
    )


async def _there(
    system: System, mapping: TypeMapping, chosen: Sequence[Record], links: Mapping[str, Link], keys: Mapping[str, str]
) -> dict[str, Theirs]:
    """Return what is there now, by record: by the id there where it is known, else by the unique property."""
    ids = {record.id: links[record.id].external_id for record in chosen if record.id in links}
    by_id = await system.by_id(mapping, list(ids.values())) if ids else {}
    found = {record_id: by_id[external] for record_id, external in ids.items() if external in by_id}
    unknown = [record.id for record in chosen if record.id not in ids]
    by_key = await system.by_key(mapping, [keys[record_id] for record_id in unknown]) if unknown else {}
    return found | {
        record_id: by_key[keys[record_id].lower()] for record_id in unknown if keys[record_id].lower() in by_key
    }


def _compare(mapping: TypeMapping, record: Record, there: Theirs | None, batch: Batch) -> Comparison:
    mine = translating.ours(mapping, record.fields)
    link = batch.links.get(record.id)
    if there is not None:
        values, _ = translating.theirs(mapping, there, batch.schema)
        rule = pulling.newer(batch.changed_at.get(record.id, {}), there.modified_at)
        return comparison.compare(mapping.fields, mine, values, None if link is None else link.base, "push", rule)
    if link is not None:  # it cannot be read, or is gone: only what has changed here is sent
        same = {one.field: link.base.get(one.field) for one in mapping.fields}
        return comparison.compare(mapping.fields, mine, same, link.base, "push")
    nothing = {one.field: None for one in mapping.fields}
    compared = comparison.compare(mapping.fields, mine, nothing, None, "push")
    own = {one.field: mine[one.field] for one in mapping.fields if one.goes("push") and mine[one.field] is not None}
    return Comparison(own, own, (), {**compared.base, **own}, pending=False)


def _external_id(record: Record, there: Mapping[str, Theirs], links: Mapping[str, Link]) -> str:
    if record.id in there:
        return there[record.id].id
    return links[record.id].external_id if record.id in links else ""


def _item(
    mapping: TypeMapping, record: Record, compared: Comparison, wrote: Wrote | None, known: str, *, wanted: bool
) -> Item:
    if wrote is not None and wrote.error:
        return Item(record.id, known, mapping.type, "failed", compared.conflicts, wrote.error, wrote.hint)
    if wanted:
        created = wrote.created if wrote is not None and wrote.external_id and not known else not known
        external = known or ("" if wrote is None else wrote.external_id)
        outcome = "created_there" if created else "updated_there"
        return Item(record.id, external, mapping.type, outcome, compared.conflicts)
    if not known:
        hint = "Give it a value in a field that is pushed."
        return Item(record.id, "", mapping.type, "skipped", error="it has nothing that is pushed", hint=hint)
    return Item(record.id, known, mapping.type, "conflict" if compared.conflicts else "unchanged", compared.conflicts)


def _without_key(mapping: TypeMapping, record: Record) -> Item:
    hint = f"Give it a value in {mapping.unique_field}, or name a unique property that takes our id."
    return Item(record.id, "", mapping.type, "skipped", error=f"it has no {mapping.unique_field}", hint=hint)
