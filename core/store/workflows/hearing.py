"""A batch of events and what it is matched against, in one look: who listens, what holds for their organizations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from core.domain.frozen import frozen
from core.domain.workflow import firing
from core.store.events import events
from core.store.events.events import UnmatchedEvent
from core.store.metadata import to_micros, write_json
from core.store.transaction import Transaction, values_by_column
from core.store.workflows.facts import Surroundings
from core.store.workflows.listeners import EventKey, Listener

_LISTENING = "SELECT 0 AS what, l.org_id, l.event_name, l.role, l.workflow_id, l.version FROM "
_AROUND = (
    " UNION ALL SELECT 1, org_id, timezone, '', '', 0 FROM organizations WHERE org_id {among} "
    "UNION ALL SELECT 2, org_id, '', '', id, 0 FROM workflows WHERE state = 'paused' AND org_id {among} "
    "ORDER BY 1, 2, 3, 4, 5, 6"
)
_HEARING_SQLITE = (
    _LISTENING  # noqa: S608
    + "json_each($1) w CROSS JOIN workflow_listeners l "
    + "ON l.org_id = (w.value ->> 0) AND l.event_name = (w.value ->> 1)"
    + _AROUND.format(among="IN (SELECT value FROM json_each($2))")
)
_HEARING_POSTGRESQL = (
    _LISTENING
    + "unnest($1::text[], $2::text[]) AS w(org_id, event_name) JOIN workflow_listeners l USING (org_id, event_name)"
    + _AROUND.format(among="= ANY($3::text[])")
)
_OF_TAKEN = "org_id = ANY(ARRAY(SELECT DISTINCT org_id FROM taken))"
_CLAIM_POSTGRESQL = (
    f"{events.CLAIM_POSTGRESQL}, "  # noqa: S608
    "(SELECT json_agg(json_build_array(org_id, event_name, role, workflow_id, version) "
    "ORDER BY org_id, event_name, role, workflow_id, version) "
    f"FROM workflow_listeners WHERE {_OF_TAKEN} AND event_name = ANY(ARRAY("
    f"SELECT event_name FROM taken UNION SELECT '{firing.source_event('')}' || source_id FROM taken))), "
    f"(SELECT json_object_agg(org_id, timezone) FROM organizations WHERE {_OF_TAKEN}), "
    f"(SELECT json_agg(json_build_array(org_id, id)) FROM workflows WHERE state = 'paused' AND {_OF_TAKEN})"
)


@frozen
class Hearing:
    """Who listens to the events of a batch, and what holds for their organizations."""

    listeners: Mapping[EventKey, Sequence[Listener]]
    around: Surroundings

    def of(self, names: Collection[EventKey]) -> Hearing:
        """Return what of it is about these events."""
        return Hearing({key: who for key, who in self.listeners.items() if key in names}, self.around)


async def claim(
    tx: Transaction, now: datetime, limit: int, *, around: timedelta | None = None
) -> tuple[list[UnmatchedEvent], Hearing]:
    """Take events off the matcher's list, in order of arrival, and tell who listens to their names and sources.

    In a system transaction; every organization gets its share. Other processes pass over the events until it ends, and
    if it fails they are on the list again. On PostgreSQL `around` leaves those for another time that came, by their
    days, longer ago or later than this.
    """
    if tx.dialect == "postgresql":
        days = events.days_around(now, around)
        ((taken, listening, zones, paused),) = await tx.fetch(_CLAIM_POSTGRESQL, to_micros(now), limit, *days)
        heard: dict[EventKey, list[Listener]] = {}
        for org, name, *about in listening or ():
            heard.setdefault((org, name), []).append(Listener(org, name, *about))
        held_still = frozenset((org, workflow) for org, workflow in paused or ())
        return events.unmatched(taken or ()), Hearing(heard, Surroundings(zones or {}, held_still))
    batch = events.unmatched(await tx.fetch(events.CLAIM_SQLITE, to_micros(now), limit))
    names = {(one.org_id, name) for one in batch for name in (one.name, firing.source_event(one.facts.source_id))}
    return batch, await of_events(tx, names, {one.org_id for one in batch})


async def of_events(tx: Transaction, names: Iterable[EventKey], orgs: Iterable[str]) -> Hearing:
    """Return who listens to these events, for a loop's transaction, and the surroundings of these organizations."""
    wanted, among = sorted(set(names)), sorted(set(orgs))
    if not among:
        return Hearing({}, Surroundings({}, frozenset()))
    if tx.dialect == "postgresql":
        keys = values_by_column(wanted) if wanted else [[], []]
        rows = await tx.fetch(_HEARING_POSTGRESQL, *keys, among)
    else:
        rows = await tx.fetch(_HEARING_SQLITE, write_json(wanted), write_json(among))
    heard: dict[EventKey, list[Listener]] = {}
    for what, org, name, role, workflow, version in rows:
        if what == 0:
            heard.setdefault((org, name), []).append(Listener(org, name, role, workflow, version))
    zones = {org: zone for what, org, zone, *_ in rows if what == 1}
    paused = frozenset((org, workflow) for what, org, _, _, workflow, _ in rows if what == 2)
    return Hearing(heard, Surroundings(zones, paused))
