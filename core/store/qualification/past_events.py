"""Events of contacts as of an instant: those that had come in by then, about whoever they were noted about then."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_, select

from core.domain import names
from core.domain.enrollment import EventFacts
from core.domain.records.lateness import FARTHEST_AHEAD
from core.store.merging.merges import merge_moves, merges
from core.store.metadata import day_of, dump_json, from_micros, to_micros
from core.store.transaction import Transaction, values_by_column

MOST_EVENTS = 500
"""Of one contact; of more only those that came in last count: no rule's cap is that far away."""

Asked = tuple[str, datetime, bool]
"""A contact, an instant, and whether anything can have come since."""

_Move = tuple[datetime, str, str]
"""When an event went from one contact to another."""

_COLUMNS = "e.id, e.event_name, e.event_type, e.fields, e.occurred_at, e.received_at"
_POSTGRESQL = (
    f"SELECT w.place, {_COLUMNS} FROM unnest($2::int[], $3::text[], $4::text[], $5::int[], $6::bigint[]) "  # noqa: S608
    "AS w(place, contact_id, first_id, day, until) CROSS JOIN LATERAL (SELECT * FROM events e WHERE e.org_id = $1 "
    "AND e.contact_id = w.contact_id AND e.id >= w.first_id AND e.day >= w.day AND e.received_at <= w.until "
    "AND e.event_name = ANY($7::text[]) ORDER BY e.id DESC LIMIT $8) e"
)
_SQLITE = (
    "SELECT place, id, event_name, event_type, fields, occurred_at, received_at FROM ("  # noqa: S608
    f"SELECT w.value ->> 0 AS place, {_COLUMNS}, "
    "row_number() OVER (PARTITION BY w.value ->> 0 ORDER BY e.id DESC) AS nth FROM json_each($2) w "
    "CROSS JOIN events e ON e.org_id = $1 AND e.contact_id = (w.value ->> 1) AND e.id >= (w.value ->> 2) "
    "AND e.day >= (w.value ->> 3) AND e.received_at <= (w.value ->> 4) "
    "AND e.event_name IN (SELECT value FROM json_each($3))) WHERE nth <= $4"
)


async def of_contacts(
    tx: Transaction, asked: Sequence[Asked], event_names: Collection[str], window: timedelta
) -> list[tuple[EventFacts, ...]]:
    """Return for each contact its events of these names that had come in by its instant, oldest first."""
    if not event_names:
        return [()] * len(asked)
    past = [(contact, as_of) for contact, as_of, past in asked if past and contact]
    moved = await _moved(tx, past) if past else _Moved({}, {})
    places: list[int] = []  # of each thing that is looked up, whom it is for
    looked_up: list[tuple[str, datetime]] = []
    for place, (contact, as_of, _) in enumerate(asked):
        for one in sorted(moved.circle(contact)) if contact else ():
            places.append(place)
            looked_up.append((one, as_of))
    found = await _read(tx, looked_up, event_names, window, MOST_EVENTS)
    gathered: list[list[EventFacts]] = [[] for _ in asked]
    for place, (owner, _), events in zip(places, looked_up, found, strict=True):
        contact, as_of, _ = asked[place]
        gathered[place] += [one for one in events if moved.owner(one.id, owner, as_of) == contact]
    return [tuple(sorted(events, key=lambda one: one.id)[-MOST_EVENTS:]) for events in gathered]


async def circle(tx: Transaction, contact_id: str, as_of: datetime) -> set[str]:
    """Return the contacts that may have now what was this one's at an instant: merges since may have moved it."""
    return (await _moved(tx, [(contact_id, as_of)])).circle(contact_id)


async def _read(
    tx: Transaction,
    wanted: Sequence[tuple[str, datetime]],
    event_names: Collection[str],
    window: timedelta,
    most: int,
) -> list[list[EventFacts]]:
    rows = []
    for place, (contact, until) in enumerate(wanted):
        since = until - window - FARTHEST_AHEAD  # what was announced came in before it happened
        rows.append((place, contact, names.compose("evt", since, 0), day_of(since), to_micros(until)))
    found: list[list[EventFacts]] = [[] for _ in wanted]
    if not rows:
        return found
    if tx.dialect == "postgresql":
        read = await tx.fetch(_POSTGRESQL, tx.org_id, *values_by_column(rows), sorted(event_names), most)
    else:
        read = await tx.fetch(_SQLITE, tx.org_id, dump_json(rows), dump_json(sorted(event_names)), most)
    for place, id_, name, type_, fields, occurred_at, received_at in read:
        fields = json.loads(fields) if isinstance(fields, str) else fields
        event = EventFacts(id_, name, type_, fields, from_micros(occurred_at), from_micros(received_at))
        found[place].append(event)
    return found


class _Moved:
    """What merges have moved since the earliest instant that is asked about."""

    def __init__(self, neighbours: Mapping[str, set[str]], moves: Mapping[str, list[_Move]]):
        self._neighbours, self._moves = neighbours, moves

    def circle(self, contact: str) -> set[str]:
        """Return the contacts that may have the events of this one now."""
        found, open_ones = {contact}, [contact]
        while open_ones:
            for other in self._neighbours.get(open_ones.pop(), ()):
                if other not in found:
                    found.add(other)
                    open_ones.append(other)
        return found

    def owner(self, event_id: str, now: str, as_of: datetime) -> str:
        """Return whose event it was at an instant; `now` is whose it is."""
        for at, before, after in reversed(self._moves.get(event_id, ())):
            if at > as_of and now == after:
                now = before
        return now


async def _moved(tx: Transaction, asked: Sequence[tuple[str, datetime]]) -> _Moved:
    """Return what merges, and their undoing, have done to the events of these contacts since their instants."""
    earliest = min(as_of for _, as_of in asked)
    found: dict[str, Any] = {}
    neighbours: dict[str, set[str]] = {}
    c, seen = merges.c, set[str]()
    reached = {contact for contact, _ in asked}
    while fresh := sorted(reached - seen):
        seen |= reached
        for start in range(0, len(fresh), 1000):
            some = fresh[start : start + 1000]
            statement = select(c.id, c.kept_id, c.merged_id, c.created_at, c.undone_at).where(
                or_(c.kept_id.in_(some), c.merged_id.in_(some)),
                or_(c.created_at > earliest, c.undone_at > earliest),
            )
            for row in await tx.all(statement):
                found[row.id] = row
                neighbours.setdefault(row.kept_id, set()).add(row.merged_id)
                neighbours.setdefault(row.merged_id, set()).add(row.kept_id)
                reached |= {row.kept_id, row.merged_id}
    moves: dict[str, list[_Move]] = {}
    for start in range(0, len(found), 1000):
        m = merge_moves.c
        some = sorted(found)[start : start + 1000]
        for move in await tx.all(
            select(m.merge_id, m.row_key, m.before, m.after).where(m.merge_id.in_(some), m.place == "events")
        ):
            row, before, after = found[move.merge_id], move.before["contact_id"], move.after["contact_id"]
            of_event = moves.setdefault(move.row_key["id"], [])
            of_event.append((row.created_at, before, after))
            if row.undone_at is not None:
                of_event.append((row.undone_at, after, before))
    for of_event in moves.values():
        of_event.sort()
    return _Moved(neighbours, moves)
