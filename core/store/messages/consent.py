"""What contacts said they may be sent: the answers that hold, all that was ever said, and how decisions read it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Index, Row, Table, select, update

from core import ids
from core.domain.messaging import addresses
from core.domain.messaging.consent import Answer, Cause, Consent, Suppression
from core.store import paging
from core.store.metadata import Instant, Name, from_micros, metadata, org_id, write_json
from core.store.transaction import Transaction

consents = Table(
    "consents",
    metadata,
    org_id(),
    Column("contact_id", Name, primary_key=True),
    # `*` for every one.
    Column("channel", Name, primary_key=True),
    # `*` for every one but `transactional`.
    Column("purpose", Name, primary_key=True),
    Column("granted", Boolean, nullable=False),
    Column("actor", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

consent_changes = Table(
    "consent_changes",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("contact_id", Name, nullable=False),
    Column("channel", Name, nullable=False),
    Column("purpose", Name, nullable=False),
    Column("granted", Boolean, nullable=False),
    Column("actor", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Column("cause", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("consent_changes_contact", "org_id", "contact_id", "id"),
)

unsubscribe_secrets = Table(
    "unsubscribe_secrets",
    metadata,
    org_id(),
    # Hexadecimal. Never changed: links are valid for years.
    Column("secret", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

ContactKey = tuple[str, str]
"""Organization and contact."""

_STANDING = "s.channel, s.purpose, s.reason, s.created_at, s.key"
_SAID = "c.channel, c.purpose, CASE WHEN c.granted THEN 'granted' ELSE 'refused' END, c.updated_at, c.actor"
# One statement, because every batch of a workflow that sends messages asks it.
_KNOWN_POSTGRESQL = (
    f"SELECT 'answer', c.org_id, c.contact_id, {_SAID} FROM unnest($1::text[], $2::text[]) AS w(org_id, contact_id) "  # noqa: S608
    "JOIN consents c USING (org_id, contact_id) UNION ALL "
    f"SELECT 'contact', s.org_id, s.contact_id, {_STANDING} "
    "FROM unnest($1::text[], $2::text[]) AS w(org_id, contact_id) "
    "JOIN suppressions s USING (org_id, contact_id) WHERE s.lifted_at IS NULL AND s.contact_id <> '' UNION ALL "
    f"SELECT 'key', s.org_id, s.key, {_STANDING} FROM unnest($3::text[], $4::text[]) AS w(org_id, key) "
    "JOIN suppressions s USING (org_id, key) WHERE s.lifted_at IS NULL"
)
_KNOWN_SQLITE = (
    f"SELECT 'answer', c.org_id, c.contact_id, {_SAID} FROM json_each($1) w "  # noqa: S608 -- names are ours
    "CROSS JOIN consents c ON c.org_id = (w.value ->> 0) AND c.contact_id = (w.value ->> 1) UNION ALL "
    f"SELECT 'contact', s.org_id, s.contact_id, {_STANDING} FROM json_each($1) w "
    "CROSS JOIN suppressions s ON s.org_id = (w.value ->> 0) AND s.contact_id = (w.value ->> 1) "
    "WHERE s.lifted_at IS NULL AND s.contact_id <> '' UNION ALL "
    f"SELECT 'key', s.org_id, s.key, {_STANDING} FROM json_each($2) w "
    "CROSS JOIN suppressions s ON s.org_id = (w.value ->> 0) AND s.key = (w.value ->> 1) WHERE s.lifted_at IS NULL"
)


async def of_contacts(tx: Transaction, wanted: Mapping[ContactKey, Iterable[str]]) -> dict[ContactKey, Consent]:
    """Return what is stored of contacts, given with the keys of their addresses; those with nothing are left out."""
    if not wanted:
        return {}
    people = sorted(wanted)
    holders: dict[tuple[str, str], list[ContactKey]] = defaultdict(list)
    for contact in people:
        for key in wanted[contact]:
            holders[contact[0], key].append(contact)
    answers: dict[ContactKey, list[Answer]] = defaultdict(list)
    stopped: dict[ContactKey, dict[Suppression, None]] = defaultdict(dict)
    for kind, org, whose, channel, purpose, word, at, detail in await _known(tx, people, sorted(holders)):
        if kind == "answer":
            answers[org, whose].append(Answer(channel, purpose, word == "granted", from_micros(at), detail))
            continue
        for contact in [(org, whose)] if kind == "contact" else holders[org, whose]:
            stopped[contact][Suppression(detail, purpose, Cause(word))] = None
    return {
        contact: Consent(tuple(answers[contact]), tuple(stopped[contact]), contact[0])
        for contact in people
        if contact in answers or contact in stopped
    }


async def _known(
    tx: Transaction, people: Sequence[ContactKey], keys: Sequence[tuple[str, str]]
) -> Sequence[Sequence[Any]]:
    if tx.dialect == "postgresql":
        by_column = [[one[0] for one in people], [one[1] for one in people]]
        return await tx.fetch(_KNOWN_POSTGRESQL, *by_column, [one[0] for one in keys], [one[1] for one in keys])
    return await tx.fetch(_KNOWN_SQLITE, write_json(people), write_json(keys))


def keys_of(contact: ContactKey, fields: Mapping[str, Any]) -> Iterable[str]:
    """Return the keys of the addresses that a contact has now."""
    return addresses.own_keys(contact[0], fields).values()


async def answers_of(tx: Transaction, contact_id: str) -> Sequence[Row[Any]]:
    """Return the answers of a contact that hold, by channel and purpose."""
    c = consents.c
    return await tx.all(select(consents).where(c.contact_id == contact_id).order_by(c.channel, c.purpose))


async def refusals_of(tx: Transaction, contacts: Iterable[ContactKey]) -> Sequence[Row[Any]]:
    """Return the refusals that are stored of contacts, of any organizations, by channel and purpose."""
    c, wanted = consents.c, sorted(set(contacts))
    if not wanted:
        return []
    orgs, named = sorted({org for org, _ in wanted}), sorted({contact_id for _, contact_id in wanted})
    statement = select(consents).where(c.org_id.in_(orgs), c.contact_id.in_(named), c.granted.is_(False))
    statement = statement.order_by(c.channel, c.purpose)
    return [row for row in await tx.all(statement) if (row.org_id, row.contact_id) in set(wanted)]


async def changes_of(tx: Transaction, contact_id: str) -> Sequence[Row[Any]]:
    """Return everything that was ever said of a contact, oldest first."""
    c = consent_changes.c
    return await tx.all(select(consent_changes).where(c.contact_id == contact_id).order_by(c.created_at, c.id))


async def changes_page(
    tx: Transaction, contact_ids: Sequence[str], size: int, token: str
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of what was said of these contacts, newest first, and the next token."""
    statement = select(consent_changes).where(consent_changes.c.contact_id.in_(contact_ids))
    name = f"consent|{contact_ids[0]}"
    return await paging.page(tx, statement, consent_changes.c.id, size, token, filter_text=name)


