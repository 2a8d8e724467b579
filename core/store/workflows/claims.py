"""The engine's hot statements: claiming enrollments that are due or that something arrived for, and their facts.

Hand-written SQL through the driver itself, the same text on both databases where they allow it. Nothing here does
I/O outside the database: the row locks are the lease, held from the claim to the commit, and a worker that dies gives
them back. Every claim names its organization, so that a database can be divided by organization later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from core.domain.enrollment import Enrollment, RecordFacts, State
from core.domain.frozen import copied, frozen
from core.pieces import LIGHT_AT_ONCE, in_pieces
from core.store.metadata import from_micros, read_json, to_micros, write_json
from core.store.records.record_rows import READ_COLUMNS
from core.store.transaction import Transaction
from core.store.workflows.enrollments import SKIP, from_data, waiting_of

_NAMES = (
    "org_id id workflow_id version contact_id key occurrence actor state step_id rev trace_count deadline "
    "parked wait_kind wait_subject wait_key wait_since data end_reason entered_at moved_at ended_at"
).split()
_WIDTH = 1 + len(_NAMES)
"""Of a row of what is due, as far as it tells when, and of the enrollment."""
_FIELDS = _WIDTH + READ_COLUMNS.index("fields")
"""Where on SQLite it has those of the contact."""
_COLUMNS = ", ".join(_NAMES)
_COLUMNS_OF_E = ", ".join(f"e.{name}" for name in _NAMES)

# The first of each, not EXISTS, which PostgreSQL may turn into reading all enrollments once.
_DUE_ORGANIZATIONS = (
    "SELECT o.org_id FROM organizations o WHERE {others} AND (SELECT e.due_at FROM enrollments e "
    "WHERE e.org_id = o.org_id AND e.due_at <= $1 ORDER BY e.due_at LIMIT 1) IS NOT NULL ORDER BY o.org_id"
)
_DUE_ORGANIZATIONS_SQLITE = _DUE_ORGANIZATIONS.format(others="o.org_id NOT IN (SELECT value FROM json_each($2))")
_DUE_ORGANIZATIONS_POSTGRESQL = _DUE_ORGANIZATIONS.format(others="o.org_id <> ALL ($2::text[])")
_LEAD = (
    "(SELECT r.{column} FROM records r WHERE r.org_id = h.org_id AND r.contact_id = h.contact_id "
    "AND r.type = 'lead' AND r.deleted_at IS NULL ORDER BY r.id DESC LIMIT 1)"
)
# A look at each, not joins: none of the tables is to be read from end to end, whatever is known of them.
_PEOPLE_OF_H = (
    "(SELECT r.fields FROM records r WHERE r.org_id = h.org_id AND r.id = h.contact_id "  # noqa: S608
    f"AND r.type = 'contact' AND r.deleted_at IS NULL), {_LEAD.format(column='id')}, {_LEAD.format(column='fields')}"
)
_DUE_SQLITE = (
    f"SELECT h.due_at, {', '.join(f'h.{name}' for name in _NAMES)}, {', '.join(f'r.{one}' for one in READ_COLUMNS)}, "  # noqa: S608
    f"{_LEAD.format(column='id')}, {_LEAD.format(column='fields')} FROM enrollments h "
    "LEFT JOIN records r "
    "ON r.org_id = h.org_id AND r.id = h.contact_id AND r.type = 'contact' AND r.deleted_at IS NULL "
    "WHERE h.org_id = $1 AND h.due_at >= $2 AND h.due_at <= $3 ORDER BY h.due_at LIMIT $4"
)
_DUE_POSTGRESQL = (
    f"SELECT e.due_at, {_COLUMNS_OF_E} FROM unnest($1::text[], $2::bigint[]) AS o(org_id, since) "  # noqa: S608
    "CROSS JOIN LATERAL "
    "(SELECT * FROM enrollments WHERE org_id = o.org_id AND due_at >= o.since AND due_at <= $3 "
    "ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED) e"
)
_WITH_PEOPLE = (
    "WITH held AS MATERIALIZED ({held}) SELECT h.*, "  # noqa: S608
    f"(SELECT s.rev FROM enrollments s WHERE s.org_id = h.org_id AND s.id = h.id), {_PEOPLE_OF_H} "
    "FROM held h ORDER BY h.id"
)
_WAITING_SQLITE = _WITH_PEOPLE.format(
    held=f"SELECT {_COLUMNS_OF_E} FROM json_each($1) w CROSS JOIN enrollments e "  # noqa: S608
    "ON e.org_id = json_extract(w.value, '$[0]') AND e.wait_key = json_extract(w.value, '$[1]') "
    "AND e.wait_kind = 'event'"
)
# Arrays, not joins, for which all that there is may be read. So they may hold a few of another organization, too.
_WAITING_POSTGRESQL = _WITH_PEOPLE.format(
    held=f"SELECT {_COLUMNS_OF_E} FROM enrollments e WHERE e.org_id = ANY($1::text[]) "  # noqa: S608
    "AND e.wait_key = ANY($2::text[]) AND e.wait_kind = 'event' ORDER BY e.id FOR UPDATE OF e"
)
_RUNNING_SQLITE = (
    f"SELECT {_COLUMNS_OF_E} FROM json_each($1) w CROSS JOIN enrollments e "  # noqa: S608
    "ON e.org_id = json_extract(w.value, '$[0]') AND e.contact_id = json_extract(w.value, '$[1]') "
    "AND e.workflow_id = json_extract(w.value, '$[2]') "
    "AND e.state IN ('active', 'awaiting_approval') ORDER BY e.id"
)
_RUNNING_POSTGRESQL = (
    f"SELECT {_COLUMNS_OF_E} FROM enrollments e WHERE e.org_id = ANY($1::text[]) "  # noqa: S608
    "AND e.contact_id = ANY($2::text[]) AND e.workflow_id = ANY($3::text[]) "
    "AND e.state IN ('active', 'awaiting_approval') ORDER BY e.id FOR UPDATE OF e"
)
_BY_ID_SQLITE = (
    f"SELECT {_COLUMNS_OF_E} FROM json_each($1) w CROSS JOIN enrollments e "  # noqa: S608
    "ON e.org_id = json_extract(w.value, '$[0]') AND e.id = json_extract(w.value, '$[1]') ORDER BY e.id"
)
# Arrays, not a join, which may read all enrollments; an id is of one organization.
_BY_KEYS_POSTGRESQL = "WHERE e.org_id = ANY($1::text[]) AND e.id = ANY($2::text[])"
_BY_ID_POSTGRESQL = f"SELECT {_COLUMNS_OF_E} FROM enrollments e {_BY_KEYS_POSTGRESQL} ORDER BY e.id FOR UPDATE OF e"  # noqa: S608
_RECORD_COLUMNS = "r.org_id, r.id, r.type, r.fields, r.contact_id"
_JOINED_SQLITE = (
    f"SELECT {', '.join(f'r.{name}' for name in READ_COLUMNS)}, r.contact_id FROM json_each($1) w CROSS JOIN records r "  # noqa: S608
    "ON r.org_id = json_extract(w.value, '$[0]') AND r.{column} = json_extract(w.value, '$[1]') "
    "WHERE r.type = '{type}' AND r.deleted_at IS NULL"
)
_JOINED_POSTGRESQL = (
    f"SELECT {_RECORD_COLUMNS} FROM unnest($1::text[], $2::text[]) AS w(org_id, wanted) "  # noqa: S608
    "JOIN records r ON r.org_id = w.org_id AND r.{column} = w.wanted "
    "WHERE r.type = '{type}' AND r.deleted_at IS NULL"
)
_PEOPLE_SQLITE, _PEOPLE_POSTGRESQL = (
    " UNION ALL ".join((sql.format(column="id", type="contact"), sql.format(column="contact_id", type="lead")))
    + " ORDER BY 2"
    for sql in (_JOINED_SQLITE, _JOINED_POSTGRESQL)
)
_COMPANIES_SQLITE, _COMPANIES_POSTGRESQL = (
    sql.format(column="id", type="company") for sql in (_JOINED_SQLITE, _JOINED_POSTGRESQL)
)


def _pairs(tx: Transaction, rows: Sequence[tuple[str, ...]]) -> tuple[Any, ...]:
    """Return the parameters for a list of tuples: arrays on PostgreSQL, one JSON text on SQLite."""
    if tx.dialect == "postgresql":
        return tuple(list(column) for column in zip(*rows, strict=True))
    return (write_json(rows),)


async def _fetch_rows(
    tx: Transaction, sqlite: str, postgresql: str, rows: Iterable[tuple[str, ...]]
) -> Sequence[Sequence[Any]]:
    wanted = sorted(set(rows))
    if not wanted:
        return []
    return await tx.fetch(postgresql if tx.dialect == "postgresql" else sqlite, *_pairs(tx, wanted))


@frozen
class People:
    """Contacts, by `(organization, id)`, and the newest lead of each."""

    asked: Collection[tuple[str, str]]
    """Of whom it tells; who is not among the contacts is not there."""
    contacts: Mapping[tuple[str, str], RecordFacts]
    leads: Mapping[tuple[str, str], RecordFacts]


NOBODY = People((), {}, {})


@frozen
class Claimed:
    """Due enrollments, held to the end of the transaction, and what is known of their contacts."""

    enrollments: Sequence[Enrollment]
    reached: Mapping[str, int]
    """Organizations that may have more due, and when the last one here was due, in microseconds."""
    people: People
    """Those of SQLite alone, where nobody can have changed them meanwhile."""


async def due_organizations(tx: Transaction, now: datetime, besides: Collection[str] = ()) -> list[str]:
    """Return the organizations, besides these, that have enrollments due, in order: one index probe for each."""
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_DUE_ORGANIZATIONS_POSTGRESQL, to_micros(now), list(besides))
    else:
        rows = await tx.fetch(_DUE_ORGANIZATIONS_SQLITE, to_micros(now), write_json(list(besides)))
    return [row[0] for row in rows]


async def claim_due(tx: Transaction, orgs: Mapping[str, int], now: datetime, each: int) -> Claimed:
    """Claim up to `each` due enrollments of every one of these organizations, oldest first.

    An organization comes with the instant, in microseconds, before which it is known to have nothing due. Without it
    the claim walks over what earlier claims left in the index, for as long as some old snapshot can still see that.
    """
    people = NOBODY
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_DUE_POSTGRESQL, list(orgs), list(orgs.values()), to_micros(now), each)
    else:
        until = to_micros(now)
        rows = [row for org, since in orgs.items() for row in await tx.fetch(_DUE_SQLITE, org, since, until, each)]
    last = {row[1]: row[0] for row in rows}
    number = Counter(row[1] for row in rows)
    held = [_enrollment(row[1:_WIDTH]) async for piece in in_pieces(rows, LIGHT_AT_ONCE) for row in piece]
    if tx.dialect != "postgresql":
        tx.kept.keep([row[_WIDTH:-2] for row in rows if row[_WIDTH] is not None])
        people = _people(held, [(row[_FIELDS], row[-2], row[-1]) for row in rows])
    return Claimed(held, {org: at for org, at in last.items() if number[org] >= each}, people)


def _people(held: Sequence[Enrollment], found: Iterable[Sequence[Any]]) -> People:
    """Return what is known of the contacts of enrollments: the fields of each, and its newest lead's id and fields."""
    contacts: dict[tuple[str, str], RecordFacts] = {}
    leads: dict[tuple[str, str], RecordFacts] = {}
    for enrollment, (contact, lead_id, lead) in zip(held, found, strict=True):
        key = (enrollment.org_id, enrollment.contact_id)
        if contact is not None and key not in contacts:
            contacts[key] = RecordFacts(enrollment.contact_id, "contact", _json(contact))
        if lead is not None and key not in leads:
            leads[key] = RecordFacts(lead_id, "lead", _json(lead))
    return People({(one.org_id, one.contact_id) for one in held}, contacts, leads)


