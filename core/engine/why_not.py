"""Gathering what is stored about a contact and a workflow, to answer why the one is not in the other."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from core.domain.enrollment import EventFacts, Facts
from core.domain.errors import NotFound, NotPublished
from core.domain.workflow import firing, timed_looks
from core.domain.workflow.record_changes import RECORD, ChangedRecord
from core.domain.workflow.timed_looks import InLine, timed_look
from core.domain.workflow.trigger_kinds import PoolTrigger, SourceTrigger
from core.domain.workflow.version import Version
from core.domain.workflow.why_not import TimedLook, TriggerLook, WhyNot, why_not
from core.domain.workflow.zones import Zone
from core.store.events import events
from core.store.merging import merges
from core.store.records import record_triggers, records
from core.store.transaction import Transaction
from core.store.workflows import audience, enrollments, entries, listeners, schedules, workflows
from core.store.workflows import facts as fact_store
from core.store.workflows.records_in_hand import InHand
from core.store.workflows.workflows import VersionCache

LOOKED_AT = 200
"""Newest events of the contact that are looked through."""
SHOWN = 10


async def explain(tx: Transaction, versions: VersionCache, workflow_id: str, contact_id: str) -> WhyNot:
    """Return why a contact is not in a workflow, from what is stored, in a caller's transaction.

    Raises NotFound, and NotPublished for a workflow without a version.
    """
    workflow = await workflows.get(tx, workflow_id)
    if workflow is None:
        raise NotFound(kind="workflow", id=workflow_id)
    if not workflow.published_version:
        raise NotPublished(workflow_id=workflow_id, state=workflow.state)
    contact = await records.get(tx, contact_id)
    if contact is None or contact.type != "contact":
        raise await merges.kept_by(tx, contact_id) or NotFound(kind="contact", id=contact_id)
    version = await versions.load(tx, tx.org_id, workflow_id, workflow.published_version)
    key = (tx.org_id, contact_id)
    around = await fact_store.surroundings(tx, [tx.org_id])
    needs = (
        version.needs | {"lists"}
        if any(one.audience.list for one in schedules.timed(version).values())
        else version.needs
    )
    newest = await events.newest_of(tx, contact_id, LOOKED_AT)
    facts = (await fact_store.gather(tx, {key: needs}, around.timezones, in_hand={key: _in_hand(version, newest)}))[key]
    table = enrollments.enrollments
    rows = await tx.all(
        select(table)
        .where(table.c.workflow_id == workflow_id, table.c.contact_id == contact_id)
        .order_by(table.c.entered_at.desc(), table.c.id.desc())
        .limit(SHOWN)
    )
    return why_not(
        version,
        workflow.state,
        facts,
        tx.now,
        enrollments=[enrollments.to_domain(row) for row in rows],
        refusals=await entries.of_contact(tx, workflow_id, contact_id),
        looks=await _looks(tx, version, facts, newest),
        timed=await _timed(tx, version, facts, was_in=bool(rows)),
    )


def _in_hand(version: Version, newest: Sequence[EventFacts]) -> set[InHand]:
    """Return the records that are looked at: the contact's newest, and those that its newest events tell of."""
    told = (ChangedRecord.of(event).about for event in newest if event.type == RECORD)
    named = {(kind, one) for about in told for kind, one in about.items() if kind in version.records}
    return named | {(kind, "") for kind in version.records}


async def _looks(tx: Transaction, version: Version, facts: Facts, newest: Sequence[EventFacts]) -> list[TriggerLook]:
    """Return what the triggers make of the contact's newest events, the newest first."""
    named: dict[tuple[str, str], frozenset[str]] = {}
    if any(isinstance(trigger, SourceTrigger) for trigger in version.triggers):
        named = await listeners.source_names(tx, {(tx.org_id, one.source_id) for one in newest if one.source_id})
    changes = [(tx.org_id, event, facts) for event in newest if event.type == RECORD]
    then = await record_triggers.as_they_were(tx, changes)
    found: list[TriggerLook] = []
    for event in newest:
        sources = named.get((tx.org_id, event.source_id), frozenset({event.source_id}))
        for position, trigger in enumerate(version.triggers):
            look = firing.look(trigger, event, facts, tx.now, sources=sources, then=then.get(event.id))
            if look is not None:
                found.append(TriggerLook(position, event, look))
        if len(found) >= SHOWN:
            break
    return found[:SHOWN]


async def _timed(tx: Transaction, version: Version, facts: Facts, *, was_in: bool) -> list[TimedLook]:
    """Return what the schedules and pools of a workflow would do about a contact."""
    triggers = schedules.timed(version)
    standing = await schedules.standing(tx, version.workflow_id) if triggers else {}
    found: list[TimedLook] = []
    for position, trigger in triggers.items():
        there = standing.get(position)
        never_in = version.workflow_id if isinstance(trigger, PoolTrigger) and not was_in else ""
        place = await audience.place(tx, trigger.audience, facts.contact.id, never_in=never_in)
        zone = schedules.zone(trigger, version, facts.organization_timezone)
        line = InLine(
            None if there is None else max(there.next_at, tx.now),
            zone,
            None if place is None else place.before,
            place is not None and place.at_least,
            there.firing.taken if there is not None and there.firing is not None else 0,
            was_in,
            "" if there is None else _done(there, zone),
        )
        found.append(timed_look(position, trigger, facts, line))
    return found


def _done(there: schedules.Standing, zone: Zone) -> str:
    """Return what a schedule or a pool did last; what a pause keeps of it comes first."""
    if there.missed is not None:
        return timed_looks.missed(there.missed.last, there.missed.count, zone)
    if there.last is None:
        return ""
    if there.last.left_out:
        return timed_looks.left_out(there.last.at, there.last.left_out, zone)
    return timed_looks.fired(there.last.at, there.last.taken, zone)
