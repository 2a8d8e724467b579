"""The shapes of settings that speak of time: local times, weekdays, offsets, dates, zones, calendars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time, timedelta
from typing import Any

from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.steps.shapes import IDENTIFIER, Scope, wrong_type
from core.domain.workflow import calendar, durations, moments, values
from core.domain.workflow import time_notation as notation
from core.domain.workflow.expressions import Expression, fits, spoken
from core.domain.workflow.values import Value


@frozen
class LocalTime:
    """A time of day, on the clock of whoever waits."""

    hint: str = notation.TIME_HINT

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return notation.time_schema()

    def read(self, raw: Any, scope: Scope, path: str) -> time:
        """Return the time, or report what is wrong."""
        return notation.read_time(raw, scope.findings, path)


@frozen
class Weekdays:
    """One or several days of the week."""

    hint: str = notation.WEEKDAYS_HINT

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return notation.weekdays_schema()

    def read(self, raw: Any, scope: Scope, path: str) -> frozenset[int]:
        """Return the numbers of the days, 0 for Monday, or report what is wrong."""
        return notation.read_weekdays(raw, scope.findings, path)


@frozen
class Offset:
    """A length of time before or after something."""

    hint: str = "Write -7d for seven days before, or 2h for two hours after."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": durations.SIGNED_PATTERN, "examples": ["-7d", "2h"]}

    def read(self, raw: Any, scope: Scope, path: str) -> timedelta:
        """Return the length of time, negative for before, or report what is wrong."""
        if not isinstance(raw, str):
            wrong_type(raw, "a length of time", self, scope, path)
            return timedelta()
        try:
            return durations.parse_offset(raw)
        except ValueError as error:
            scope.add(path, "NOT_A_DURATION", str(error), self.hint)
            return timedelta()


@frozen
class ZoneName:
    """The IANA name of a time zone."""

    hint: str = notation.ZONE_HINT

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": 60, "examples": ["Europe/Berlin"]}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the name, or report what is wrong."""
        return notation.read_zone(raw, scope.findings, path)


@frozen
class CalendarRef:
    """The name of one of the document's calendars."""

    hint: str = "Write the name of a calendar from the workflow's calendars."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": 200}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the name, or report what is wrong."""
        if not isinstance(raw, str):
            wrong_type(raw, "the name of a calendar", self, scope, path)
            return ""
        if raw not in scope.calendars:
            known = f"There is {', '.join(scope.calendars)}." if scope.calendars else ""
            first = f"Describe it first: calendars: {{{raw[:40] or 'office'}: {calendar.HINT[6:-1]}}}."
            hint = did_you_mean(raw, scope.calendars) or known or first
            scope.add(path, "UNKNOWN_CALENDAR", f"there is no calendar {raw[:60]}", hint)
        return raw


ENTRY = "entry"
"""Since when events count: since the enrollment began."""


@frozen
class Since:
    """An instant of the enrollment's own past: when it began, or when it came into a step."""

    hint: str = f"Write {ENTRY}, or the id of a step that comes before."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": f"^{IDENTIFIER}$"}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the word for it, or report what is wrong."""
        if not isinstance(raw, str):
            wrong_type(raw, "entry, or the id of a step", self, scope, path)
            return ""
        if raw != ENTRY and raw not in scope.steps:
            hint = did_you_mean(raw, (ENTRY, *scope.steps)) or self.hint
            scope.add(path, "UNKNOWN_STEP", f"there is no step {raw[:60]}", hint)
        return raw


@frozen
class Moment:
    """A date or an instant: written out, or computed by a template or an expression."""

    hint: str = f'Write "{{{{ contact.custom.renewal_date }}}}" or {{cel: …}}. {moments.EXAMPLE}'

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"anyOf": [{"type": "string", "minLength": 1, "format": "liquid"}, dict(values.CEL_SCHEMA)]}

    def read(self, raw: Any, scope: Scope, path: str) -> Value:
        """Return what it is computed from, or report what is wrong."""
        if not isinstance(raw, str) and not (isinstance(raw, Mapping) and set(raw) == {"cel"}):
            wrong_type(raw, "a date, or what it is computed from", self, scope, path)
            return Value("")
        value, problems = values.check(raw, scope.environment, path)
        scope.problems.extend(problems)
        if value is None:
            return Value("")
        if isinstance(value.written, Expression) and not fits(value.written.kind, "instant"):
            message = f"this comes to {spoken(value.written.kind)}, but a date or an instant is needed here"
            scope.add(f"{path}.cel", "EXPRESSION_TYPE", message, "Convert it, as with timestamp(…).")
        elif isinstance(value.written, str):
            try:
                moments.parse(value.written)
            except ValueError as error:
                scope.add(path, "NOT_A_DATE", str(error), self.hint)
        return value
