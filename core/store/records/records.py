"""Records: contacts, companies and leads as the rest of the house reads and writes them.

Rows and locks are in record_rows.py, how a record is found or made in upserts.py, who owns an e-mail in identifiers.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, Select, and_, select

from core.domain.errors import EmailTaken, EtagMismatch, Invalid, NotFound
from core.domain.filters import Expression
from core.domain.frozen import frozen
from core.domain.records import changes as field_changes
from core.domain.records.changes import Change
from core.domain.records.pipelines import PLACE
from core.domain.records.schema import STANDARD
from core.pieces import LIGHT_AT_ONCE, in_pieces
from core.store import paging
from core.store.filtering import Columns
from core.store.merging import merges
from core.store.records import (
    identifiers,
    own_fields,
    pipelines,
    record_events,
    record_pages,
    record_triggers,
    unsubscribed_field,
)
from core.store.records.record_rows import (
    Draft,
    Record,
    Written,
    get,
    get_with_names,
    hold,
    record_changes,
    records,
    save,
    to_record,
)
from core.store.records.unsubscribed_field import FIELD
from core.store.records.upserts import ContactCandidate, Resolved, resolve_contacts, upsert
from core.store.transaction import Transaction

__all__ = [
    "ContactCandidate", "Draft", "Record", "RecordUpdate", "Resolved", "Written", "apply_updates", "as_of",
    "changes_page", "filter_columns", "get", "get_many", "get_with_names", "hold", "leads_of", "newest_leads", "page",
    "record_changes", "records", "resolve_contacts", "save", "update", "upsert",
]  # fmt: skip

_log = structlog.get_logger()


@frozen
class RecordUpdate:
    """Fields to set in one record; None removes one."""

    org_id: str
    record_id: str
    fields: Mapping[str, Any]
    """Dotted path to new value."""
    actor: str
    cause: str


def _standing(record_type: str | None = None) -> Select[Any]:
    statement = select(records).where(records.c.deleted_at.is_(None))
    return statement if record_type is None else statement.where(records.c.type == record_type)


async def get_many(tx: Transaction, ids: Iterable[str]) -> dict[str, Record]:
    """Return the records with these ids, by id."""
    found = await tx.all(_standing().where(records.c.id.in_(sorted(set(ids)))))
    return {row.id: to_record(row) for row in found}


async def page(
    tx: Transaction, record_type: str, size: int, token: str, *, filter_text: str = "", where: Expression | None = None
) -> tuple[list[Record], str]:
    """Return a page of records of a standard type, newest first, and the next token.

    `where` is what `filter_text` says.
    """
    of = STANDARD.of(record_type)
    return await record_pages.page(tx, of, size, token, filter_text=filter_text, where=where)


def filter_columns(record_type: str) -> Columns:
    """Return where a filter finds each field."""
    return record_pages.filter_columns(STANDARD.of(record_type))


async def newest_leads(tx: Transaction, contact_ids: Iterable[str], org: str | None = None) -> dict[str, Record]:
    """Return the newest lead of each contact that has one, by contact; a system transaction names the organization."""
    return {lead.contact_id or "": lead for lead in await leads_of(tx, contact_ids, org)}  # by id: the newest stays


async def leads_of(tx: Transaction, contact_ids: Iterable[str], org: str | None = None) -> list[Record]:
    """Return every lead of these contacts, oldest first."""
    rows: list[Record] = []
    wanted = sorted(set(contact_ids))
    for start in range(0, len(wanted), 1000):
        statement = _standing("lead").where(records.c.contact_id.in_(wanted[start : start + 1000]))
        if org is not None:
            statement = statement.where(records.c.org_id == org)
        rows += [to_record(row) for row in await tx.all(statement.order_by(records.c.id))]
    return rows


async def changes_page(tx: Transaction, record_id: str, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of a record's changes, newest first, and the next token."""
    there = and_(records.c.org_id == record_changes.c.org_id, records.c.id == record_changes.c.record_id)
    statement = select(record_changes, records.c.type.label("record_type")).select_from(
        record_changes.join(records, there)
    )
    statement = statement.where(record_changes.c.record_id == record_id)
    return await paging.page(tx, statement, record_changes.c.id, size, token, filter_text=record_id)


