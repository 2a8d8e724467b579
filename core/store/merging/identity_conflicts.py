"""Conflicts of identity: identifiers that should name one record and name two, told once and settled by a person.

Nothing is merged by them. A pair that somebody keeps apart is never told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, and_, or_, select, update

from core import ids
from core.domain.frozen import frozen
from core.store.metadata import Instant, Name, dump_json, metadata, org_id, to_micros
from core.store.transaction import Transaction, values_by_column


class ConflictState(StrEnum):
    """What became of a conflict."""

    OPEN = "open"
    MERGED = "merged"
    KEPT_APART = "kept_apart"


identity_conflicts = Table(
    "identity_conflicts",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("record_type", Name, nullable=False),
    Column("cause", Name, nullable=False),
    Column("chosen_id", Name, nullable=False),
    Column("kind", Name, nullable=False),
    Column("value", Name, nullable=False),
    Column("other_id", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("seen_count", Integer, nullable=False),
    Column("merge_id", Name, nullable=False),
    Column("resolved_by", Name, nullable=False),
    Column("resolved_at", Instant),
    Index("identity_conflicts_pair", "org_id", "chosen_id", "other_id", "kind", "value", unique=True),
    Index("identity_conflicts_other", "org_id", "other_id", "chosen_id"),
)

_NAMES = ("org_id", "id", "record_type", "cause", "chosen_id", "kind", "value", "other_id")
_COLUMNS = ", ".join(_NAMES)
_AGAIN = (
    "ON CONFLICT (org_id, chosen_id, other_id, kind, value) DO UPDATE SET seen_at = excluded.seen_at, "
    "seen_count = identity_conflicts.seen_count + excluded.seen_count, cause = excluded.cause, "
    # What was merged and came apart again is open again.
    "state = 'open' WHERE identity_conflicts.state <> 'kept_apart'"
)
_REST = "state, created_at, seen_at, seen_count, merge_id, resolved_by"
_NOTE_POSTGRESQL = (
    f"INSERT INTO identity_conflicts ({_COLUMNS}, {_REST}) "  # noqa: S608 -- names are ours
    f"SELECT {_COLUMNS}, 'open', $1::bigint, $1::bigint, times, '', '' FROM unnest("
    + "".join(f"${number}::text[], " for number in range(2, len(_NAMES) + 2))
    + f"${len(_NAMES) + 2}::int[]) AS w({_COLUMNS}, times) {_AGAIN}"
)
_NOTE_SQLITE = (
    f"INSERT INTO identity_conflicts ({_COLUMNS}, {_REST}) SELECT "  # noqa: S608 -- names are ours
    + ", ".join(f"(w.value ->> {number})" for number in range(len(_NAMES)))
    + f", 'open', $1, $1, (w.value ->> {len(_NAMES)}), '', '' FROM json_each($2) w WHERE true {_AGAIN}"
)


@frozen
class Seen:
    """A conflict as somebody met it."""

    record_type: str
    cause: str
    """The event or the call."""
    chosen_id: str
    kind: str
    value: str
    other_id: str


async def note(tx: Transaction, seen: Iterable[Seen]) -> None:
    """Keep conflicts, or count them once more; those of records that are kept apart are not told."""
    counts: dict[tuple[str, str, str, str], int] = {}
    last: dict[tuple[str, str, str, str], Seen] = {}
    for one in seen:
        if one.other_id and one.chosen_id and one.other_id != one.chosen_id:
            key = (one.chosen_id, one.other_id, one.kind, one.value)
            counts[key] = counts.get(key, 0) + 1
            last[key] = one
    if not last:
        return
    apart = await kept_apart(tx, [(key[0], key[1]) for key in last])
    rows = [
        (tx.org_id, ids.mint("idc", tx.now), one.record_type, one.cause, *(key[0], *key[2:], key[1]), counts[key])
        for key, one in sorted(last.items())  # in one order everywhere: two writers never wait in a circle
        if frozenset(key[:2]) not in apart
    ]
    if not rows:
        return
    if tx.dialect == "postgresql":
        await tx.fetch(_NOTE_POSTGRESQL, to_micros(tx.now), *values_by_column(rows))
    else:
        await tx.fetch(_NOTE_SQLITE, to_micros(tx.now), dump_json(rows))


async def kept_apart(tx: Transaction, pairs: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
    """Return which of these pairs somebody said are two."""
    wanted = sorted({tuple(sorted(pair)) for pair in pairs})
    found: set[frozenset[str]] = set()
    c = identity_conflicts.c
    for start in range(0, len(wanted), 200):
        some = wanted[start : start + 200]
        which = or_(*(_between(*pair) for pair in some))
        rows = await tx.all(select(c.chosen_id, c.other_id).where(which, c.state == ConflictState.KEPT_APART.value))
        found |= {frozenset((row.chosen_id, row.other_id)) for row in rows}
    return found


def _between(one: str, other: str) -> Any:
    c = identity_conflicts.c
    return or_(and_(c.chosen_id == one, c.other_id == other), and_(c.chosen_id == other, c.other_id == one))


async def get(tx: Transaction, conflict_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a conflict, or None; `lock` holds it until the transaction ends."""
    statement = select(identity_conflicts).where(identity_conflicts.c.id == conflict_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def keep_apart(tx: Transaction, one: str, other: str, by: str) -> None:
    """Settle every open conflict between two records: they are two."""
    await _settle(tx, one, other, ConflictState.KEPT_APART, by, "")


async def join(tx: Transaction, one: str, other: str, by: str, merge_id: str) -> None:
    """Settle every conflict between two records that a merge made one."""
    await _settle(tx, one, other, ConflictState.MERGED, by, merge_id)


async def _settle(tx: Transaction, one: str, other: str, state: ConflictState, by: str, merge_id: str) -> None:
    values = {"state": state.value, "resolved_by": by, "resolved_at": tx.now, "merge_id": merge_id}
    which = and_(_between(one, other), identity_conflicts.c.state == ConflictState.OPEN.value)
    await tx.run(update(identity_conflicts).where(which).values(**values))


async def reopen(tx: Transaction, merge_id: str) -> None:
    """Open the conflicts again that a merge had settled."""
    values = {"state": ConflictState.OPEN.value, "resolved_by": "", "resolved_at": None, "merge_id": ""}
    await tx.run(update(identity_conflicts).where(identity_conflicts.c.merge_id == merge_id).values(**values))


async def open_of(tx: Transaction, record_id: str) -> Sequence[Row[Any]]:
    """Return the open conflicts that a record is part of."""
    c = identity_conflicts.c
    which = or_(c.chosen_id == record_id, c.other_id == record_id)
    return await tx.all(select(identity_conflicts).where(which, c.state == ConflictState.OPEN.value))
