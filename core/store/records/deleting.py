"""Deleting records so that they can come back: out of sight, with what identified them kept beside and free for others.

A contact takes its leads along, which are nothing without it, and brings them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select, update

from core.domain.errors import EmailTaken, EtagMismatch, NotFound, RecordErased, ValueTaken, WrongState
from core.domain.frozen import copied
from core.domain.records import identity
from core.domain.records.changes import Change
from core.domain.records.reverting import DELETED
from core.store.erasing import erasures
from core.store.merging import merges
from core.store.merging.merging import lock_work
from core.store.records import identifiers, record_events, unique_values
from core.store.records.record_rows import Draft, Record, Written, hold, record_changes, records, save, to_record
from core.store.transaction import Transaction


async def find(tx: Transaction, record_id: str, *, expected_etag: str = "") -> Record:
    """Return a record and hold it with all that loops do for it.

    Raises NotFound, RecordMerged and EtagMismatch.
    """
    await lock_work(tx, record_id)
    record = (await hold(tx, [(tx.org_id, record_id)])).get((tx.org_id, record_id))
    if record is None:
        raise await merges.kept_by(tx, record_id) or NotFound(kind="record", id=record_id)
    if expected_etag and record.etag != expected_etag:
        raise EtagMismatch(kind=record.type, id=record_id, current=record.etag, given=expected_etag)
    return record


async def delete(tx: Transaction, found: Sequence[Record], *, actor: str, cause: str) -> list[Written]:
    """Take records that are held out of sight, and contacts' leads; their enrollments are over already."""
    leads = await _leads(tx, found)
    going = {record.id: record for record in (*found, *leads)}
    named = await identifiers.of_records(tx, going)
    drafts = []
    for record in going.values():
        draft = Draft(record)
        draft.history.append((Change(DELETED, None, True), actor, cause))
        drafts.append(draft)
        freed = sorted([kind, value] for kind, value in named[record.id])
        await tx.run(update(records).where(records.c.id == record.id).values(deleted_at=tx.now, freed=freed))
    await identifiers.release(
        tx, [(tx.org_id, one.type, *name, one.id) for one in going.values() for name in named[one.id]]
    )
    written = await save(tx, drafts)
    await record_events.announce(tx, written, triggers="none")
    return [copied(item, record=copied(item.record, deleted_at=tx.now)) for item in written]


async def _leads(tx: Transaction, found: Sequence[Record]) -> list[Record]:
    contacts = [record.id for record in found if record.type == "contact"]
    if not contacts:
        return []
    c = records.c
    rows = await tx.all(
        select(c.id).where(c.contact_id.in_(contacts), c.type == "lead", c.deleted_at.is_(None)).order_by(c.id)
    )
    return list((await hold(tx, [(tx.org_id, row.id) for row in rows])).values())


async def restore(tx: Transaction, record_id: str, *, actor: str, cause: str) -> list[Written]:
    """Let a deleted record stand again, and the leads that went with it; the record itself comes first.

    Raises NotFound, RecordMerged, RecordErased, WrongState for one that stands or whose contact does not, EmailTaken
    and ValueTaken.
    """
    row = await tx.first(select(records).where(records.c.id == record_id).with_for_update())
    if row is None:
        raise NotFound(kind="record", id=record_id)
    if row.deleted_at is None:
        raise WrongState(kind=row.type, id=record_id, state="not deleted", action="restoring it")
    if gone := await merges.kept_by(tx, record_id):
        raise gone
    if await erasures.is_erased(tx, record_id):
        raise RecordErased(id=record_id)
    await _check_contact(tx, row)
    return await bring_back(tx, [row, *await _leads_gone_with(tx, row)], actor=actor, cause=cause)


async def _check_contact(tx: Transaction, row: Row[Any]) -> None:
    contact = row.contact_id if row.type == "lead" else None
    c = records.c
    if contact and await tx.first(select(c.id).where(c.id == contact, c.deleted_at.is_(None))) is None:
        raise WrongState(kind="contact", id=contact, state="deleted", action="restoring its leads")


async def _leads_gone_with(tx: Transaction, row: Row[Any]) -> list[Row[Any]]:
    if row.type != "contact":
        return []
    c = records.c
    leads = await tx.all(
        select(records)
        .where(c.contact_id == row.id, c.type == "lead", c.deleted_at == row.deleted_at)
        .order_by(c.id)
        .with_for_update()
    )
    causes = await _causes(tx, [row.id, *(lead.id for lead in leads)])
    return [lead for lead in leads if causes.get(lead.id) == causes.get(row.id)]


async def _causes(tx: Transaction, record_ids: Sequence[str]) -> dict[str, str]:
    """Return what caused the last deletion of each of these records."""
    c = record_changes.c
    which = (c.record_id.in_(record_ids), c.field == DELETED)
    rows = await tx.all(select(c.record_id, c.cause).where(*which).order_by(c.id))
    return {row.record_id: row.cause for row in rows}


async def bring_back(tx: Transaction, rows: Sequence[Row[Any]], *, actor: str, cause: str) -> list[Written]:
    """Let deleted records whose rows are held stand again. Raises EmailTaken and ValueTaken."""
    drafts = []
    for row in rows:
        await claim_again(tx, row)
        await tx.run(update(records).where(records.c.id == row.id).values(deleted_at=None, freed=None))
        draft = Draft(copied(to_record(row), deleted_at=None))
        draft.history.append((Change(DELETED, True, None), actor, cause))
        drafts.append(draft)
    written = await save(tx, drafts)
    await record_events.announce(tx, written, triggers="none")
    return written


async def in_the_way(tx: Transaction, row: Row[Any]) -> str:
    """Return the record that has the e-mail or a unique value of a deleted one by now; empty for none."""
    email = identity.normalise("email", row.fields.get("email")) if row.type == "contact" else None
    owner = await identifiers.owner(tx, row.type, email) if email is not None else None
    return owner or await unique_values.holder(tx, to_record(row))


async def claim_again(tx: Transaction, row: Row[Any]) -> None:
    """Let what identified a deleted record identify it again; what somebody else has by now stays theirs.

    Raises EmailTaken and ValueTaken where that is the e-mail of the record, or a unique value.
    """
    names = [(str(kind), str(value)) for kind, value in row.freed or ()]
    keys = [(tx.org_id, row.type, *name) for name in names]
    won = await identifiers.claim(tx, [(*key, row.id) for key in keys])
    email = identity.normalise("email", row.fields.get("email")) if row.type == "contact" else None
    if email is not None and email in names and (tx.org_id, row.type, *email) not in won:
        raise EmailTaken(owner=await identifiers.owner(tx, row.type, email))
    for path, owner in (await unique_values.give_back(tx, to_record(row))).items():
        raise ValueTaken(record_type=row.type, field=path, owner=owner)
