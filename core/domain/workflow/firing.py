"""Whether a trigger fires: which events it listens to, and what it makes of one of them; what else events move."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any, Literal

from core.domain.enrollment import EventFacts, Facts, RecordFacts
from core.domain.frozen import frozen
from core.domain.records.changes import Change, as_of
from core.domain.records.lateness import LATEST_TRIGGER, is_history
from core.domain.steps.wait import Wait
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.workflow.conditions import tell
from core.domain.workflow.expression_text import Mention
from core.domain.workflow.expressions import Expression
from core.domain.workflow.record_changes import (
    LISTS,
    RECORD,
    ChangedRecord,
    concerns,
    events_that_matter,
    record_event,
)
from core.domain.workflow.trigger_kinds import EventTrigger, RecordTrigger, SegmentTrigger, SourceTrigger, Trigger
from core.domain.workflow.variables import Known, RecordChange, event_values
from core.domain.workflow.version import Version


@frozen
class Look:
    """What a trigger made of an event."""

    fires: bool
    sentence: str
    """Why, as a clause."""
    inputs: Mapping[str, Any] = field(default_factory=dict)


def source_event(source_id: str) -> str:
    """Return the name under which every event of a source is listened to."""
    return f"$source.{source_id}"


def trigger_events(version: Version) -> tuple[str, ...]:
    """Return the names of events that may start this version; sources apart."""
    names: list[str] = []
    for trigger in version.triggers:
        match trigger:
            case EventTrigger():
                names.append(trigger.event)
            case RecordTrigger():
                names.append(record_event(trigger.record, trigger.contact))
            case SegmentTrigger():
                names += events_that_matter(trigger.segment.mentions)
            case _:
                pass
    return tuple(dict.fromkeys(names))


def trigger_sources(version: Version) -> tuple[str, ...]:
    """Return the sources, by id or display name, whose events may start this version."""
    return tuple(dict.fromkeys(one.source for one in version.triggers if isinstance(one, SourceTrigger)))


def moving_events(version: Version) -> tuple[str, ...]:
    """Return the names of events at which all enrollments of a version are looked at, whatever they wait for.

    Goals and exit rules listen to them, and so do waits for a date of a record that may move, or for a condition.
    """
    names: list[str] = []
    for rule in version.rules:
        if rule.events:
            names += rule.events
        elif rule.when is not None:
            names += _that_matter(version, rule.when.mentions)
    for node in version.steps.values():
        if isinstance(node.step, Wait):
            names += _that_matter(version, node.step.listens_to)
    return tuple(dict.fromkeys(names))


def _that_matter(version: Version, mentions: Collection[Mention]) -> list[str]:
    """Return the names of record events that may change what is mentioned, by whichever field they find the contact."""
    names = events_that_matter(mentions)
    records = [one for one in version.triggers if isinstance(one, RecordTrigger) and record_event(one.record) in names]
    return names + [record_event(one.record, one.contact) for one in records]


def correlated_waits(version: Version) -> tuple[tuple[str, str], ...]:
    """Return `(event name, field)` for each event that a step waits for by one of its fields."""
    steps = (node.step for node in version.steps.values())
    waits = [step for step in steps if isinstance(step, WaitForEvent)]
    return tuple(dict.fromkeys((name, step.match.field) for step in waits if step.match for name in step.events))


def look(
    trigger: Trigger,
    event: EventFacts,
    facts: Facts,
    now: datetime,
    *,
    sources: Collection[str] = (),
    then: Facts | None = None,
) -> Look | None:
    """Return what a trigger makes of an event; None when it does not listen to such events.

    `sources` is how the event's source is called, by id and by display name. `then` is what was known right after a
    change that is told late, when more has changed since.
    """
    then = then or facts
    match trigger:
        case EventTrigger() if event.type != RECORD and event.name == trigger.event:
            return _looked(trigger.when, f"{event.name} came in", event, facts, now)
        case SourceTrigger() if event.type != RECORD and trigger.source in sources:
            if trigger.event and trigger.event != event.name:
                return None
            return _looked(trigger.when, f"{event.name} came in from {trigger.source}", event, facts, now)
        case RecordTrigger() if event.type == RECORD and event.name == record_event(trigger.record, trigger.contact):
            return _record(trigger, ChangedRecord.of(event), then, now)
        case SegmentTrigger() if event.type == RECORD:
            return _segment(trigger.segment, ChangedRecord.of(event), facts, then, now)
        case _:
            return None


def facts_without(facts: Facts, later: Mapping[str, Sequence[Change]]) -> Facts:
    """Return what was known before later changes, by the record's id, the newest first."""
    if not later:
        return facts
    undone = (
        None if record is None else _undone(record, later.get(record.id, ()))
        for record in (facts.contact, facts.lead, facts.company)
    )
    contact, lead, company = undone
    others = {key: _undone(record, later.get(record.id, ())) for key, record in facts.records.items()}
    return replace(facts, contact=contact or facts.contact, lead=lead, company=company, records=others)