async def as_of(tx: Transaction, record: Record, instant: datetime) -> Record:
    """Return a record as it was at an instant, by undoing every later change."""
    rows = await tx.all(
        select(record_changes)
        .where(record_changes.c.record_id == record.id, record_changes.c.created_at > instant)
        .order_by(record_changes.c.id.desc())
    )
    newer = [Change(row.field, row.old_value, row.new_value) for row in rows]
    return replace(record, fields=field_changes.as_of(record.fields, newer)) if newer else record


async def update(
    tx: Transaction,
    record_id: str,
    patch: Mapping[str, Any],
    *,
    expected_etag: str = "",
    actor: str,
    cause: str,
) -> Written:
    """Set fields of one record, by dotted path, and tell the organization's endpoints.

    Raises NotFound, EtagMismatch when it is not at the version expected, EmailTaken, ValueTaken, and Invalid for own
    fields that do not fit and for what overrides a contact's own refusal.
    """
    record = (await hold(tx, [(tx.org_id, record_id)])).get((tx.org_id, record_id))
    if record is None:
        raise await merges.kept_by(tx, record_id) or NotFound(kind="record", id=record_id)
    if expected_etag and record.etag != expected_etag:
        raise EtagMismatch(kind=record.type, id=record_id, current=record.etag, given=expected_etag)
    patch = await own_fields.checked(tx, record, patch)
    taken = await identifiers.claim_changed(tx, [identifiers.Change(tx.org_id, record_id, record.type, patch)])
    if taken:
        raise EmailTaken(owner=taken[record_id])
    await _check_grant(tx, record, patch)
    draft = Draft(record)
    draft.patch(patch, actor, cause)
    written = await save(tx, [draft])
    await record_events.announce(tx, written)
    await unsubscribed_field.heed(tx, [draft])
    return written[0]


async def _check_grant(tx: Transaction, record: Record, patch: Mapping[str, Any]) -> None:
    for actor in (await unsubscribed_field.overridden(tx, [(record, patch)])).values():
        raise Invalid(unsubscribed_field.refused_themself(f"fields.{FIELD}", actor))


async def apply_updates(tx: Transaction, updates: Sequence[RecordUpdate]) -> None:
    """Set fields of many records, of any organizations; a record that is gone is left out.

    An e-mail that another contact has is left as it was, and so is what a contact themself refused. Endpoints are not
    told, for the workflow says what it wants said; other workflows are.
    """
    held = await hold(tx, [(item.org_id, item.record_id) for item in updates])
    # Values are claimed once the records are held, which is the order of every writer.
    updates = await own_fields.left_out(tx, [item for item in updates if (item.org_id, item.record_id) in held])
    standing = [(item, held[item.org_id, item.record_id]) for item in updates]
    changes = [identifiers.Change(item.org_id, record.id, record.type, item.fields) for item, record in standing]
    taken = await identifiers.claim_changed(tx, changes)
    refused = await unsubscribed_field.overridden(tx, [(record, item.fields) for item, record in standing])
    drafts: dict[tuple[str, str], Draft] = {}
    async for piece in in_pieces(standing, LIGHT_AT_ONCE):
        for item, record in piece:
            fields = dict(item.fields)
            if record.id in taken and fields.get("email"):
                _log.warning("e-mail left as it was: another contact has it", record=record.id, owner=taken[record.id])
                del fields["email"]
            if FIELD in fields and (record.org_id, record.id) in refused:
                by = refused[record.org_id, record.id]
                _log.warning("a contact's own refusal left as it was", record=record.id, refused_by=by)
                del fields[FIELD]
            draft = drafts.get((record.org_id, record.id))
            if draft is None:
                draft = drafts[record.org_id, record.id] = Draft(record)
            if record.type == pipelines.OPPORTUNITY and not PLACE.isdisjoint(fields):
                fields = await pipelines.placed(tx.within(record.org_id), record.id, draft.record.fields, fields)
            draft.patch(fields, item.actor, item.cause)
    await save(tx, drafts.values())
    await record_triggers.note_drafts(tx, drafts.values())
    await unsubscribed_field.heed(tx, drafts.values())
