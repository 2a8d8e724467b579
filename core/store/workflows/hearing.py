"""What a batch of events is matched against, in one look: who listens, and what holds for their organizations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from core.domain.frozen import frozen
from core.store.metadata import write_json
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


@frozen
class Hearing:
    """Who listens to the events of a batch, and what holds for their organizations."""

    listeners: Mapping[EventKey, Sequence[Listener]]
    around: Surroundings


async def of_events(tx: Transaction, events: Iterable[EventKey], orgs: Iterable[str]) -> Hearing:
    """Return who listens to these events, for a loop's transaction, and the surroundings of these organizations."""
    wanted, among = sorted(set(events)), sorted(set(orgs))
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
