"""Which workflows listen to which events: to start enrollments, to end them, or because a step waits for one.

The events of the core's own are listened to under names that begin with `$`: `$record.contact`, `$source.<id>`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy import Column, Index, Integer, Table, delete, or_, select

from core.domain.frozen import frozen
from core.domain.workflow import firing
from core.domain.workflow.version import Version
from core.store.events.sources import sources
from core.store.metadata import Name, dump_json, metadata, org_id
from core.store.transaction import Transaction

TRIGGER = "trigger"
RULE = "rule"
WAIT = "wait:"
"""And the field by which a step finds its event."""

workflow_listeners = Table(
    "workflow_listeners",
    metadata,
    org_id(),
    Column("event_name", Name, primary_key=True),
    # `trigger`: the newest version of an active workflow. `rule` and `wait:<field>`: of every version, because
    # enrollments pin theirs.
    Column("role", Name, primary_key=True),
    Column("workflow_id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Index("workflow_listeners_workflow", "org_id", "workflow_id"),
)

_RECORDS_SQLITE = (
    "SELECT DISTINCT l.org_id, l.event_name FROM json_each($1) w CROSS JOIN workflow_listeners l "
    "ON l.org_id = w.value AND l.event_name >= '$record.' AND l.event_name < '$record/'"
)
_RECORDS_POSTGRESQL = (
    "SELECT DISTINCT org_id, event_name FROM workflow_listeners "
    "WHERE org_id = ANY($1::text[]) AND event_name >= '$record.' AND event_name < '$record/'"
)


@frozen
class Listener:
    """A version of a workflow that listens to an event."""

    org_id: str
    event_name: str
    role: str
    workflow_id: str
    version: int

    @property
    def field(self) -> str:
        """Return the field by which a step finds its event; empty for other roles."""
        return self.role.removeprefix(WAIT) if self.role.startswith(WAIT) else ""


EventKey = tuple[str, str]
"""Organization and name of an event."""


async def publish(tx: Transaction, version: Version) -> None:
    """Let a new version listen: its triggers instead of the older ones, its rules and waits beside theirs."""
    await stop(tx, version.workflow_id)
    rows = [(name, TRIGGER) for name in firing.trigger_events(version)]
    rows += [
        (firing.source_event(source), TRIGGER) for source in await _source_ids(tx, firing.trigger_sources(version))
    ]
    rows += [(name, RULE) for name in firing.moving_events(version)]
    rows += [(name, f"{WAIT}{field}") for name, field in firing.correlated_waits(version)]
    about: dict[str, Any] = {"workflow_id": version.workflow_id, "version": version.number}
    await tx.insert(workflow_listeners, [{"event_name": name, "role": role, **about} for name, role in rows])


async def stop(tx: Transaction, workflow_id: str) -> None:
    """Let a workflow start nobody any more; its enrollments go on listening."""
    table = workflow_listeners
    await tx.run(delete(table).where(table.c.workflow_id == workflow_id, table.c.role == TRIGGER))


async def _source_ids(tx: Transaction, named: Collection[str]) -> list[str]:
    """Return the ids of sources that are called by id or display name; one that is not there yet may come."""
    if not named:
        return []
    wanted = sorted(named)
    rows = await tx.all(
        select(sources.c.id, sources.c.display_name).where(
            or_(sources.c.id.in_(wanted), sources.c.display_name.in_(wanted))
        )
    )
    found = {row.id for row in rows}
    called = found | {row.display_name for row in rows}
    return sorted(found | {name for name in wanted if name not in called})


async def to_records(tx: Transaction, orgs: Iterable[str]) -> set[EventKey]:
    """Return which changes of records somebody listens to in these organizations: the check of every write."""
    wanted = sorted(set(orgs))
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_RECORDS_POSTGRESQL, wanted)
    else:
        rows = await tx.fetch(_RECORDS_SQLITE, dump_json(wanted))
    return {(row[0], row[1]) for row in rows}


async def source_names(tx: Transaction, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], frozenset[str]]:
    """Return how sources, by `(organization, id)`, are called: by id and by display name."""
    keys = set(wanted)
    if not keys:
        return {}
    table = sources
    rows = await tx.all(
        select(table.c.org_id, table.c.id, table.c.display_name).where(
            table.c.org_id.in_(sorted({org for org, _ in keys})), table.c.id.in_(sorted({source for _, source in keys}))
        )
    )
    return {(row.org_id, row.id): frozenset({row.id, row.display_name}) for row in rows}
