"""The step that holds a contact until one of several events comes, or for a time at most."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar

from core.domain.enrollment import EventArrived, EventFacts, Stimulus, TimerFired, Waiting
from core.domain.frozen import frozen
from core.domain.records.lateness import was_before
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.shapes import Condition, Duration, EventName, Scope
from core.domain.steps.time_shapes import ENTRY, Since
from core.domain.steps.way_shapes import MATCHED, TIMEOUT, Alternative, Alternatives, Correlation, Match
from core.domain.workflow import durations
from core.domain.workflow.correlation import LONGEST_KEY, correlation_key
from core.domain.workflow.expressions import Expression, Result
from core.domain.workflow.variables import event_values


@frozen
class WaitForEvent(Step):
    """Holds a contact until one of several events comes, or for a time at most."""

    kind: ClassVar = "wait_for_event"
    summary: ClassVar = "Holds the contact until an event comes in that fits, or until the timeout."
    exits: ClassVar = (MATCHED, "*", TIMEOUT)
    undone: ClassVar = "timeout"
    waits: ClassVar = True
    outputs: ClassVar = {
        "matched": "boolean",
        "event_id": "string",
        "event_name": "string",
        "matched_at": "instant",
    }
    timing: ClassVar = ("event", "when", "any_of", "match", "timeout", "since")
    constraints: ClassVar[Mapping[str, Any]] = {
        "oneOf": [{"required": ["event"]}, {"required": ["any_of"]}],
        "not": {"required": ["any_of", "when"]},
    }

    event: Annotated[str, setting(EventName(), "Name of the event; with several, write any_of instead.")] = ""
    when: Annotated[Expression | None, setting(Condition(), "What must hold of it, seen as `event`.")] = None
    any_of: Annotated[
        tuple[Alternative, ...],
        setting(Alternatives(), "Several events, each with a condition and an exit of its own; the first one counts."),
    ] = ()
    match: Annotated[
        Correlation | None,
        setting(
            Match(),
            "Which field of the event says whose it is, and its value; without it, events of this contact count.",
        ),
    ] = None
    timeout: Annotated[timedelta | None, setting(Duration(), "How long at most; without one it waits for ever.")] = None
    since: Annotated[
        str,
        setting(
            Since(),
            "From when on events count: entry, or a step from which on; by default from now on, and right after a "
            "message from when that began.",
        ),
    ] = ""

    def longest(self) -> timedelta | None:
        """Return its timeout."""
        return self.timeout

    def its_exits(self) -> tuple[str, ...]:
        """Return the exits of its events, and timeout when there is one."""
        names = dict.fromkeys(one.exit for one in self.alternatives)
        return (*names, TIMEOUT) if self.timeout else tuple(names)

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """Return the events that end it."""
        return self.any_of or (Alternative(self.event, self.when),)

    @property
    def events(self) -> tuple[str, ...]:
        """Return the names of the events that end it."""
        return tuple(dict.fromkeys(one.event for one in self.alternatives))

    def check(self, scope: Scope, path: str) -> None:
        """Report that no event is named, or that one is named twice over."""
        if not self.event and not self.any_of:
            hint = f"{EventName().hint} With several, write any_of."
            scope.add(f"{path}.event", "MISSING_KEY", "a wait_for_event step needs event, or any_of", hint)
        elif self.event and self.any_of:
            scope.add(f"{path}.any_of", "CONFLICT", "it has event and any_of", "Put the event into any_of as well.")
        elif self.any_of and self.when is not None:
            hint = "Put a when beside each event of any_of."
            scope.add(f"{path}.when", "CONFLICT", "with any_of, each event has its own when", hint)

    def begin(self, context: Context) -> Decision:
        """Begin to listen; what came in before counts as far back as `since` says."""
        key, told = context.enrollment.contact_id, ""
        inputs: Mapping[str, Any] = {}
        if self.match is not None:
            found = _key(self.match, context)
            if isinstance(found, Fail):
                return found
            key, inputs = found
            told = f" with {key.replace('=', ' ', 1)}"
        until = context.now + self.timeout if self.timeout else None
        limit = f" for {durations.speak(self.timeout)} at most" if self.timeout else ""
        since = self._since(context)
        waiting = Waiting("event", "\n".join(self.events), since, key)
        back = f", counting what has come in since {since:%Y-%m-%d %H:%M} UTC" if since < context.now else ""
        return Stay(waiting, f"Waits for {' or '.join(self.events)}{told}{limit}{back}.", until, inputs=inputs)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on with an event that fits; at the timeout, one that came in time still wins."""
        match stimulus:
            case EventArrived(event):
                return self._matched(event, context)
            case TimerFired():
                in_time = (self._matched(event, context) for event in context.facts.arrived)
                return next((found for found in in_time if found), None) or self._timed_out()
            case _:
                return None

    def _since(self, context: Context) -> datetime:
        """Return from when on events count; of a step that was not gone through, from now on."""
        enrollment, waiting = context.enrollment, context.enrollment.waiting
        if self.since:
            begun = enrollment.entered_at if self.since == ENTRY else enrollment.begun.get(self.since)
        elif waiting is not None and waiting.kind == "event":  # made again in another version
            begun = waiting.since
        else:
            begun = context.spoke_at
        return min(begun or context.now, context.now)

    def _matched(self, event: EventFacts, context: Context) -> Go | None:
        if not self._counts(event, context):
            return None
        for one in self.alternatives:
            if one.event != event.name:
                continue
            result = one.when.evaluate(context.values_with(event)) if one.when else Result(True)
            if result.holds:
                because = f" and {one.when.text} holds" if one.when else ""
                outputs = {
                    "matched": True,
                    "event_id": event.id,
                    "event_name": event.name,
                    "matched_at": event.received_at.isoformat(),
                }
                return Go(
                    one.exit,
                    f"{event.name} came in at {event.received_at:%Y-%m-%d %H:%M} UTC{because}.",
                    outputs=outputs,
                    inputs={"event.id": event.id, **result.inputs},
                    event=event_values(event),
                )
        return None

    def _counts(self, event: EventFacts, context: Context) -> bool:
        """Tell whether an event came during the wait and is about what is waited for.

        Of the contact's events, one that happened before the wait does not count, however late it comes; one that is
        found by a field is about that very thing, and counts whenever it happened. Which field it is stands in the
        wait: a version that it was moved to may know another.
        """
        waiting, due_at = context.enrollment.waiting, context.enrollment.due_at
        if waiting is None or (waiting.since is not None and event.received_at < waiting.since):
            return False
        if self._led_here(event, waiting.since, context):
            return False
        if due_at is not None and event.received_at >= due_at:
            return False
        if waiting.key in ("", context.enrollment.contact_id):
            return waiting.since is None or not was_before(event.occurred_at, waiting.since)
        return any(
            waiting.key.startswith(f"{name}=") and correlation_key(name, value) == waiting.key
            for name, value in event.fields.items()
        )

    def _led_here(self, event: EventFacts, since: datetime | None, context: Context) -> bool:
        """Tell whether it is the event that brought it to where it listens from, which is not the one it waits for."""
        if self.since:
            return since is not None and event.received_at == since
        return event.id == (context.enrollment.event or {}).get("id")

    def _timed_out(self) -> Go | None:
        if self.timeout is None:
            return None
        reason = f"No {' or '.join(self.events)} that fits came within {durations.speak(self.timeout)}."
        return Go(TIMEOUT, reason, outputs={"matched": False})


def _key(match: Correlation, context: Context) -> tuple[str, Mapping[str, Any]] | Fail:
    """Return under which key to wait, and what it was made from."""
    computed = match.value.compute(context.values)
    if computed.errors:
        reason = f"The value of {match.field} could not be made: {computed.errors[0]}."
        return Fail(reason, computed.inputs, "TEMPLATE_FAILED")
    key = correlation_key(match.field, computed.value)
    if key and not computed.empty:
        return key, computed.inputs
    why = computed.gaps[0] if computed.gaps else f"a text or number of at most {LONGEST_KEY} characters is needed"
    reason = f"There is no {match.field} to match events on: {why}."
    return Fail(reason, computed.inputs, "NOTHING_TO_MATCH")
