"""Pairs of records that are probably one, found by and by.

Only what changed is compared, and only with what shares a key with it: the work grows with the changes and never with
all the pairs there could be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    Row,
    Table,
    and_,
    delete,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)

from core.domain import names
from core.domain.records import duplicates as rules
from core.domain.records.duplicates import COMPARED, LEAST_LIKENESS, MOST_OF_A_KEY, Likeness
from core.store import paging
from core.store.database import Database
from core.store.merging import merges
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.records.record_rows import Record, record_changes, records, to_record
from core.store.transaction import Transaction

CHANGES_AT_ONCE = 1_000
_ORGANIZATIONS_A_ROUND = 100
_SLICES_A_ROUND = 20
_KEYS_AT_ONCE = 500
_COMPARED_FIELDS = frozenset(
    ("email", "phone", "first_name", "last_name", "company_name", "company_id", "website", "name", "domain")
) | {"deleted", "erased", "merged_into"}

duplicate_pairs = Table(
    "duplicate_pairs",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("record_type", Name, nullable=False),
    # The older one.
    Column("first_id", Name, nullable=False),
    Column("second_id", Name, nullable=False),
    # In thousandths.
    Column("likeness", Integer, nullable=False),
    Column("reasons", Json, nullable=False),
    # Who said that they are two; empty while nobody did.
    Column("dismissed_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("duplicate_pairs_two", "org_id", "first_id", "second_id", unique=True),
    Index("duplicate_pairs_second", "org_id", "second_id"),
    Index("duplicate_pairs_likeness", "org_id", "record_type", "likeness", "id"),
)

duplicate_keys = Table(
    "duplicate_keys",
    metadata,
    org_id(),
    Column("record_type", Name, primary_key=True),
    Column("key", Name, primary_key=True),
    Column("record_id", Name, primary_key=True),
    Index("duplicate_keys_record", "org_id", "record_id"),
)

duplicate_searches = Table(
    "duplicate_searches",
    metadata,
    org_id(),
    # The last change of a record that was looked at.
    Column("place", BigInteger, nullable=False),
    Column("change_id", Name, nullable=False),
)

_BEHIND = (
    "SELECT o.org_id FROM organizations o LEFT JOIN duplicate_searches s ON s.org_id = o.org_id WHERE ("
    # Compared as one and in order, so that an index is searched: who is up to date is told by its end. With `coalesce`,
    # which PostgreSQL does not trust beside row-level security, all of the history would be read.
    "SELECT c.id FROM record_changes c WHERE c.org_id = o.org_id AND (c.place, c.id) > "
    "(CASE WHEN s.place IS NULL THEN -1 ELSE s.place END, CASE WHEN s.place IS NULL THEN '' ELSE s.change_id END) "
    "ORDER BY c.place, c.id LIMIT 1) IS NOT NULL ORDER BY o.org_id LIMIT $1"
)
_SEEN_BY_ALL = text("record_changes.place < pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
"""On PostgreSQL: changes than which none of a smaller place can still appear."""


async def upkeep(database: Database) -> None:
    """Compare what changed since the last round, in every organization."""
    async with database.system() as tx:
        late = await behind(tx)
    for org in late:
        for _ in range(_SLICES_A_ROUND):
            async with database.write(org) as tx:
                if await look_further(tx) < CHANGES_AT_ONCE:
                    break


async def behind(tx: Transaction) -> list[str]:
    """Return organizations with changes that were not looked at, in a system transaction."""
    return [row[0] for row in await tx.fetch(_BEHIND, _ORGANIZATIONS_A_ROUND)]


async def look_further(tx: Transaction) -> int:
    """Compare the records of the next changes; return how many changes that were."""
    c, searches = record_changes.c, duplicate_searches
    row = await tx.first(select(searches).with_for_update())
    if row is None:
        await tx.insert(searches, [{"place": -1, "change_id": ""}], on_conflict="ignore")
        row = await tx.first(select(searches).with_for_update())
        assert row is not None
    further = tuple_(c.place, c.id) > tuple_(row.place, row.change_id)
    statement = select(c.place, c.id, c.record_id, c.field).where(further).order_by(c.place, c.id)
    if tx.dialect == "postgresql":
        statement = statement.where(_SEEN_BY_ALL)
    changes = await tx.all(statement.limit(CHANGES_AT_ONCE))
    if changes:
        await refresh(tx, {change.record_id for change in changes if change.field in _COMPARED_FIELDS})
        last = changes[-1]
        await tx.run(update(searches).values(place=last.place, change_id=last.id))
    return len(changes)


async def refresh(tx: Transaction, record_ids: Iterable[str]) -> None:
    """Compare these records with all that share a key with them, and keep what is alike."""
    wanted = sorted(set(record_ids))
    c = records.c
    rows = await tx.all(select(records).where(c.id.in_(wanted), c.type.in_(COMPARED), c.deleted_at.is_(None)))
    there = {row.id: to_record(row) for row in rows}
    await _forget(tx, [record_id for record_id in wanted if record_id not in there])
    found = {record.id: rules.keys(record.type, record.fields) for record in there.values()}
    await tx.run(delete(duplicate_keys).where(duplicate_keys.c.record_id.in_(sorted(there))))
    await tx.insert(
        duplicate_keys,
        [
            {"record_type": there[record_id].type, "key": key, "record_id": record_id}
            for record_id, keys in found.items()
            for key in sorted(keys)
        ],
    )
    pairs = await _sharing(tx, there, found)
    others = {record_id for pair in pairs for record_id in pair} - set(there)
    if others:
        more = await tx.all(select(records).where(c.id.in_(sorted(others)), c.deleted_at.is_(None)))
        there |= {row.id: to_record(row) for row in more}
    parted = await merges.parted(tx, pairs) if pairs else set()
    alike = {
        pair: likeness
        for pair in pairs
        if pair[0] in there and pair[1] in there and frozenset(pair) not in parted
        if (likeness := _compared(there[pair[0]], there[pair[1]])).value >= LEAST_LIKENESS
    }
    await _keep(tx, found, there, alike)


def _compared(one: Record, other: Record) -> Likeness:
    return rules.compare(one.type, one.fields, other.fields)


async def _forget(tx: Transaction, record_ids: Sequence[str]) -> None:
    """Take away what is known of records that are no more."""
    if not record_ids:
        return
    k, p = duplicate_keys.c, duplicate_pairs.c
    await tx.run(delete(duplicate_keys).where(k.record_id.in_(record_ids)))
    open_ = p.dismissed_by == ""
    await tx.run(delete(duplicate_pairs).where(or_(p.first_id.in_(record_ids), p.second_id.in_(record_ids)), open_))


async def _sharing(
    tx: Transaction, there: Mapping[str, Record], found: Mapping[str, frozenset[str]]
) -> set[tuple[str, str]]:
    """Return the pairs, older first, of these records and those that share a key with one of them."""
    by_key: dict[tuple[str, str], set[str]] = {}
    for record_id, keys in found.items():
        for key in keys:
            by_key.setdefault((there[record_id].type, key), set()).add(record_id)
    pairs: set[tuple[str, str]] = set()
    k = duplicate_keys.c
    for record_type in COMPARED:
        named = sorted(key for kind, key in by_key if kind == record_type)
        for start in range(0, len(named), _KEYS_AT_ONCE):
            which = and_(k.record_type == record_type, k.key.in_(named[start : start + _KEYS_AT_ONCE]))
            few = await tx.all(
                select(k.key).where(which).group_by(k.key).having(func.count().between(2, MOST_OF_A_KEY))
            )
            telling = [row.key for row in few]
            for row in await tx.all(select(k.key, k.record_id).where(k.record_type == record_type, k.key.in_(telling))):
                mine = by_key[record_type, row.key]
                pairs |= {_ordered(row.record_id, one) for one in mine if one != row.record_id}
    return pairs


def _ordered(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


async def _keep(
    tx: Transaction,
    looked_at: Iterable[str],
    there: Mapping[str, Record],
    alike: Mapping[tuple[str, str], Likeness],
) -> None:
    """Write what is alike; pairs of these records that no longer are go, but what was dismissed stays so."""
    p, ids = duplicate_pairs.c, sorted(looked_at)
    stored = await tx.all(
        select(p.id, p.first_id, p.second_id, p.dismissed_by).where(or_(p.first_id.in_(ids), p.second_id.in_(ids)))
    )
    known = {(row.first_id, row.second_id): row for row in stored}
    gone = [row.id for pair, row in known.items() if pair not in alike and not row.dismissed_by]
    if gone:
        await tx.run(delete(duplicate_pairs).where(p.id.in_(gone)))
    new = []
    for pair, likeness in sorted(alike.items()):
        values = {
            "likeness": round(likeness.value * 1000),
            "reasons": [[one.field, one.first, one.second, one.likeness] for one in likeness.reasons],
        }
        if pair in known:
            await tx.run(update(duplicate_pairs).where(p.id == known[pair].id).values(values))
            continue
        row_id = names.derive("dup", tx.now, *pair)
        new.append(
            {
                "id": row_id,
                "record_type": there[pair[0]].type,
                "first_id": pair[0],
                "second_id": pair[1],
                "dismissed_by": "",
                "created_at": tx.now,
                **values,
            }
        )
    await tx.insert(duplicate_pairs, new, on_conflict="ignore")


async def page(
    tx: Transaction, record_type: str, record_id: str, least: int, size: int, token: str
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of pairs that nobody dismissed, likeliest first, and the next token. Raises Invalid."""
    p, size = duplicate_pairs.c, paging.page_size(size)
    within = f"duplicates|{record_type}|{record_id}|{least}"
    statement = select(duplicate_pairs).where(p.record_type == record_type, p.likeness >= least, p.dismissed_by == "")
    if record_id:
        statement = statement.where(or_(p.first_id == record_id, p.second_id == record_id))
    if token:
        likeness, _, last = paging.decode_token(token, within).partition("|")
        statement = statement.where(or_(p.likeness < int(likeness), and_(p.likeness == int(likeness), p.id < last)))
    rows = await tx.all(statement.order_by(p.likeness.desc(), p.id.desc()).limit(size + 1))
    following = ""
    if len(rows) > size:
        rows = rows[:size]
        following = paging.encode_token(f"{rows[-1].likeness}|{rows[-1].id}", within)
    named = {record_id for row in rows for record_id in (row.first_id, row.second_id)}
    standing = await _standing(tx, named)
    return [row for row in rows if {row.first_id, row.second_id} <= standing], following


async def _standing(tx: Transaction, record_ids: Iterable[str]) -> set[str]:
    c = records.c
    rows = await tx.all(select(c.id).where(c.id.in_(sorted(record_ids)), c.deleted_at.is_(None)))
    return {row.id for row in rows}


async def get(tx: Transaction, pair_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a pair, or None."""
    statement = select(duplicate_pairs).where(duplicate_pairs.c.id == pair_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def dismiss(tx: Transaction, pair_id: str, by: str) -> None:
    """Note that a pair are two."""
    await tx.run(update(duplicate_pairs).where(duplicate_pairs.c.id == pair_id).values(dismissed_by=by))
