"""Why a contact is not in a workflow, in sentences made from stored facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any, Literal

from core.domain.articles import with_article
from core.domain.enrollment import Enrollment, EventFacts, Facts
from core.domain.frozen import frozen
from core.domain.workflow import entry
from core.domain.workflow.firing import Look
from core.domain.workflow.record_changes import OF_CONTACT, RECORD, ChangedRecord
from core.domain.workflow.trigger_kinds import (
    EventTrigger,
    PoolTrigger,
    RecordTrigger,
    ScheduleTrigger,
    SegmentTrigger,
    SourceTrigger,
    Trigger,
)
from core.domain.workflow.variables import event_values
from core.domain.workflow.version import Version

Verdict = Literal["enrolled", "kept_out", "not_open", "may_enter"]
"""It is in it; a rule keeps it out; nobody can enter now; nothing but a trigger or a call is missing."""


_PAUSED = (
    "It may enter, by a call or an event, and would stand at the first step: the workflow is paused. "
    "Schedules and pools do not fire before it goes on."
)

_KINDS: Mapping[str, str] = {
    "UNKNOWN_VARIABLE": "variables",
    "WRONG_TYPE": "variables",
    "UNSUBSCRIBED": "suppression",
    "SUPPRESSION_LIST": "suppression",
    "SUPPRESSED": "suppression",
    "ENTRY_CONDITION": "entry",
    "GOAL_REACHED": "goal",
    "EXIT_RULE": "exit_rule",
}
"""Rules of entry by kind; the others are about re-entry."""


@frozen
class PastRefusal:
    """A time that the contact was not let in."""

    at: datetime
    outcome: str
    reason: str
    message: str
    actor: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1
    """How often for this reason; the rest tells of the last time."""


@frozen
class TriggerLook:
    """An event of the contact that a trigger listens to, and what the trigger makes of it now."""

    position: int
    """Which trigger it is, from 0."""
    event: EventFacts
    look: Look


@frozen
class TimedLook:
    """What a schedule or a pool would do about the contact."""

    position: int
    """Which trigger it is, from 0."""
    takes: bool
    """It takes the contact, as things stand."""
    sentence: str
    """Why and when, as a clause."""
    inputs: Mapping[str, Any] = field(default_factory=dict)


@frozen
class Reason:
    """One thing that speaks for or against the contact being in the workflow."""

    rule: str
    """What kind it is: `workflow`, `enrollment`, `variables`, `suppression`, `entry`, `goal`, `exit_rule`, `reentry`,
    `trigger`, or `attempt` for a time that the contact was not let in."""
    holds: bool
    """It lets the contact in."""
    sentence: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    """When it was so; None for now."""


@frozen
class WhyNot:
    """The answer."""

    verdict: Verdict
    summary: str
    """In one sentence."""
    reasons: tuple[Reason, ...]


def why_not(
    version: Version,
    state: str,
    facts: Facts,
    now: datetime,
    *,
    enrollments: Sequence[Enrollment] = (),
    refusals: Sequence[PastRefusal] = (),
    looks: Sequence[TriggerLook] = (),
    timed: Sequence[TimedLook] = (),
) -> WhyNot:
    """Return why a contact is not in a workflow, or that it is.

    `state` is the workflow's; `enrollments` are the contact's in it, the newest first; `looks` the newest first too.
    """
    rules = tuple(_rules_now(version, facts, now, enrollments, looks))
    reasons = (
        *(_enrolled(one) for one in enrollments),
        *_closed(state),
        *rules,
        *_triggered(version, looks, timed),
        *(_refused(one) for one in refusals),
    )
    running = next((one for one in enrollments if not one.state.over), None)
    against = [reason for reason in rules if not reason.holds]
    if running is not None:
        since = _at(running.entered_at)
        return WhyNot("enrolled", f"It is in the workflow since {since} and stands at {running.step_id}.", reasons)
    if state not in ("active", "paused"):
        return WhyNot("not_open", f"Nobody enters: the workflow is {state}.", reasons)
    if against:
        return WhyNot("kept_out", against[0].sentence, reasons)
    if state == "paused":
        return WhyNot("may_enter", _PAUSED, reasons)
    return WhyNot("may_enter", _missing(version, looks, timed), reasons)


def _rules_now(
    version: Version, facts: Facts, now: datetime, enrollments: Sequence[Enrollment], looks: Sequence[TriggerLook]
) -> Iterator[Reason]:
    """Yield what each rule of entry says now; the newest event that a trigger listens to stands for the next one."""
    event = event_values(looks[0].event) if looks else None
    about = ChangedRecord.of(looks[0].event).about if looks and looks[0].event.type == RECORD else {}
    key = entry.key_of(version, facts, event, {}, now, about=about)
    latest = next((one for one in enrollments if one.key == key), None)
    standing = None if latest is None else entry.Standing(latest.state, latest.entered_at)
    given: Any = {"event": event, "variables": {}, "key": key, "standing": standing, "about": about}
    for check in entry.checks(version, facts, now, **given):
        if check.rule != "KEY_UNKNOWN" or event is not None:
            yield Reason(_KINDS.get(check.rule, "reentry"), check.passes, check.sentence, check.inputs)


def _enrolled(enrollment: Enrollment) -> Reason:
    named = f" under the key {enrollment.key}" if enrollment.key else ""
    inputs = {"enrollment.id": enrollment.id, "enrollment.state": enrollment.state.value}
    came = f"It entered{named} at {_at(enrollment.entered_at)}, by {enrollment.actor}"
    if not enrollment.state.over:
        return Reason("enrollment", True, f"{came}, and stands at {enrollment.step_id}.", inputs, enrollment.entered_at)
    ended = f" at {_at(enrollment.ended_at)}" if enrollment.ended_at else ""
    why = enrollment.end_reason.rstrip(".") or enrollment.state.value
    return Reason("enrollment", False, f"{came}, and it ended{ended}: {why}.", inputs, enrollment.entered_at)


def _closed(state: str) -> Iterator[Reason]:
    if state != "active":
        what = {"paused": "It is paused: schedules and pools do not fire, and who enters stands at the first step."}
        sentence = what.get(state, f"The workflow is {state}, and takes no enrollments.")
        yield Reason("workflow", False, sentence, {"workflow.state": state})


def _triggered(version: Version, looks: Sequence[TriggerLook], timed: Sequence[TimedLook]) -> Iterator[Reason]:
    told_of = {one.position for one in timed}
    listening = [trigger for position, trigger in enumerate(version.triggers) if position not in told_of]
    if not version.triggers:
        yield Reason("trigger", False, "The workflow has no triggers: a call has to enroll the contact.")
    elif listening and not looks:
        listens = "; ".join(dict.fromkeys(map(spoken, listening)))
        yield Reason("trigger", False, f"Nothing that starts the workflow has happened lately. It starts {listens}.")
    for one in looks:
        sentence = f"{_at(one.event.received_at)}: {one.look.sentence}."
        yield Reason("trigger", one.look.fires, sentence, one.look.inputs, one.event.received_at)
    for by_time in timed:
        yield Reason("trigger", by_time.takes, f"{by_time.sentence[0].upper()}{by_time.sentence[1:]}.", by_time.inputs)


def _refused(refusal: PastRefusal) -> Reason:
    often = f" ({refusal.times} times, last" if refusal.times > 1 else " ("
    sentence = f"{refusal.message.rstrip()}{often} at {_at(refusal.at)}, for {refusal.actor})".replace("( ", "(")
    return Reason("attempt", False, sentence, refusal.inputs, refusal.at)


def _missing(version: Version, looks: Sequence[TriggerLook], timed: Sequence[TimedLook]) -> str:
    if not version.triggers:
        return "It may enter; the workflow has no triggers, so a call has to enroll it."
    fired = [one for one in looks if one.look.fires]
    if fired:
        return f"It may enter, and {fired[0].look.sentence}; the refusals and enrollments say what became of that."
    taking = [one for one in timed if one.takes]
    if taking:
        return f"It may enter, and {taking[0].sentence}."
    if looks:
        return f"It may enter, but no trigger fired: {looks[0].look.sentence}."
    if timed:
        return f"It may enter, but {timed[0].sentence}."
    return "It may enter, but nothing that starts the workflow has happened lately."


def spoken(trigger: Trigger) -> str:
    """Return when a trigger starts enrollments, as a clause."""
    match trigger:
        case EventTrigger(event, when):
            return f"when {event} comes in{f' and {when.text} holds' if when else ''}"
        case SourceTrigger(source, event, when):
            return f"when {event or 'an event'} comes in from {source}{f' and {when.text} holds' if when else ''}"
        case RecordTrigger(record, on, named, when):
            called = record.replace("_", " ")
            which = f"the {called}" if record in OF_CONTACT else f"{with_article(called)} of the contact"
            what = {"created": "is created", "changed": "is changed", "either": "is created or changed"}[on]
            of = f" in {' or '.join(named)}" if named else ""
            return f"when {which} {what}{of}{f' and {when.text} holds' if when else ''}"
        case SegmentTrigger(segment):
            return f"once {segment.text} begins to hold"
        case ScheduleTrigger(cron, audience):
            return f"on the schedule {cron}, for {audience.said}"
        case PoolTrigger(per_day, at, audience):
            return f"for {per_day} contacts a day of a pool ({audience.said}), at {at:%H:%M}"


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
