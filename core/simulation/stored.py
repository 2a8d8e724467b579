"""Contacts and events of an organization as a simulation takes them; read only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from core.domain import filters
from core.domain.enrollment import RecordFacts, State
from core.domain.workflow.entry import Standing
from core.domain.workflow.record_changes import RECORD
from core.domain.workflow.triggers import AUDIENCE_FIELDS
from core.simulation.script import MOST_EVENTS, ScriptedEvent
from core.simulation.subjects import Subject
from core.store.events.events import events
from core.store.metadata import day_of
from core.store.records import records
from core.store.transaction import Transaction
from core.store.workflows import enrollments, facts

_PAGE = 500


async def sample(
    tx: Transaction, filter_text: str, size: int, workflow_id: str = "", types: Collection[str] = ()
) -> tuple[Subject, ...]:
    """Return the newest contacts that fit a filter, so many at most; with a workflow, how they stand in it.

    `types` are those of the opportunities and own objects that it reads.
    Raises Invalid for a filter that cannot be read.
    """
    where = filters.parse(filter_text, AUDIENCE_FIELDS)
    found: list[records.Record] = []
    token = ""
    while len(found) < size:
        page, token = await records.page(
            tx, "contact", min(_PAGE, size - len(found)), token, filter_text=filter_text, where=where
        )
        found += page
        if not token:
            break
    return await _subjects(tx, [record.facts for record in found], workflow_id, types)


async def by_id(
    tx: Transaction, contact_ids: Sequence[str], workflow_id: str = "", types: Collection[str] = ()
) -> tuple[Subject, ...]:
    """Return contacts by id, in order; those that are not there are left out. With a workflow, how they stand in it."""
    found = await records.get_many(tx, contact_ids)
    there = [found[one].facts for one in dict.fromkeys(contact_ids) if one in found and found[one].type == "contact"]
    return await _subjects(tx, there, workflow_id, types)


async def _subjects(
    tx: Transaction, contacts: Sequence[RecordFacts], workflow_id: str, types: Collection[str]
) -> tuple[Subject, ...]:
    """Return contacts with all that decisions may look at, as the engine gathers it."""
    everything = frozenset({"company", "consent", "lists", "sent"} | ({"pipelines"} if types else set()))
    subjects: list[Subject] = []
    for start in range(0, len(contacts), _PAGE):
        page = contacts[start : start + _PAGE]
        wanted = {(tx.org_id, one.id): everything for one in page}
        newest = {key: [(kind, "") for kind in types] for key in wanted}
        known = await facts.gather(tx, wanted, {}, in_hand=newest if types else None)
        entered = await _entered(tx, workflow_id, [one.id for one in page]) if workflow_id else {}
        for one in page:
            seen = known[tx.org_id, one.id]
            about = (seen.lead, seen.company, seen.lists, seen.sent)
            more: Any = {"consent": seen.consent, "records": seen.records, "pipelines": seen.pipelines}
            subjects.append(Subject(one, *about, **more, entered=entered.get(one.id, {}), age=one.id))
    return tuple(subjects)


async def _entered(tx: Transaction, workflow_id: str, contact_ids: Sequence[str]) -> dict[str, dict[str, Standing]]:
    """Return the latest enrollments of contacts in a workflow, by contact and key."""
    table = enrollments.enrollments
    rows = await tx.all(
        select(table.c.contact_id, table.c.key, table.c.state, table.c.entered_at)
        .where(table.c.workflow_id == workflow_id, table.c.contact_id.in_(contact_ids))
        .order_by(table.c.occurrence)
    )
    found: dict[str, dict[str, Standing]] = {}
    for row in rows:
        found.setdefault(row.contact_id, {})[row.key] = Standing(State(row.state), row.entered_at)
    return found


async def recorded(
    tx: Transaction,
    contact_ids: Iterable[str],
    since: datetime,
    until: datetime,
    start: datetime,
    *,
    workflow_id: str = "",
) -> tuple[ScriptedEvent, ...]:
    """Return the events that came in for contacts in a window, moved so that the window begins at `start`.

    What the workflow itself emitted is left out: the simulation emits it anew.
    """
    wanted = sorted(set(contact_ids))
    found: list[ScriptedEvent] = []
    for page in range(0, len(wanted), _PAGE):
        rows = await tx.all(
            select(events)
            .where(
                events.c.contact_id.in_(wanted[page : page + _PAGE]),
                events.c.day >= day_of(since),
                events.c.day <= day_of(until),
                events.c.received_at >= since,
                events.c.received_at <= until,
                events.c.event_type != RECORD,
                events.c.source_id != f"workflow:{workflow_id}",
            )
            .order_by(events.c.id)
            .limit(MOST_EVENTS - len(found))
        )
        found += [
            ScriptedEvent(
                row.event_name,
                row.fields,
                row.contact_id,
                start + (row.received_at - since),
                type=row.event_type,
                id=row.id,
                occurred=row.received_at - row.occurred_at,
            )
            for row in rows
        ]
    return tuple(sorted(found, key=lambda one: (one.at or start, one.id)))
