"""Events that arrived for an enrollment since it began to listen, for the looks that no event may slip past."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from core.domain import names
from core.domain.enrollment import EventFacts
from core.domain.frozen import frozen
from core.domain.records.lateness import is_history
from core.domain.workflow.correlation import event_keys
from core.store.events import events
from core.store.metadata import day_of, to_micros
from core.store.transaction import Transaction

_PAGE = 1_000
_BY_NAME = (
    "SELECT org_id, id, event_name, event_type, fields, contact_id, occurred_at, received_at, source_id, hops "
    "FROM events WHERE org_id = $1 AND event_name = $2 AND received_at >= $3 AND received_at <= $4 AND {says} "
)
_SAYS = {"sqlite": "instr(fields, $5) > 0", "postgresql": "position($5 in fields::text) > 0"}
_RECENT = _BY_NAME + "AND id > $6 AND day >= $7 ORDER BY id LIMIT $8"
_UNMATCHED = _BY_NAME + "AND match_due_at > 0"
"""Reads the small index of what the matcher has not come to; by id it would read all that came during the wait."""
_PLAIN = re.compile(r"[\w@:./ -]+", re.ASCII)
_FRACTION = re.compile(r"-?\d[\d.]*(\.\d|e)[\de-]*", re.IGNORECASE)


@frozen
class Listening:
    """What an enrollment listens for."""

    enrollment_id: str
    org_id: str
    contact_id: str
    key: str
    """The contact's id, or a field and its value such as `order_id=123`."""
    names: tuple[str, ...]
    since: datetime
    until: datetime
    timed_out: bool
    """Its time is over: only what has not been matched yet can have slipped past."""


async def arrived(tx: Transaction, listening: Sequence[Listening]) -> dict[str, list[EventFacts]]:
    """Return the events that arrived for enrollments, by their ids, in order of arrival; history is not among them."""
    heard: dict[str, list[EventFacts]] = {}
    for timed_out in (False, True):
        some = [one for one in listening if one.timed_out is timed_out]
        own = [one for one in some if one.key == one.contact_id]
        wanted = [(one.org_id, one.contact_id, name, one.since, one.until) for one in own for name in one.names]
        found = await events.received_since(tx, wanted, unmatched=timed_out)
        for one in own:
            for name in one.names:
                facts = found.get((one.org_id, one.contact_id, name), ())
                fitting = [event for event in facts if one.since <= event.received_at <= one.until]
                heard.setdefault(one.enrollment_id, []).extend(fitting)
        for one in some:
            if one.key != one.contact_id:
                heard.setdefault(one.enrollment_id, []).extend(await _correlated(tx, one))
    return {
        enrollment: sorted(fresh, key=lambda event: event.id)
        for enrollment, events_of_it in heard.items()
        if (fresh := [event for event in events_of_it if not is_history(event.occurred_at, event.received_at)])
    }


async def _correlated(tx: Transaction, one: Listening) -> list[EventFacts]:
    """Return what came for one that listens by a field, among all the events of these names."""
    fitting: list[EventFacts] = []
    for name in one.names:
        about = (one.org_id, name, to_micros(one.since), to_micros(one.until), _written(one.key))
        async for rows in _unmatched(tx, about) if one.timed_out else _recent(tx, about, one.since):
            fitting += [event for row in rows if one.key in event_keys(row[5], (event := events.to_facts(row)).fields)]
    return fitting


async def _unmatched(tx: Transaction, about: tuple[Any, ...]) -> AsyncIterator[Sequence[Any]]:
    yield await tx.fetch(_UNMATCHED.format(says=_SAYS[tx.dialect]), *about)


async def _recent(tx: Transaction, about: tuple[Any, ...], since: datetime) -> AsyncIterator[Sequence[Any]]:
    after = names.compose("evt", since, 0)[:-1]  # the beginning of an id stands before all that go on so
    while after:
        rows = await tx.fetch(_RECENT.format(says=_SAYS[tx.dialect]), *about, after, day_of(since), _PAGE)
        after = rows[-1][1] if len(rows) == _PAGE else ""
        yield rows


def _written(key: str) -> str:
    """Return what the fields of an event that a key fits have in them as they are stored, so that few need be read.

    Nothing of what JSON may write in several ways, such as fractions and letters beyond ASCII.
    """
    value = key.partition("=")[2]
    return value if _PLAIN.fullmatch(value) and not _FRACTION.fullmatch(value) else ""
