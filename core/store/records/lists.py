"""Lists of contacts: who is on which, changed many at a time by workflows and one at a time by callers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Index, Row, Table, func, select

from core.domain.frozen import frozen
from core.store import paging
from core.store.metadata import Instant, Name, dump_json, metadata, org_id
from core.store.records import record_triggers
from core.store.records.record_triggers import ListsChanged
from core.store.transaction import EVERY_ORGANIZATION, Transaction, values_by_column

list_members = Table(
    "list_members",
    metadata,
    org_id(),
    Column("list_name", Name, primary_key=True),
    Column("contact_id", Name, primary_key=True),
    Column("added_at", Instant, nullable=False),
    Column("actor", Name, nullable=False),
    Index("list_members_contact", "org_id", "contact_id"),
)

_TAKE_OFF_SQLITE = (
    "DELETE FROM list_members WHERE (org_id, list_name, contact_id) IN "
    "(SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1)) RETURNING contact_id"
)
_TAKE_OFF_POSTGRESQL = (
    "DELETE FROM list_members m USING unnest($1::text[], $2::text[], $3::text[]) AS w(org_id, list_name, contact_id) "
    "WHERE m.org_id = w.org_id AND m.list_name = w.list_name AND m.contact_id = w.contact_id RETURNING m.contact_id"
)
_OF_CONTACTS_SQLITE = (
    "SELECT m.org_id, m.contact_id, m.list_name FROM json_each($1) w CROSS JOIN list_members m "
    "ON m.org_id = (w.value ->> 0) AND m.contact_id = (w.value ->> 1)"
)
_OF_CONTACTS_POSTGRESQL = (
    "SELECT m.org_id, m.contact_id, m.list_name FROM unnest($1::text[], $2::text[]) AS w(org_id, contact_id) "
    "JOIN list_members m USING (org_id, contact_id)"
)

ContactKey = tuple[str, str]
"""Organization and contact."""


@frozen
class ListChange:
    """A contact to put on a list, or to take off it."""

    org_id: str
    list_name: str
    contact_id: str
    on: bool
    actor: str
    """Who wants it: a principal's id, or `workflow:<id>`."""
    cause: str = ""
    """`enrollment:<id>/<rev>` where an enrollment wants it."""


async def change(tx: Transaction, changes: Iterable[ListChange]) -> int:
    """Change lists and return how many memberships began or ended; of two changes of one, the later one counts.

    In a caller's transaction every change is of its own organization, whatever the change says.
    """
    own = None if tx.org_id == EVERY_ORGANIZATION else tx.org_id
    wanted = {(own or one.org_id, one.list_name, one.contact_id): one for one in changes}
    keys = sorted(wanted)  # in one order everywhere: two writers never wait for each other
    rows = [
        {"org_id": org, "list_name": name, "contact_id": contact, "added_at": tx.now, "actor": wanted[key].actor}
        for key in keys
        if wanted[key].on
        for org, name, contact in [key]
    ]
    heard = await record_triggers.listened(tx, {org for org, _, _ in keys})
    before = await of_contacts(tx, {(org, contact) for org, _, contact in keys if org in heard})
    begun = await tx.insert(list_members, rows, on_conflict="ignore")
    ended = await _take_off(tx, [key for key in keys if not wanted[key].on])
    await _tell(tx, before, wanted)
    return begun + ended


async def _tell(
    tx: Transaction, before: Mapping[ContactKey, frozenset[str]], wanted: Mapping[tuple[str, str, str], ListChange]
) -> None:
    """Tell workflows that listen to contacts whose lists are others now."""
    after = await of_contacts(tx, before)
    authors: dict[ContactKey, dict[str, str]] = {}
    for (org, _, contact), one in wanted.items():
        authors.setdefault((org, contact), {})[one.actor] = one.cause
    told = []
    for key, was in before.items():
        (actor, cause), *others = authors[key].items()
        author = "" if others else actor  # of several workflows, none may hide what the others did
        told.append(ListsChanged(*key, was, after[key], author, cause))
    await record_triggers.note_lists(tx, told)


async def _take_off(tx: Transaction, keys: Sequence[tuple[str, str, str]]) -> int:
    if not keys:
        return 0
    if tx.dialect == "postgresql":
        return len(await tx.fetch(_TAKE_OFF_POSTGRESQL, *values_by_column(keys)))
    return len(await tx.fetch(_TAKE_OFF_SQLITE, dump_json(keys)))


async def of_contacts(tx: Transaction, contacts: Iterable[ContactKey]) -> dict[ContactKey, frozenset[str]]:
    """Return the lists that each of these contacts is on; empty for one that is on none."""
    wanted = sorted(set(contacts))
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_OF_CONTACTS_POSTGRESQL, *values_by_column(wanted))
    else:
        rows = await tx.fetch(_OF_CONTACTS_SQLITE, dump_json(wanted))
    found: dict[ContactKey, set[str]] = {key: set() for key in wanted}
    for org, contact, name in rows:
        found[org, contact].add(name)
    return {key: frozenset(names) for key, names in found.items()}


async def members(tx: Transaction, list_name: str, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of a list's members, newest contact first, and the next token."""
    statement = select(list_members).where(list_members.c.list_name == list_name)
    return await paging.page(tx, statement, list_members.c.contact_id, size, token, filter_text=f"list:{list_name}")


async def count(tx: Transaction, list_name: str) -> int:
    """Return how many contacts are on a list."""
    row = await tx.first(select(func.count()).select_from(list_members).where(list_members.c.list_name == list_name))
    return 0 if row is None else int(row[0])


async def names(tx: Transaction) -> dict[str, int]:
    """Return the lists that have members, by name, and how many each has."""
    name = list_members.c.list_name
    rows = await tx.all(select(name, func.count().label("members")).group_by(name).order_by(name))
    return {row.list_name: int(row.members) for row in rows}