def _before(change: ChangedRecord, facts: Facts) -> Facts:
    """Return what was known before a change, from what was known after it."""
    undone = [one for one in reversed(change.changes) if one.field != LISTS]
    match change.record_type:
        case "contact":
            if any(one.field == "company_id" for one in undone):
                facts = replace(facts, company=None)
            fields = {} if change.created else as_of(facts.contact.fields, undone)
            return replace(facts, contact=replace(facts.contact, fields=fields), lists=_lists(change, facts, "old"))
        case "lead" if facts.lead is not None and facts.lead.id == change.record_id:
            return replace(facts, lead=None if change.created else _undone(facts.lead, undone))
        case "company" if facts.company is not None and facts.company.id == change.record_id:
            return replace(facts, company=None if change.created else _undone(facts.company, undone))
        case _:
            before = {
                key: _undone(record, undone) if record.id == change.record_id else record
                for key, record in facts.records.items()
                if record.id != change.record_id or not change.created
            }
            return replace(facts, records=before)


def _undone(record: RecordFacts, changes: Iterable[Change]) -> RecordFacts:
    return replace(record, fields=as_of(record.fields, changes))


def _lists(change: ChangedRecord, facts: Facts, side: Literal["old", "new"]) -> frozenset[str]:
    """Return the contact's lists before or after a change of them."""
    found = next((getattr(one, side) for one in change.changes if one.field == LISTS), None)
    return frozenset(map(str, found)) if isinstance(found, list) else facts.lists


def _looked(when: Expression | None, told: str, event: EventFacts, facts: Facts, now: datetime) -> Look:
    inputs = {"event.id": event.id}
    if is_history(event.occurred_at, event.received_at):
        told = f"{told}, but more than {LATEST_TRIGGER.days} days after it happened: history starts nothing"
        return Look(False, told, {**inputs, "event.occurred_at": event.occurred_at.isoformat()})
    if when is None:
        return Look(True, told, inputs)
    result = when.evaluate(Known(facts, now, event_values(event)))
    return Look(result.holds, f"{told}, and {tell(when, result)}", {**inputs, **result.inputs})


def _record(trigger: RecordTrigger, change: ChangedRecord, facts: Facts, now: datetime) -> Look:
    told = f"{change.record_type} {change.record_id} was {'created' if change.created else 'changed'}"
    inputs = {"change.fields": sorted(one.field for one in change.changes)}
    if change.left:
        return Look(False, f"{told}, and refers to somebody else by now", inputs)
    if trigger.on != "either" and change.created != (trigger.on == "created"):
        return Look(False, f"{told}, and only one that is {trigger.on} counts", inputs)
    if trigger.fields and not any(concerns(name, one.field) for name in trigger.fields for one in change.changes):
        return Look(False, f"{told}, but not in {', '.join(trigger.fields)}", inputs)
    if trigger.when is None:
        return Look(True, told, inputs)
    seen = RecordChange(change.record_type, {one.field: one.old for one in change.changes})
    result = trigger.when.evaluate(Known(facts, now, None, change=seen, about=change.about))
    return Look(result.holds, f"{told}, and {tell(trigger.when, result)}", {**inputs, **result.inputs})


def _segment(segment: Expression, change: ChangedRecord, facts: Facts, then: Facts, now: datetime) -> Look | None:
    if record_event(change.record_type) not in events_that_matter(segment.mentions):
        return None
    current = segment.evaluate(Known(facts, now, None))
    newest = facts.in_hand(change.record_type, {})
    if change.record_type not in ("contact", "company") and (newest is None or newest.id != change.record_id):
        told = f"{tell(segment, current)}; the {change.record_type} that changed is not the contact's newest"
        return Look(False, told, current.inputs)
    if not current.holds:
        return Look(False, tell(segment, current), current.inputs)
    then = replace(then, lists=_lists(change, then, "new"))
    after = segment.evaluate(Known(then, now, None))
    if not after.holds:
        return Look(False, f"{tell(segment, current)}, but did not after this change", current.inputs)
    if segment.evaluate(Known(_before(change, then), now, None)).holds:
        return Look(False, f"{tell(segment, current)}, as it did before", current.inputs)
    return Look(True, f"{tell(segment, current)}, and did not before", current.inputs)
