"""One batch from there to here: what is there is compared with what is here, and what changes is one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, select

from core.delivery.systems import translating
from core.delivery.systems.client import Theirs
from core.domain.frozen import frozen
from core.domain.records import identity
from core.domain.records.fields import missing_fields
from core.domain.systems import comparison
from core.domain.systems.comparison import Comparison, Side
from core.domain.systems.settings import SystemSettings, TypeMapping
from core.store.records import identifiers, record_rows, record_schema, upserts
from core.store.records.record_rows import Record, record_changes
from core.store.records.upserts import ContactCandidate
from core.store.systems import sync_links
from core.store.systems.sync_links import Link
from core.store.systems.syncs import Item
from core.store.transaction import Transaction

ACTOR = "connection:"
CAUSE = "sync:"


@frozen
class _Met:
    """A record there, and what is known of it here."""

    there: Theirs
    values: Mapping[str, Any]
    record: Record | None
    link: Link | None
    compared: Comparison
    misfit: str


async def take(
    tx: Transaction, sync: Row[Any], settings: SystemSettings, mapping: TypeMapping, found: Sequence[Theirs]
) -> list[Item]:
    """Write what a page of records there changes here, and return what became of each; a preview only tells."""
    met = await _meet(tx, sync.connection_id, settings, mapping, found)
    if sync.preview:
        return [_previewed(mapping, one) for one in met]
    kind = identity.external(translating.external_kind(settings.system, sync.connection_id))
    changing = [one for one in met if not one.misfit and (one.record is None or one.compared.to_ours)]
    candidates = [_candidate(one, kind) for one in changing]
    resolved = await upserts.resolve(
        tx,
        mapping.type,
        candidates,
        actor=f"{ACTOR}{sync.connection_id}",
        cause=f"{CAUSE}{sync.id}",
        triggers=settings.triggers,
    )
    answers = {id(one): answer for one, answer in zip(changing, resolved, strict=True)}
    items, links = [], []
    for one in met:
        answer = answers.get(id(one))
        record = one.record if answer is None else answer.record
        if one.misfit or record is None:
            items.append(_failed(mapping, one, answer.violation if answer is not None else None))
            continue
        outcome = "unchanged" if answer is None else "created_here" if answer.created else "updated_here"
        outcome = "conflict" if outcome == "unchanged" and one.compared.conflicts else outcome
        items.append(Item(record.id, one.there.id, mapping.type, outcome, one.compared.conflicts))
        if one.link is None or answer is not None or one.compared.conflicts or one.link.base != one.compared.base:
            rev = (one.link.rev if one.link else 0) if one.compared.pending else record.rev
            links.append(Link(record.id, mapping.type, one.there.id, one.compared.base, rev))
    rows = [(tx.org_id, mapping.type, kind, link.external_id, link.record_id) for link in links]
    await identifiers.claim(tx, rows)
    await sync_links.put(tx, sync.connection_id, links)
    return items


async def _meet(
    tx: Transaction, connection_id: str, settings: SystemSettings, mapping: TypeMapping, found: Sequence[Theirs]
) -> list[_Met]:
    """Find the counterpart of each, hold it, and compare the two."""
    links = await sync_links.of_externals(tx, connection_id, mapping.type, [one.id for one in found])
    kind = identity.external(translating.external_kind(settings.system, connection_id))
    schema = await record_schema.of(tx)
    values = {one.id: translating.theirs(mapping, one, schema) for one in found}
    names = {
        one.id: [name for name in (identity.normalise(kind, one.id), *_emails(mapping, values[one.id][0])) if name]
        for one in found
    }
    keys = [(tx.org_id, mapping.type, *name) for several in names.values() for name in several]
    owners = await identifiers.owners(tx, keys)
    mine = _own_ids(mapping, found)
    targets = {}
    for there, several in names.items():
        linked = links[there].record_id if there in links else ""
        owner = next((owners[key] for name in several if (key := (tx.org_id, mapping.type, *name)) in owners), "")
        targets[there] = [one for one in (linked, mine.get(there, ""), owner) if one]
    wanted = {target for several in targets.values() for target in several}
    held = await record_rows.hold(tx, [(tx.org_id, target) for target in wanted])
    by_id = {record.id: record for record in held.values() if record.type == mapping.type}
    known = await sync_links.of_records(tx, connection_id, by_id)
    when = await changed_at(tx, mapping, by_id)
    met = []
    for one in found:
        record = next((by_id[target] for target in targets[one.id] if target in by_id), None)
        link = links.get(one.id)
        fields, misfit = values[one.id]
        if record is None and link is not None:
            misfit = f"{link.record_id} was deleted here"
        if record is not None and link is None and record.id in known and known[record.id].external_id != one.id:
            misfit = f"{record.id} is the counterpart of {known[record.id].external_id} already"
        compared = comparison.compare(
            mapping.fields,
            {} if record is None else translating.ours(mapping, record.fields),
            fields,
            None if link is None or record is None or link.record_id != record.id else link.base,
            "pull",
            newer(when.get(record.id, {}) if record else {}, one.modified_at),
        )
        met.append(_Met(one, fields, record, link, compared, misfit))
    return met


def newer(when: Mapping[str, datetime], modified_at: datetime | None) -> Any:
    """Return the rule by which the later of two changes of a field wins; what nobody can tell is theirs."""

    def side(field: str) -> Side:
        changed = when.get(field)
        return "ours" if changed is not None and (modified_at is None or changed > modified_at) else "theirs"

    return side


async def changed_at(
    tx: Transaction, mapping: TypeMapping, held: Mapping[str, Record]
) -> dict[str, dict[str, datetime]]:
    """Return when fields for which the later change wins were last changed here, by record."""
    fields = [one.field for one in mapping.fields if one.conflict == "newest"]
    if not fields or not held:
        return {}
    c = record_changes.c
    statement = select(c.record_id, c.field, func.max(c.created_at).label("at"))
    statement = statement.where(c.record_id.in_(sorted(held)), c.field.in_(fields)).group_by(c.record_id, c.field)
    found: dict[str, dict[str, datetime]] = {}
    for row in await tx.all(statement):
        found.setdefault(row.record_id, {})[row.field] = row.at
    return found


def _emails(mapping: TypeMapping, values: Mapping[str, Any]) -> list[Any]:
    return identity.of_fields(mapping.type, {"email": values["email"]}) if values.get("email") else []


def _own_ids(mapping: TypeMapping, found: Sequence[Theirs]) -> dict[str, str]:
    """Return our ids that stand in the unique property there, by the id there."""
    if not mapping.unique_property or mapping.unique_field != "id":
        return {}
    return {
        one.id: str(one.properties[mapping.unique_property])
        for one in found
        if one.properties.get(mapping.unique_property)
    }


def _candidate(one: _Met, kind: str) -> ContactCandidate:
    if one.record is not None:
        return ContactCandidate(one.compared.to_ours, contact_id=one.record.id, path="")
    name = identity.normalise(kind, one.there.id)
    fields = {field: value for field, value in one.values.items() if value is not None}
    return ContactCandidate(_pulled(one, fields), () if name is None else (name,), path="")


def _pulled(one: _Met, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if field in one.compared.to_ours}


def _previewed(mapping: TypeMapping, one: _Met) -> Item:
    record_id = "" if one.record is None else one.record.id
    missing = missing_fields(mapping.type, one.values, "") if one.record is None else []
    if one.misfit or missing:
        return _failed(mapping, one, missing[0] if missing else None)
    outcome = "created_here" if one.record is None else "updated_here" if one.compared.to_ours else "unchanged"
    outcome = "conflict" if outcome == "unchanged" and one.compared.conflicts else outcome
    return Item(record_id, one.there.id, mapping.type, outcome, one.compared.conflicts)


def _failed(mapping: TypeMapping, one: _Met, violation: Any) -> Item:
    error, hint = one.misfit, "Correct the value there, or the mapping, then sync again."
    if not error and violation is not None:
        error, hint = f"{violation.field}: {violation.message}".lstrip(": "), violation.hint
    if one.record is None and one.link is not None:
        if not comparison.differs(mapping.fields, one.values, one.link.base):
            return Item(one.link.record_id, one.there.id, mapping.type, "unchanged")
        hint = "Restore it here, or delete it there."
        return Item(one.link.record_id, one.there.id, mapping.type, "skipped", error=error, hint=hint)
    record_id = "" if one.record is None else one.record.id
    return Item(record_id, one.there.id, mapping.type, "failed", error=error, hint=hint)
