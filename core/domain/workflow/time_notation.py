"""Local times, weekdays, openings and dates as authors write them: `09:00`, `monday`, `09:00-17:00`, `2026-12-24`.

Each reader returns the value, or reports what is wrong and returns one that is safe to go on with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import date, time
from typing import Any, TypeVar

from core.domain.nearest import did_you_mean
from core.domain.records.values import zone_names
from core.domain.workflow.findings import Findings
from core.domain.workflow.windows import WEEKDAYS, Window
from core.domain.workflow.zones import MIDNIGHT

_T = TypeVar("_T")

_CLOCK = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9]"
TIME_PATTERN = f"^{_CLOCK}$"
TIME_HINT = "Write hours and minutes, such as 09:00."
OPENING_PATTERN = f"^{_CLOCK} ?- ?(?:{_CLOCK}|24:00)$"
OPENING_HINT = "Write from-to, such as 09:00-17:00, 22:00-06:00, or 00:00-24:00 for the whole day."
DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
DATE_HINT = "Write dates like 2026-12-24."
WEEKDAYS_HINT = "Write weekdays, such as [monday, thursday]."
ZONE_HINT = "Write an IANA name, such as Europe/Berlin."

_BY_NAME = {name: number for number, day in enumerate(WEEKDAYS) for name in (day, day[:3])}
_MOST_OPENINGS = 10


def wrong_type(raw: Any, wanted: str, hint: str, findings: Findings, path: str) -> None:
    """Report a value of the wrong type."""
    kinds = {bool: "true or false", dict: "a map", list: "a list", str: "text", type(None): "null"}
    findings.add(path, "WRONG_TYPE", f"this must be {wanted}, not {kinds.get(type(raw), 'a number')}", hint)


def unknown_keys(raw: Mapping[str, Any], keys: Collection[str], what: str, findings: Findings, path: str) -> None:
    """Report keys that a map does not have."""
    for key in raw:
        if key not in keys:
            hint = did_you_mean(str(key), keys) or f"It has {', '.join(keys)}."
            findings.add(f"{path}.{key}", "UNKNOWN_KEY", f"{what} has no {key}", hint)


def read_list(
    raw: Any, most: int, read: Callable[[Any, Findings, str], _T], wanted: str, hint: str, findings: Findings, path: str
) -> tuple[_T, ...]:
    """Return what one value or a list of them holds."""
    if not isinstance(raw, list):
        return (read(raw, findings, path),)
    if not 1 <= len(raw) <= most:
        findings.add(path, "WRONG_COUNT", f"there are {len(raw)} {wanted}; 1 to {most:,} are allowed", hint)
    return tuple(read(item, findings, f"{path}[{index}]") for index, item in enumerate(raw[:most]))


def time_schema() -> dict[str, Any]:
    """Return the JSON Schema of a local time."""
    return {"type": "string", "pattern": TIME_PATTERN, "examples": ["09:00"]}


def read_time(raw: Any, findings: Findings, path: str) -> time:
    """Return a local time."""
    if not isinstance(raw, str):
        wrong_type(raw, "a time of day", f'{TIME_HINT} In JSON, quote it: "09:00".', findings, path)
    elif not re.fullmatch(TIME_PATTERN[1:-1], raw):
        findings.add(path, "NOT_A_TIME", f"{raw[:40]!r} is not a time of day", TIME_HINT)
    else:
        return _clock(raw)
    return MIDNIGHT


def _clock(text: str) -> time:
    hours, _, minutes = text.strip().partition(":")
    return time(int(hours) % 24, int(minutes))


def weekdays_schema() -> dict[str, Any]:
    """Return the JSON Schema of one or several weekdays."""
    day = {"type": "string", "enum": [*WEEKDAYS, *(day[:3] for day in WEEKDAYS)]}
    return {"anyOf": [day, {"type": "array", "minItems": 1, "maxItems": 7, "items": day}]}


def read_weekdays(raw: Any, findings: Findings, path: str) -> frozenset[int]:
    """Return weekdays by their numbers, 0 for Monday."""
    return frozenset(read_list(raw, 7, _weekday, "weekdays", WEEKDAYS_HINT, findings, path))


def _weekday(raw: Any, findings: Findings, path: str) -> int:
    if not isinstance(raw, str):
        wrong_type(raw, "a weekday", WEEKDAYS_HINT, findings, path)
    elif raw not in _BY_NAME:
        hint = did_you_mean(raw, _BY_NAME) or WEEKDAYS_HINT
        findings.add(path, "UNKNOWN_WEEKDAY", f"there is no weekday {raw[:40]}", hint)
    else:
        return _BY_NAME[raw]
    return 0


def openings_schema() -> dict[str, Any]:
    """Return the JSON Schema of one or several openings."""
    opening = {"type": "string", "pattern": OPENING_PATTERN, "examples": ["09:00-17:00", "22:00-06:00"]}
    return {"anyOf": [opening, {"type": "array", "minItems": 1, "maxItems": _MOST_OPENINGS, "items": opening}]}


def read_openings(raw: Any, findings: Findings, path: str) -> tuple[Window, ...]:
    """Return the openings of a day, in order."""
    openings = read_list(raw, _MOST_OPENINGS, read_opening, "openings", OPENING_HINT, findings, path)
    return tuple(sorted(openings, key=lambda opening: opening.start))


def read_opening(raw: Any, findings: Findings, path: str) -> Window:
    """Return one opening."""
    if not isinstance(raw, str):
        wrong_type(raw, "an opening", OPENING_HINT, findings, path)
    elif not re.fullmatch(OPENING_PATTERN[1:-1], raw):
        findings.add(path, "NOT_AN_OPENING", f"{raw[:40]!r} is not an opening", OPENING_HINT)
    else:
        start, _, end = raw.partition("-")
        return checked_window(_clock(start), _clock(end), end.strip() == "24:00", findings, path)
    return Window(MIDNIGHT, MIDNIGHT)


def checked_window(start: time, end: time, to_midnight: bool, findings: Findings, path: str) -> Window:
    """Return a window, and report one that ends as it begins; only 00:00 to 24:00 is the whole day."""
    if start == end and not to_midnight:
        findings.add(path, "EMPTY", f"this begins and ends at {start:%H:%M}", OPENING_HINT)
    return Window(start, end)


def dates_schema(most: int) -> dict[str, Any]:
    """Return the JSON Schema of a list of dates."""
    item = {"type": "string", "pattern": DATE_PATTERN, "format": "date"}
    return {"type": "array", "maxItems": most, "items": item}


def read_dates(raw: Any, most: int, findings: Findings, path: str) -> frozenset[date]:
    """Return a list of dates."""
    if not isinstance(raw, list):
        wrong_type(raw, "a list of dates", DATE_HINT, findings, path)
        return frozenset()
    if len(raw) > most:
        message = f"there are {len(raw):,} dates; at most {most:,} are allowed"
        findings.add(path, "TOO_MANY", message, "Leave past ones out, or name the country in holidays.")
    found = (read_date(item, findings, f"{path}[{index}]") for index, item in enumerate(raw[:most]))
    return frozenset(day for day in found if day is not None)


def read_date(raw: Any, findings: Findings, path: str) -> date | None:
    """Return a date."""
    try:
        if isinstance(raw, str) and re.fullmatch(DATE_PATTERN[1:-1], raw):
            return date.fromisoformat(raw)
    except ValueError:
        pass
    findings.add(path, "NOT_A_DATE", f"{str(raw)[:40]!r} is not a date", DATE_HINT)
    return None


def read_zone(raw: Any, findings: Findings, path: str) -> str:
    """Return the name of a time zone."""
    if not isinstance(raw, str):
        wrong_type(raw, "the name of a time zone", ZONE_HINT, findings, path)
        return ""
    if raw not in zone_names():
        hint = did_you_mean(raw, zone_names()) or ZONE_HINT
        findings.add(path, "UNKNOWN_TIMEZONE", f"there is no time zone {raw[:60]}", hint)
    return raw
