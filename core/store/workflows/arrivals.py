"""Events that arrived for an enrollment since it began to listen, for the looks that no event may slip past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.domain import names
from core.domain.enrollment import EventFacts
from core.domain.frozen import frozen
from core.domain.records.lateness import is_history
from core.domain.workflow.correlation import event_keys
from core.store.events import events
from core.store.metadata import day_of, to_micros
from core.store.transaction import Transaction

_MOST = 1_000
_BY_NAME = (
    "SELECT org_id, id, event_name, event_type, fields, contact_id, occurred_at, received_at, source_id, hops "
    "FROM events WHERE org_id = $1 AND event_name = $2 AND received_at >= $3 AND received_at <= $4 "
)
_RECENT_BY_NAME = _BY_NAME + "AND id >= $6 AND day >= $7 ORDER BY id LIMIT $5"
_UNMATCHED_BY_NAME = _BY_NAME + "AND match_due_at > 0 LIMIT $5"
"""Reads the small index of what the matcher has not come to; by id it would read all that came during the wait."""


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
    fitting = []
    for name in one.names:
        about = (one.org_id, name, to_micros(one.since), to_micros(one.until), _MOST)
        if one.timed_out:
            rows = await tx.fetch(_UNMATCHED_BY_NAME, *about)
        else:
            rows = await tx.fetch(_RECENT_BY_NAME, *about, names.compose("evt", one.since, 0), day_of(one.since))
        fitting += [event for row in rows if one.key in event_keys(row[5], (event := events.to_facts(row)).fields)]
    return fitting