async def answer(
    tx: Transaction,
    contact_id: str,
    channel: str,
    purpose: str,
    granted: bool,
    *,
    actor: str,
    reason: str,
    cause: str,
) -> Answer:
    """Store what a contact said; the caller holds the contact's row."""
    c = consents.c
    said = {"granted": granted, "actor": actor, "reason": reason}
    about = {"org_id": tx.org_id, "contact_id": contact_id, "channel": channel, "purpose": purpose}
    there = update(consents).where(c.contact_id == contact_id, c.channel == channel, c.purpose == purpose)
    if not await tx.run(there.values(**said, updated_at=tx.now)):
        await tx.insert(consents, [{**about, **said, "updated_at": tx.now}])
    row = {**about, **said, "id": ids.mint("cch", tx.now), "cause": cause, "created_at": tx.now}
    await tx.insert(consent_changes, [row])
    return Answer(channel, purpose, granted, tx.now, actor)


async def secrets(tx: Transaction, orgs: Iterable[str]) -> dict[str, bytes]:
    """Return the secrets that sign unsubscribe links, by organization, in a system transaction; new ones are made."""
    wanted = sorted(set(orgs))
    found = await _secrets(tx, wanted)
    missing = [org for org in wanted if org not in found]
    if missing:
        new = [{"org_id": org, "secret": ids.new_secret_bytes(32).hex(), "created_at": tx.now} for org in missing]
        await tx.insert(unsubscribe_secrets, new, on_conflict="ignore")
        found |= await _secrets(tx, missing)  # another process may have been first
    return found


async def secrets_there(tx: Transaction, orgs: Iterable[str]) -> dict[str, bytes]:
    """Return the secrets of these organizations, asking every one; none of who never sent a link, or is none."""
    return await _secrets(tx, sorted(orgs))


async def _secrets(tx: Transaction, orgs: Sequence[str]) -> dict[str, bytes]:
    if not orgs:
        return {}
    rows = await tx.all(select(unsubscribe_secrets).where(unsubscribe_secrets.c.org_id.in_(orgs)))
    return {row.org_id: bytes.fromhex(row.secret) for row in rows}
