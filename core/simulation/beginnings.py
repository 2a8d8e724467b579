"""How contacts come into a simulation, and what of its script leads nowhere."""

from __future__ import annotations

from collections.abc import Sequence

from core.domain.nearest import did_you_mean
from core.domain.workflow.trigger_kinds import (
    Audience,
    EventTrigger,
    PoolTrigger,
    RecordTrigger,
    ScheduleTrigger,
    SourceTrigger,
    Trigger,
)
from core.domain.workflow.version import Version
from core.simulation.audience import belongs
from core.simulation.people import Person
from core.simulation.script import ENTRY, EVERYBODY, START, ScriptedEvent


def astray(version: Version, script: Sequence[ScriptedEvent], people: Sequence[Person]) -> list[str]:
    """Return what the script says of contacts and steps that there are none of."""
    labels = [one.subject.label for one in people]
    called = {name.lower() for one in people for name in (one.subject.label, one.id, f"#{one.index + 1}")}
    places = [START, ENTRY, *version.steps]
    told = []
    for one in script:
        if one.contact != EVERYBODY and one.contact.lower() not in called:
            what = one.name or "a change"
            told.append(f"No contact is called {one.contact}, of {what}. {did_you_mean(one.contact, labels)}")
        if one.since not in places:
            told.append(f"There is no step {one.since} that {one.name} could follow. {did_you_mean(one.since, places)}")
    return [" ".join(sentence.split()) for sentence in dict.fromkeys(told)][:10]


def audience_of(trigger: Trigger) -> Audience | None:
    """Return whom a trigger takes by the clock; None for other triggers."""
    return trigger.audience if isinstance(trigger, ScheduleTrigger | PoolTrigger) else None


def may_fire(version: Version, script: Sequence[ScriptedEvent], people: Sequence[Person]) -> bool:
    """Tell whether a trigger can fire: by the clock for somebody of its audience, or by an event of the script.

    Changes of records come about on the way; of them, only the lead that an event makes counts.
    """
    named = {one.name for one in script if one.name}
    for trigger in version.triggers:
        match trigger:
            case ScheduleTrigger() | PoolTrigger() if any(belongs(trigger.audience, one.facts) for one in people):
                return True
            case EventTrigger() if trigger.event in named:
                return True
            case SourceTrigger() if named and (not trigger.event or trigger.event in named):
                return True
            case RecordTrigger("lead", on) if on != "changed" and any(one.type == "lead" for one in script):
                if any(one.lacks_lead for one in people):
                    return True
            case _:
                pass
    return False