_SETTLE_POSTGRESQL = f"UPDATE enrollments e SET due_at = e.deadline {_BY_KEYS_POSTGRESQL}"  # noqa: S608
_PARK_POSTGRESQL = f"UPDATE enrollments e SET due_at = NULL, parked = 'held' {_BY_KEYS_POSTGRESQL}"  # noqa: S608
_THESE_SQLITE = (
    "WHERE (org_id, id) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each($1))"
)
_SETTLE_SQLITE = f"UPDATE enrollments SET due_at = deadline {_THESE_SQLITE}"  # noqa: S608
_PARK_SQLITE = f"UPDATE enrollments SET due_at = NULL, parked = 'held' {_THESE_SQLITE}"  # noqa: S608


async def settle(tx: Transaction, looked_at: Sequence[Enrollment]) -> None:
    """Let claimed enrollments sleep until they are really due."""
    if looked_at:
        sql = _SETTLE_POSTGRESQL if tx.dialect == "postgresql" else _SETTLE_SQLITE
        await tx.fetch(sql, *_pairs(tx, [(e.org_id, e.id) for e in looked_at]))


async def park(tx: Transaction, due: Sequence[Enrollment]) -> None:
    """Let claimed enrollments of a paused workflow stand; resuming brings them back."""
    if due:
        sql = _PARK_POSTGRESQL if tx.dialect == "postgresql" else _PARK_SQLITE
        await tx.fetch(sql, *_pairs(tx, [(e.org_id, e.id) for e in due]))


