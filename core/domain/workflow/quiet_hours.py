"""Quiet hours: local times in which no message goes out; it is held until they end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any

from core.domain.frozen import frozen
from core.domain.workflow import time_notation as notation
from core.domain.workflow.findings import Findings
from core.domain.workflow.windows import DAY, EVERY_DAY, Window
from core.domain.workflow.zones import DEFAULT, MIDNIGHT, Zone

HINT = "Write 21:00-08:00, {from: 21:00, to: 08:00, days: [friday]}, or a list of these."
MOST = 14

_KEYS = ("from", "to", "days")
_A_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


@frozen
class QuietHours:
    """Local times in which no message goes out."""

    start: time
    end: time
    """The first moment that is not quiet; on the day after when it is not later than the start."""
    days: frozenset[int] = EVERY_DAY
    """Weekdays on which they begin; 0 is Monday."""
    also: tuple[QuietHours, ...] = ()
    """Further quiet hours of the same rule, such as all of Sunday."""

    @property
    def every(self) -> tuple[QuietHours, ...]:
        """Return all quiet hours of the rule."""
        return (self, *self.also)


def quiet_until(quiet: QuietHours, instant: datetime, zone: Zone) -> datetime | None:
    """Return when the quiet hours end that hold at an instant; None when none do."""
    until = instant
    for _ in range(8 * len(quiet.every)):  # a rule that is quiet all week is refused when it is read
        end = max((_end(one, until, zone) for one in quiet.every), default=until)
        if end == until:
            break
        until = end
    return until if until > instant else None


def _end(quiet: QuietHours, instant: datetime, zone: Zone) -> datetime:
    """Return when the quiet hours end that hold at an instant, or the instant itself when they do not."""
    today = zone.local(instant).date()
    ends = [instant]
    for day in (today - DAY, today):
        if day.weekday() in quiet.days:
            start, end = Window(quiet.start, quiet.end).on(day, zone)
            if start <= instant < end:
                ends.append(end)
    return max(ends)


def quiet_hours_schema() -> dict[str, Any]:
    """Return the JSON Schema of quiet hours in a document."""
    end = {"type": "string", "pattern": f"{notation.TIME_PATTERN}|^24:00$"}
    properties = {
        "from": {**notation.time_schema(), "description": "Local time at which they begin."},
        "to": {**end, "description": "Local time at which they end; on the day after when it is not later."},
        "days": {**notation.weekdays_schema(), "description": "Weekdays on which they begin; every day by default."},
    }
    window = {"type": "object", "properties": properties, "required": ["from", "to"], "additionalProperties": False}
    short = {"type": "string", "pattern": notation.OPENING_PATTERN, "examples": ["21:00-08:00"]}
    one = {"anyOf": [short, window]}
    return {"anyOf": [short, window, {"type": "array", "minItems": 1, "maxItems": MOST, "items": one}]}


def read_quiet_hours(raw: Any, findings: Findings, path: str) -> QuietHours | None:
    """Return the quiet hours that a document describes; None when something is wrong, which the findings then hold."""
    before = len(findings.problems)
    found = notation.read_list(raw, MOST, _read_one, "quiet hours", HINT, findings, path)
    if len(findings.problems) > before:
        return None
    quiet = QuietHours(found[0].start, found[0].end, found[0].days, found[1:])
    until = quiet_until(quiet, _A_MONDAY, DEFAULT)
    if until is not None and until - _A_MONDAY >= timedelta(days=7):
        findings.add(path, "ALWAYS_QUIET", "these quiet hours never end", "Leave some hours of the week free.")
        return None
    return quiet


def _read_one(raw: Any, findings: Findings, path: str) -> QuietHours:
    if isinstance(raw, str):
        window = notation.read_opening(raw, findings, path)
        return QuietHours(window.start, window.end)
    if not isinstance(raw, Mapping):
        notation.wrong_type(raw, "quiet hours", HINT, findings, path)
        return QuietHours(MIDNIGHT, MIDNIGHT)
    notation.unknown_keys(raw, _KEYS, "quiet hours", findings, path)
    before = len(findings.problems)
    ends: list[time] = []
    for key in ("from", "to"):
        if raw.get(key) is None:
            findings.add(f"{path}.{key}", "MISSING_KEY", f"quiet hours need {key}", HINT)
        elif key == "to" and raw[key] == "24:00":
            ends.append(MIDNIGHT)
        else:
            ends.append(notation.read_time(raw[key], findings, f"{path}.{key}"))
    days = notation.read_weekdays(raw["days"], findings, f"{path}.days") if raw.get("days") is not None else EVERY_DAY
    if len(findings.problems) > before:
        return QuietHours(MIDNIGHT, MIDNIGHT)
    window = notation.checked_window(ends[0], ends[1], raw["to"] == "24:00", findings, path)
    return QuietHours(window.start, window.end, days)
