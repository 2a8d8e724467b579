"""How contacts come into a simulation, and what of its script leads nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Literal

from core.domain.nearest import did_you_mean
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.workflow.audiences import belongs
from core.domain.workflow.entry import Judgement
from core.domain.workflow.record_changes import concerns
from core.domain.workflow.trigger_kinds import (
    Audience,
    EventTrigger,
    PoolTrigger,
    RecordTrigger,
    ScheduleTrigger,
    SegmentTrigger,
    SourceTrigger,
    Trigger,
)
from core.domain.workflow.version import Version
from core.simulation.people import Person
from core.simulation.script import ENTRY, EVERYBODY, START, ScriptedEvent

IN_IT_BEFORE = Judgement(
    "already_enrolled",
    "POOL_TAKES_NOBODY_TWICE",
    "The contact has been in this workflow, and a pool takes nobody twice.",
)
_MOST_TOLD, _MOST_LOOKED_UP, _MOST_COMPARED = 10, 50, 2_000

Entering = Literal["auto", "start", "triggers"]
"""How contacts enter: all at the start, or as triggers say; `auto` takes triggers where there is one that may fire."""


def by_triggers(
    entering: Entering, version: Version, script: Sequence[ScriptedEvent], people: Sequence[Person]
) -> bool:
    """Tell whether contacts enter as triggers fire."""
    return entering == "triggers" or (entering == "auto" and may_fire(version, script, people))


def notes(
    version: Version, script: Sequence[ScriptedEvent], people: Sequence[Person], *, nobody_to_take: bool
) -> list[str]:
    """Return what whoever reads a simulation should know of how it begins."""
    told = []
    if nobody_to_take and any(audience_of(one) for one in version.triggers):
        told.append("Nobody belongs to the audience of a trigger; everybody was enrolled at the start.")
    return [*told, *_astray(version, script, people), *_unheard(version, script), *_under_way(people)]


def _astray(version: Version, script: Sequence[ScriptedEvent], people: Sequence[Person]) -> list[str]:
    """Return what the script says of contacts and steps that there are none of."""
    labels = [one.subject.label for one in people[:_MOST_COMPARED]]
    called = {name.lower() for one in people for name in (one.subject.label, one.id, f"#{one.index + 1}")}
    places = [START, ENTRY, *version.steps]
    whose = {(one.contact, one.name): one for one in script if one.contact != EVERYBODY}
    strangers = [one for one in whose.values() if one.contact.lower() not in called]
    after = {(one.since, one.name): one for one in script if one.since not in places}
    told = [
        f"No contact is called {one.contact}, of {one.name or 'a change'}. {did_you_mean(one.contact, labels)}"
        for one in strangers[:_MOST_TOLD]
    ]
    told += [
        f"There is no step {one.since} that {one.name} could follow. {did_you_mean(one.since, places)}"
        for one in islice(after.values(), _MOST_TOLD)
    ]
    return [sentence.strip() for sentence in told][:_MOST_TOLD]


def audience_of(trigger: Trigger) -> Audience | None:
    """Return whom a trigger takes by the clock; None for other triggers."""
    return trigger.audience if isinstance(trigger, ScheduleTrigger | PoolTrigger) else None


def may_fire(version: Version, script: Sequence[ScriptedEvent], people: Sequence[Person]) -> bool:
    """Tell whether a trigger can fire: by the clock for somebody of its audience, or by what the script lets happen.

    What follows an entry or a step starts nobody. What steps change comes about on the way, and counts as little.
    """
    script = [one for one in script if one.at is not None or one.since == START]
    return any(_may_fire(trigger, script, people) for trigger in version.triggers)


def _may_fire(trigger: Trigger, script: Sequence[ScriptedEvent], people: Sequence[Person]) -> bool:
    named = {one.name for one in script if one.name}
    match trigger:
        case ScheduleTrigger() | PoolTrigger():
            return any(belongs(trigger.audience, one.facts) for one in people)
        case EventTrigger():
            return trigger.event in named
        case SourceTrigger():
            return bool(named) and (not trigger.event or trigger.event in named)
        case RecordTrigger():
            if trigger.record == "lead" and trigger.on != "changed" and _makes_leads(script, people):
                return True
            return trigger.on != "created" and any(
                not trigger.fields or any(concerns(name, path) for name in trigger.fields)
                for one in script
                for path in one.changes.get(trigger.record, ())
            )
        case SegmentTrigger():
            mentioned = [mention.label for mention in trigger.segment.mentions]
            changed = {
                f"{record}.{path}" for one in script for record, fields in one.changes.items() for path in fields
            }
            if any(name.partition(".")[0] == "lead" for name in mentioned) and _makes_leads(script, people):
                return True
            return any(concerns(name, path) for name in mentioned for path in changed)


def _makes_leads(script: Sequence[ScriptedEvent], people: Sequence[Person]) -> bool:
    """Tell whether an event of the script makes a lead for somebody."""
    return any(one.type == "lead" for one in script) and any(one.lacks_lead for one in people)


def _unheard(version: Version, script: Sequence[ScriptedEvent]) -> list[str]:
    """Return which events of a script nothing in the workflow listens to; recorded ones are as they were."""
    if any(isinstance(one, SourceTrigger) and not one.event for one in version.triggers):
        return []
    steps = (node.step for node in version.steps.values())
    heard = {
        *(name for step in steps if isinstance(step, WaitForEvent) for name in step.events),
        *(name for rule in version.rules for name in rule.events),
        *(one.event for one in version.triggers if isinstance(one, EventTrigger | SourceTrigger)),
    }
    unknown = {one.name: one for one in script if one.name and one.name not in heard and not one.id}
    told = []
    for name, one in islice(unknown.items(), _MOST_LOOKED_UP):
        near = did_you_mean(name, heard)
        if near or not (one.changes or one.type == "lead"):  # else it does something all the same
            told.append(f"Nothing in the workflow listens to {name}. {near}".rstrip())
    return told[:_MOST_TOLD]


def _under_way(people: Sequence[Person]) -> list[str]:
    """Return what is to be known of those who are in the workflow already when the simulation begins."""
    count = sum(any(not one.state.over for one in person.subject.entered.values()) for person in people)
    if not count:
        return []
    who = "1 contact is" if count == 1 else f"{count:,} contacts are"
    return [f"{who} in the workflow already. How they go on is not part of this; whether they may enter again, is."]
