"""The step that holds a contact: for a length of time, until a date, a time of day or week, or a condition.

The one moment at which it ends is computed when it begins, and looked at again when it has come: a date may have moved,
and so may the contact's zone. A date of a record is also looked at when the record changes. Local times are those of
the contact's zone, and the trace says which that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, ClassVar

from core.domain.enrollment import EventArrived, Stimulus, TimerFired, Waiting
from core.domain.frozen import frozen
from core.domain.steps import until_true
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.shapes import Condition, Duration, Scope
from core.domain.steps.time_shapes import CalendarRef, LocalTime, Moment, Offset, Weekdays
from core.domain.workflow import durations, moments
from core.domain.workflow.calendar import Calendar, add_open, next_slot
from core.domain.workflow.expression_text import Mention
from core.domain.workflow.expressions import Expression
from core.domain.workflow.record_changes import touches
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Computed, Value
from core.domain.workflow.variables import ALWAYS_KNOWN, Known
from core.domain.workflow.windows import DAY, EVERY_DAY, WEEKDAYS
from core.domain.workflow.zones import MIDNIGHT, Zone, instant_of

PAST, MISSING = "past", "missing"


@frozen
class _Aim:
    """What a date came to."""

    due: datetime | None
    """When the wait ends; None for never."""
    inputs: Mapping[str, Any]
    missing: str = ""
    """Why there is no date, as a clause."""
    failure: Fail | None = None


@frozen
class Wait(Step):
    """Holds a contact for a length of time, until a date, a time of the day or of the week, or a condition holds."""

    kind: ClassVar = "wait"
    summary: ClassVar = (
        "Holds the contact for a length of time, until a date, a time of the day or week, or until a condition holds."
    )
    exits: ClassVar = ("next", until_true.TIMEOUT)
    optional_exits: ClassVar = (PAST, MISSING)
    waits: ClassVar = True
    timing: ClassVar = (
        *("for", "until", "offset", "at", "on", "within", "counted_in", "until_true", "timeout"),
        *("timezone", "calendars"),
    )
    constraints: ClassVar[Mapping[str, Any]] = {
        "anyOf": [{"required": [key]} for key in ("for", "until", "at", "on", "within", "until_true")],
        "not": {
            "anyOf": [
                {"required": ["for", "until"]},
                *({"required": ["until_true", key]} for key in ("for", "until", "at", "on", "within")),
            ]
        },
        "dependentRequired": {"offset": ["until"], "counted_in": ["for"], "timeout": ["until_true"]},
    }

    length: Annotated[
        timedelta | None,
        setting(Duration(), "How long; whole days are calendar days where `at` gives their time.", key="for"),
    ] = None
    until: Annotated[Value | None, setting(Moment(), "The date or the instant to wait for.")] = None
    offset: Annotated[timedelta, setting(Offset(), "How long before or after that it ends.")] = timedelta()
    at: Annotated[time | None, setting(LocalTime(), "The local time of day at which it ends.")] = None
    weekdays: Annotated[
        frozenset[int] | None, setting(Weekdays(), "The days of the week on which it may end.", key="on")
    ] = None
    within: Annotated[str, setting(CalendarRef(), "The calendar that must be open when it ends.")] = ""
    counted_in: Annotated[str, setting(CalendarRef(), "The calendar whose open days and hours count for `for`.")] = ""

    condition: Annotated[
        Expression | None,
        setting(Condition(), "What must hold; looked at whenever a record changes that it names.", key="until_true"),
    ] = None
    timeout: Annotated[
        timedelta | None, setting(Duration(), "With until_true, how long at most; without one it waits for ever.")
    ] = None

    def check(self, scope: Scope, path: str) -> None:
        """Report settings that do not go together."""
        timed = self.length is not None or self.until is not None or self._slotted
        if self.condition is not None:
            until_true.check(self.condition, scope, f"{path}.until_true")
            if timed:
                message = "until_true waits for a condition alone, not for a time as well"
                scope.add(f"{path}.until_true", "CONFLICT", message, "Use timeout, or write two steps.")
        elif self.timeout is not None:
            scope.add(f"{path}.timeout", "CONFLICT", "timeout needs until_true", "Say how long with for.")
        elif not timed:
            message = "a wait step needs to know for how long, or until when"
            hint = f"{durations.EXAMPLE} Or say until, at, on, within or until_true."
            scope.add(f"{path}.for", "MISSING_KEY", message, hint)
        if self.length is not None and self.until is not None:
            scope.add(f"{path}.until", "CONFLICT", "for and until are two waits", "Keep one, or write two steps.")
        if self.offset and self.until is None:
            scope.add(f"{path}.offset", "CONFLICT", "offset needs until", "Say until which date.")
        if self.counted_in and self.length is None:
            scope.add(f"{path}.counted_in", "CONFLICT", "counted_in needs for", "Use within, or say for how long.")
        calendar = scope.calendars.get(self.within)
        if calendar and not any(calendar.may_open(day, self.at) for day in self.weekdays or EVERY_DAY):
            when = _slot_name(self.at, self.weekdays)
            scope.add(
                f"{path}.within", "NEVER_OPEN", f"{self.within} is never open then: {when}", "Change one of them."
            )

    def holds(self) -> bool:
        """Tell whether it always holds; a date may be past, a day may be today."""
        return self.length is not None or (self.until is None and self.at is not None)  # a condition may hold

    def longest(self) -> timedelta | None:
        """Return how long it waits for a condition at most."""
        return self.timeout

    def its_exits(self) -> tuple[str, ...]:
        """Return next, and what must be said of a date that is computed: what follows when it is not there, or past."""
        if self.timeout is not None:
            return ("next", until_true.TIMEOUT)
        return ("next", *self.its_required_exits())

    def its_required_exits(self) -> tuple[str, ...]:
        """Return `missing` where the date may be unknown, and `past` where it also ends before that date."""
        if all(mention.variable in ALWAYS_KNOWN for mention in self.reads):
            return ()
        return (MISSING, PAST) if self.offset < timedelta() else (MISSING,)

    @property
    def reads(self) -> tuple[Mention, ...]:
        """Return what its date is computed from."""
        written = self.until.written if self.until is not None else None
        return written.mentions if isinstance(written, Template | Expression) else ()

    @property
    def listens_to(self) -> tuple[Mention, ...]:
        """Return what it looks at again when it changes."""
        return self.reads if self.condition is None else self.condition.mentions

    def begin(self, context: Context) -> Decision:
        """Set the one timer, or go on at once."""
        if self.condition is not None:
            return until_true.begin(self.condition, self.timeout, context)
        return self._begin_for(context) if self.until is None else self._begin_until(self.until, context)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on when the timer fires, unless it is to end later by now; look again when the date has changed."""
        if self.condition is not None:
            return until_true.on(self.condition, self.timeout, stimulus, context)
        match stimulus:
            case TimerFired():
                return self._fired(context)
            case EventArrived(event) if self.until is not None and touches(event, self.reads):
                return self._changed(self.until, context)
            case _:
                return None

    def _fired(self, context: Context) -> Decision:
        """Go on, unless its date has moved, or by now it is not a moment at which it may end."""
        over = f"The wait {'of ' if self.length else ''}{self._name} is over"
        waiting, due = _waiting(context), context.enrollment.due_at or context.now
        at, inputs = self.at, self._zone_input(context)
        if self.until is not None:
            aim = self._aim(self.until, context)
            if aim.failure is not None or aim.missing:
                return self._nowhere(aim, context)
            if aim.due is None or aim.due > context.now:
                return self._moves_to(aim, context)
            if waiting.since is not None and aim.due <= waiting.since:
                at = None  # it was past when the wait began: the time of day was missed then
            inputs = dict(aim.inputs)
        elif self.length is not None and not self._slotted:
            return Go("next", f"{over}.")
        opens = self._slot(due, context, at)
        if opens is not None and opens > context.now:
            shifted = context.enrollment.shifted
            moved = f", {durations.speak(shifted)} later because of a pause" if shifted else ""
            reason = f"{over}{moved}, but by now it may end at {self._shown(opens, context)} only: waits until then."
            return Stay(waiting, reason, opens, inputs=inputs)
        opens = next_slot(context.now, None, None, self._calendar(context), context.zone) if self.within else None
        if opens is None or opens <= context.now:
            return Go("next", f"{over}.")
        until = self._shown(opens, context)
        return Stay(waiting, f"{over}, but {self.within} has closed since: waits until {until}.", opens)

    def _changed(self, until: Value, context: Context) -> Decision | None:
        """Wait until the new date; one that is gone may come back before the wait is over."""
        aim, due = self._aim(until, context), context.enrollment.due_at
        if due is not None and (aim.failure is not None or aim.missing):
            why = aim.failure.reason if aim.failure is not None else f"There is no date by now: {aim.missing}."
            return Stay(_waiting(context), f"{why} Looks again at {self._shown(due, context)}.", due, inputs=aim.inputs)
        if aim.due == due:
            return None
        if aim.due is not None and aim.due <= context.now:
            return self._past(aim.due, context, aim.inputs)
        return self._moves_to(aim, context)

    def _moves_to(self, aim: _Aim, context: Context) -> Decision:
        """Go on waiting until another date, and say which it was before."""
        before = context.enrollment.due_at
        was = f", not until {self._shown(before, context)}" if before is not None else ""
        held = self._hold(f"The date has changed: waits {self._name}", aim.due, context, aim.inputs, was)
        return replace(held, waiting=_waiting(context)) if isinstance(held, Stay) else held

    def _begin_for(self, context: Context) -> Decision:
        """Begin a wait that counts from now."""
        inputs = self._zone_input(context)
        earliest = self._earliest(context)
        due = None if earliest is None else self._slot(earliest, context, self.at)
        if due is not None and due <= context.now:
            return Go("next", f"Does not wait {self._name}: it is {self._shown(due, context)}.", inputs=inputs)
        return self._hold(f"Waits {self._name}", due, context, inputs)

    def _earliest(self, context: Context) -> datetime | None:
        """Return when the length is over, before time of day, weekday and calendar have their say."""
        now = context.now
        if self.length is None:
            return now if self.at is None else now + datetime.resolution  # 09:00 at 09:00 is tomorrow's
        if self.at is None and not self.counted_in:
            return now + self.length
        zone = context.zone
        # Days with a time of day are dates: two days after Monday, 09:00 and a moment, it is Wednesday, 09:00.
        by_date = self.at is not None and not self.length % DAY
        if self.counted_in:
            calendar = context.calendars[self.counted_in]
            zone, over = calendar.zone(zone), add_open(calendar, now, self.length, zone)
            return instant_of(zone.local(over).date(), MIDNIGHT, zone) if by_date and over is not None else over
        return instant_of(zone.local(now).date() + self.length, MIDNIGHT, zone) if by_date else now + self.length

    def _begin_until(self, until: Value, context: Context) -> Decision:
        """Begin a wait for a date."""
        aim = self._aim(until, context)
        if aim.failure is not None or aim.missing:
            return self._nowhere(aim, context)
        if aim.due is not None and aim.due <= context.now:
            return self._past(aim.due, context, aim.inputs)
        return self._hold(f"Waits {self._name}", aim.due, context, aim.inputs)

    def _aim(self, until: Value, context: Context) -> _Aim:
        """Compute when a date is; `now` in it is when the wait began."""
        since = _waiting(context).since or context.now
        values = Known(context.facts, since, context.enrollment.event, context.enrollment)
        computed = until.compute(values)
        inputs = {**computed.inputs, **self._zone_input(context)}
        text = "" if computed.errors else _written(until, computed, values)
        try:
            moment = moments.parse(text)
        except ValueError as error:
            if computed.errors or (text.strip() and not computed.gaps):
                why = computed.errors[0] if computed.errors else str(error)
                return _Aim(None, inputs, failure=Fail(f"The date could not be made: {why}.", inputs, "BAD_DATE"))
            return _Aim(None, inputs, computed.gaps[0] if computed.gaps else f"{_subject(until)} is empty")
        return _Aim(self._slot(moments.instant(moment, self.offset, context.zone), context, self.at), inputs)

    def _nowhere(self, aim: _Aim, context: Context) -> Decision:
        """Take the way of who has no date; never go on as if it had come."""
        if aim.failure is not None:
            return aim.failure
        reason = f"Does not wait {self._name}: {aim.missing}."
        if context.has_exit(MISSING):
            return Go(MISSING, reason, "skipped", inputs=aim.inputs)
        return Fail(reason, aim.inputs, "NO_DATE")

    def _past(self, due: datetime, context: Context, inputs: Mapping[str, Any]) -> Decision:
        """Go on, as soon as weekday and calendar allow it; the time of day is missed already."""
        missed = f"{self._shown(due, context)} is past"
        way = PAST if context.has_exit(PAST) else "next"
        allowed = next_slot(context.now, None, self.weekdays, self._calendar(context), context.zone)
        if way == PAST or (allowed is not None and allowed <= context.now):
            return Go(way, f"Does not wait {self._name}: {missed}.", inputs=inputs)
        return self._hold(
            f"{missed}; waits for {_slot_name(None, self.weekdays, self.within)}", allowed, context, inputs
        )

    def _hold(
        self, reason: str, due: datetime | None, context: Context, inputs: Mapping[str, Any], was: str = ""
    ) -> Decision:
        """Set the timer; a wait of more than ten years is a mistake."""
        if due is None or due - context.now > durations.LONGEST:
            return Fail(f"{reason}, which takes longer than ten years.", inputs, "NEVER_DUE")
        waiting = Waiting("timer", since=context.now)
        return Stay(waiting, f"{reason}, until {self._shown(due, context)}{was}.", due, inputs=inputs)

    @property
    def slot(self) -> str:
        """Return the time of day, the weekdays and the calendar at which it may end; empty for any time."""
        return _slot_name(self.at, self.weekdays, self.within) if self._slotted else ""

    @property
    def _slotted(self) -> bool:
        """Tell whether a time of day, a weekday or a calendar has a say."""
        return self.at is not None or self.weekdays is not None or bool(self.within)

    def _slot(self, earliest: datetime, context: Context, at: time | None) -> datetime | None:
        if not self._slotted:
            return earliest
        return next_slot(earliest, at, self.weekdays, self._calendar(context), context.zone)

    def _calendar(self, context: Context) -> Calendar | None:
        return context.calendars[self.within] if self.within else None

    @property
    def _name(self) -> str:
        """Return what it waits for, to stand after `Waits` and `The wait`."""
        parts = []
        if self.length is not None:
            counted = f" counted in {self.counted_in}" if self.counted_in else ""
            parts.append(f"{durations.speak(self.length)}{counted}")
        if self.until is not None:
            offset = f"{durations.speak_offset(self.offset)} " if self.offset else ""
            parts.append(f"for {offset}{_subject(self.until)}")
        if self._slotted:
            parts.append(f"for {_slot_name(self.at, self.weekdays, self.within)}")
        return ", then ".join(parts)

    def _zone(self, context: Context) -> Zone | None:
        """Return the zone that has a say: none for a mere length of time."""
        if self.until is not None or self.at is not None or self.weekdays is not None:
            return context.zone
        calendar = self.within or self.counted_in
        return context.calendars[calendar].zone(context.zone) if calendar else None

    def _shown(self, instant: datetime, context: Context) -> str:
        zone = self._zone(context)
        if zone is None:
            return f"{instant.astimezone(UTC).isoformat(' ', 'minutes')[:16]} UTC"
        return f"{zone.local(instant):%Y-%m-%d %H:%M} ({zone.spoken})"

    def _zone_input(self, context: Context) -> dict[str, Any]:
        zone = self._zone(context)
        return {} if zone is None or zone.source == "default" else {f"{zone.source}.timezone": zone.name}