async def put_off(tx: Transaction, enrollment: Enrollment, until: datetime) -> None:
    """Look at an enrollment again no earlier than this."""
    sql = "UPDATE enrollments SET due_at = $3 WHERE org_id = $1 AND id = $2"
    await tx.fetch(sql, enrollment.org_id, enrollment.id, to_micros(until))


@frozen
class Waiting:
    """Enrollments that wait for events, held to the end of the transaction, and what is known of their contacts."""

    enrollments: Sequence[Enrollment]
    people: People


async def claim_event_waits(tx: Transaction, keys: Iterable[tuple[str, str]]) -> Waiting:
    """Claim the enrollments that wait for events under these `(organization, wait key)`, and maybe a few others.

    What is told of people was so when the statement began. Who moved an enrollment that it then waited for may have
    changed them, and they are left out.
    """
    rows = await _fetch_rows(tx, _WAITING_SQLITE, _WAITING_POSTGRESQL, keys)
    held = [_enrollment(row[:-4]) for row in rows]
    people = _people(held, [row[-3:] for row in rows])
    changed = {(one.org_id, one.contact_id) for one, row in zip(held, rows, strict=True) if one.rev != row[-4]}
    return Waiting(held, copied(people, asked=set(people.asked) - changed))


async def claim_active_of_contacts(tx: Transaction, wanted: Iterable[tuple[str, str, str]]) -> list[Enrollment]:
    """Claim the running enrollments of these `(organization, contact, workflow)`, and maybe a few others."""
    return [_enrollment(row) for row in await _fetch_rows(tx, _RUNNING_SQLITE, _RUNNING_POSTGRESQL, wanted)]


