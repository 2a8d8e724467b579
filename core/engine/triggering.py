"""Starting workflows for events: which triggers fire, for whom, and under which key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from core.domain.enrollment import Facts
from core.domain.steps.emit_event import MOST_HOPS
from core.domain.workflow import entry as entry_rules
from core.domain.workflow import firing
from core.domain.workflow.record_changes import RECORD, ChangedRecord
from core.domain.workflow.trigger_kinds import KEYED, SourceTrigger, Trigger
from core.domain.workflow.variables import event_values
from core.domain.workflow.version import Version
from core.engine.driver import EnrollmentDriver, Entry
from core.engine.looking import Look, facts_for
from core.store.events.events import UnmatchedEvent
from core.store.records import record_rows, record_triggers
from core.store.transaction import Transaction
from core.store.workflows import listeners
from core.store.workflows.hearing import Hearing
from core.store.workflows.listeners import TRIGGER, EventKey, Listener
from core.store.workflows.workflows import VersionCache


class Triggering:
    """Enrolls the contacts of events into the workflows that these trigger."""

    def __init__(self, driver: EnrollmentDriver, versions: VersionCache):
        self._driver = driver
        self._versions = versions

    async def start(self, tx: Transaction, batch: Sequence[UnmatchedEvent], hearing: Hearing) -> None:
        """Start what these events trigger; of one contact, there is at most one among them."""
        wanted = [
            (event, await self._versions.load(tx, event.org_id, *trigger))
            for event in batch
            if event.contact_id and event.facts.hops <= MOST_HOPS
            for trigger in _triggered(event, hearing.listeners)
        ]
        if not wanted:
            return
        concerned = [Look((event.org_id, event.contact_id or ""), version, _about(event)) for event, version in wanted]
        known = await facts_for(tx, concerned, hearing.around)
        for key in await _gone(tx, known):
            del known[key]
        looks = await _at_the_time(tx, [event for event, _ in wanted], known)
        named = await listeners.source_names(tx, _sources(wanted))
        entries: dict[tuple[str, str, int], tuple[Version, list[Entry]]] = {}
        for event, version in wanted:
            seen = known.get((event.org_id, event.contact_id or ""))
            if seen is None:
                continue
            called = named.get((event.org_id, event.facts.source_id), (event.facts.source_id,))
            trigger = _first_to_fire(tx, version, event, seen, looks.get(event.id), called)
            if trigger is not None:
                entering = entries.setdefault((event.org_id, version.workflow_id, version.number), (version, []))
                entering[1].append(_entry(tx, event, version, trigger, seen))
        for (org, _, _), (version, some) in entries.items():
            await self._driver.enter(tx, org, version, some)


def _triggered(event: UnmatchedEvent, heard: Mapping[EventKey, Sequence[Listener]]) -> list[tuple[str, int]]:
    """Return the workflows, with their versions, that an event may start; not the one whose own doing it tells of."""
    names = [event.name]
    own = ""
    if event.facts.type == RECORD:
        own = ChangedRecord.of(event.facts).workflow_id
    elif event.facts.source_id:
        names.append(firing.source_event(event.facts.source_id))
    found = (one for name in names for one in heard.get((event.org_id, name), ()))
    return sorted({(one.workflow_id, one.version) for one in found if one.role == TRIGGER and one.workflow_id != own})


def _sources(wanted: Iterable[tuple[UnmatchedEvent, Version]]) -> set[tuple[str, str]]:
    """Return the sources whose display names matter."""
    return {
        (event.org_id, event.facts.source_id)
        for event, version in wanted
        if any(isinstance(trigger, SourceTrigger) for trigger in version.triggers)
    }


async def _at_the_time(
    tx: Transaction, batch: Iterable[UnmatchedEvent], known: Mapping[tuple[str, str], Facts]
) -> dict[str, Facts]:
    """Return what was known right after each change that events tell of, where it differs from what is known now.

    Where another lead than the contact's newest changed, the condition is about the one that changed.
    """
    told = {
        event.id: (event, known[event.org_id, event.contact_id or ""])
        for event in batch
        if event.facts.type == RECORD and (event.org_id, event.contact_id or "") in known
    }
    leads = {
        (event.org_id, change.record_id): event.id
        for event, facts in told.values()
        if (change := ChangedRecord.of(event.facts)).record_type == "lead"
        and (facts.lead is None or facts.lead.id != change.record_id)
    }
    others = await record_rows.hold(tx, leads)
    for key, record in others.items():
        event, facts = told[leads[key]]
        told[event.id] = (event, replace(facts, lead=record.facts))
    then = {leads[key]: told[leads[key]][1] for key in others}
    return then | await record_triggers.as_they_were(
        tx, [(event.org_id, event.facts, facts) for event, facts in told.values()]
    )


async def _gone(tx: Transaction, known: Mapping[tuple[str, str], Facts]) -> list[tuple[str, str]]:
    """Return the contacts that are no more; one about whom nothing is known but how to tell them apart is there."""
    bare = [key for key, facts in known.items() if not facts.contact.fields]
    there = await record_rows.hold(tx, bare)
    return [key for key in bare if key not in there]


def _first_to_fire(
    tx: Transaction,
    version: Version,
    event: UnmatchedEvent,
    seen: Facts,
    then: Facts | None,
    sources: Collection[str],
) -> Trigger | None:
    for trigger in version.triggers:
        looked = firing.look(trigger, event.facts, seen, tx.now, sources=sources, then=then)
        if looked is not None and looked.fires:
            return trigger
    return None


def _entry(tx: Transaction, event: UnmatchedEvent, version: Version, trigger: Trigger, seen: Facts) -> Entry:
    values = event_values(event.facts)
    own, about = trigger.key if isinstance(trigger, KEYED) else None, _about(event)
    key = "" if own is None else entry_rules.key_of(version, seen, values, {}, tx.now, own, about)
    return Entry(seen.contact.id, actor=f"event:{event.id}", key=key, event=values, hops=event.facts.hops, about=about)


def _about(event: UnmatchedEvent) -> Mapping[str, str]:
    """Return the record that an enrollment is about that an event leads to, id by type."""
    return ChangedRecord.of(event.facts).about if event.facts.type == RECORD else {}