def _slot_name(at: time | None, weekdays: frozenset[int] | None, within: str = "") -> str:
    """Return a time of day, weekdays and a calendar as a sentence has them."""
    names = [WEEKDAYS[day].capitalize() for day in sorted(weekdays or ())]
    days = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}" if names else ""
    when = " on ".join(part for part in (f"{at:%H:%M}" if at is not None else "", days) if part)
    if not within:
        return when
    return f"{when} while {within} is open" if when else f"{within} to be open"


def _subject(until: Value) -> str:
    """Return what a date comes from, as a sentence has it."""
    written = until.written
    if isinstance(written, Template):
        return written.mentions[0].label if len(written.mentions) == 1 else written.text
    return written.text if isinstance(written, Expression) else str(written)


def _written(until: Value, computed: Computed, values: Known) -> str:
    """Return the date as it is written; an expression has made an instant of it, which the record has not."""
    written = until.written
    if isinstance(written, Expression) and [one.label for one in written.mentions] == [written.text.strip()]:
        (mention,) = written.mentions
        recorded = values.get(mention.variable) if not mention.keys else None
        if isinstance(recorded, str):
            return recorded
    return "" if computed.value is None else str(computed.value)


def _waiting(context: Context) -> Waiting:
    """Return the wait that is under way; one that begins now where none is."""
    return context.enrollment.waiting or Waiting("timer", since=context.now)