async def claim_by_id(tx: Transaction, ids: Iterable[tuple[str, str]]) -> list[Enrollment]:
    """Claim the enrollments with these `(organization, id)`."""
    return [_enrollment(row) for row in await _fetch_rows(tx, _BY_ID_SQLITE, _BY_ID_POSTGRESQL, ids)]


async def contacts_and_leads(tx: Transaction, contacts: Collection[tuple[str, str]], known: People) -> People:
    """Return the contacts with these `(organization, id)`, and the newest lead of each, by the same key.

    What is known of some of them already is not asked again.
    """
    missing = [key for key in contacts if key not in known.asked]
    rows = await _fetch_rows(tx, _PEOPLE_SQLITE, _PEOPLE_POSTGRESQL, missing)
    if missing and tx.dialect == "sqlite":
        tx.kept.keep(rows)
    found = {(row[0], row[1]): _record(row) for row in rows if row[2] == "contact"}
    leads = {(row[0], row[-1]): _record(row) for row in rows if row[2] == "lead"}  # ordered by id: the newest stays
    for key in known.asked:
        if key in known.contacts:
            found[key] = known.contacts[key]
        if key in known.leads:
            leads[key] = known.leads[key]
    return People(contacts, found, leads)


async def companies(tx: Transaction, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], RecordFacts]:
    """Return the companies with these `(organization, id)`."""
    rows = await _fetch_rows(tx, _COMPANIES_SQLITE, _COMPANIES_POSTGRESQL, wanted)
    return {(row[0], row[1]): _record(row) for row in rows}


def _record(row: Sequence[Any]) -> RecordFacts:
    return RecordFacts(id=row[1], type=row[2], fields=_json(row[3]))


def _json(value: Any) -> Any:
    return read_json(value) if isinstance(value, str) else value


_STATES = {state.value: state for state in State}


def _enrollment(row: Sequence[Any]) -> Enrollment:
    (
        org_id, id_, workflow_id, version, contact_id, key, occurrence, actor, state, step_id, rev, trace_count,
        deadline, parked, wait_kind, wait_subject, wait_key, wait_since, data, end_reason, entered_at, moved_at,
        ended_at,
    ) = row  # fmt: skip
    return Enrollment(
        id=id_,
        org_id=org_id,
        workflow_id=workflow_id,
        version=version,
        contact_id=contact_id,
        key=key,
        occurrence=occurrence,
        actor=actor,
        state=_STATES[state],
        step_id=step_id,
        rev=rev,
        entered_at=from_micros(entered_at),
        moved_at=from_micros(moved_at),
        trace_count=trace_count,
        due_at=None if deadline is None else from_micros(deadline),
        waiting=waiting_of(wait_kind, wait_subject, None if wait_since is None else from_micros(wait_since), wait_key),
        end_reason=end_reason,
        ended_at=None if ended_at is None else from_micros(ended_at),
        skipping=parked == SKIP,
        **from_data(_json(data)),
    )
