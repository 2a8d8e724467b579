"""Calendars, quiet hours and frequency caps as documents write them: read, refused, published."""

from __future__ import annotations

from datetime import date, time, timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.domain.workflow.calendar import Calendar, calendar_schema, read_calendar
from core.domain.workflow.findings import Findings
from core.domain.workflow.frequency import FrequencyCap, frequency_caps_schema, read_frequency_caps
from core.domain.workflow.quiet_hours import QuietHours, quiet_hours_schema, read_quiet_hours
from core.domain.workflow.source import parse
from core.domain.workflow.windows import WORKING_DAYS, Window

NINE_TO_FIVE = (Window(time(9), time(17)),)
WHOLE_DAY = (Window(time(), time()),)
SCHEMAS = {
    "calendar": calendar_schema(),
    "quiet_hours": quiet_hours_schema(),
    "frequency_caps": frequency_caps_schema(),
}
READERS = {"calendar": read_calendar, "quiet_hours": read_quiet_hours, "frequency_caps": read_frequency_caps}


def read(kind: str, text: str) -> tuple[Any, list[tuple[str, str]], Findings]:
    """Return what a document says, and what is wrong with it."""
    findings = Findings()
    found = READERS[kind](parse(f"it: {text}")["it"], findings, "it")
    return found, [(problem.field, problem.reason) for problem in findings.problems], findings


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("calendar", "{}", Calendar((WHOLE_DAY,) * 5 + ((),) * 2, usual=WHOLE_DAY)),
        (
            "calendar",
            "{days: [mon, tuesday], hours: 09:00-17:00, timezone: Europe/Berlin}",
            Calendar((NINE_TO_FIVE,) * 2 + ((),) * 5, usual=NINE_TO_FIVE, timezone="Europe/Berlin"),
        ),
        (
            "calendar",
            "{days: sunday, hours: [13:00 - 17:00, 9:00-12:00], holidays: DE-BY, closed: [2026-12-24], open: []}",
            Calendar(
                ((),) * 6 + ((Window(time(9), time(12)), Window(time(13), time(17))),),
                ("DE-BY",),
                frozenset({date(2026, 12, 24)}),
                usual=(Window(time(9), time(12)), Window(time(13), time(17))),
            ),
        ),
        (
            "calendar",
            "{hours: {tuesday: 22:00-06:00, friday: [09:00-24:00]}, holidays: [AT, US-CA], open: [2026-12-26]}",
            Calendar(
                ((), (Window(time(22), time(6)),), (), (), (Window(time(9), time()),), (), ()),
                ("AT", "US-CA"),
                open=frozenset({date(2026, 12, 26)}),
                usual=(Window(time(22), time(6)),),
            ),
        ),
        ("quiet_hours", "21:00-08:00", QuietHours(time(21), time(8))),
        ("quiet_hours", "{from: 21:00, to: 08:00}", QuietHours(time(21), time(8))),
        (
            "quiet_hours",
            "[{from: 21:00, to: 08:00, days: [mon, tue, wed, thu, fri]}, {from: 00:00, to: 24:00, days: sun}]",
            QuietHours(time(21), time(8), WORKING_DAYS, (QuietHours(time(), time(), frozenset({6})),)),
        ),
        ("frequency_caps", "{at_most: 1, per: day}", (FrequencyCap(1, "day"),)),
        (
            "frequency_caps",
            "[{at_most: 3, per: 7d, channel: email, otherwise: skip}, {at_most: 2, per: week}]",
            (FrequencyCap(3, timedelta(days=7), "email", "skip"), FrequencyCap(2, "week")),
        ),
    ],
)
def test_what_authors_write_is_read_and_allowed_by_the_schema(kind: str, text: str, expected: object) -> None:
    found, problems, _ = read(kind, text)
    assert (found, problems) == (expected, [])
    assert list(Draft202012Validator(SCHEMAS[kind]).iter_errors(parse(f"it: {text}")["it"])) == []


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("calendar", "office", [("it", "WRONG_TYPE")]),
        (
            "calendar",
            "{day: mon, days: [munday, 3], hours: nine to five, holidays: [Atlantis, 4], "
            "closed: [tomorrow, 2026-02-30], timezone: Berlin}",
            [
                ("it.day", "UNKNOWN_KEY"),
                ("it.days[0]", "UNKNOWN_WEEKDAY"),
                ("it.days[1]", "WRONG_TYPE"),
                ("it.hours", "NOT_AN_OPENING"),
                ("it.holidays[0]", "UNKNOWN_PLACE"),
                ("it.holidays[1]", "WRONG_TYPE"),
                ("it.closed[0]", "NOT_A_DATE"),
                ("it.closed[1]", "NOT_A_DATE"),
                ("it.timezone", "UNKNOWN_TIMEZONE"),
            ],
        ),
        ("calendar", "{hours: {munday: 09:00-17:00}}", [("it.hours.munday", "UNKNOWN_WEEKDAY")]),
        ("calendar", "{days: mon, hours: {monday: 09:00-17:00}}", [("it.days", "CONFLICT")]),
        ("calendar", "{hours: 9}", [("it.hours", "WRONG_TYPE")]),
        ("calendar", "{hours: 09:00-09:00}", [("it.hours", "EMPTY")]),
        ("calendar", "{hours: []}", [("it.hours", "WRONG_COUNT")]),
        ("calendar", "{hours: {}}", [("it", "NEVER_OPEN")]),
        ("calendar", "{closed: [2026-12-24], open: [2026-12-24]}", [("it.open", "CONFLICT")]),
        ("calendar", "{closed: 2026-12-24, timezone: 3}", [("it.closed", "WRONG_TYPE"), ("it.timezone", "WRONG_TYPE")]),
        ("quiet_hours", "3", [("it", "WRONG_TYPE")]),
        ("quiet_hours", "at night", [("it", "NOT_AN_OPENING")]),
        ("quiet_hours", "{from: 21:00}", [("it.to", "MISSING_KEY")]),
        ("quiet_hours", "{from: 21, to: 8pm, on: mon}", [
            ("it.on", "UNKNOWN_KEY"), ("it.from", "WRONG_TYPE"), ("it.to", "NOT_A_TIME"),
        ]),
        ("quiet_hours", "00:00-24:00", [("it", "ALWAYS_QUIET")]),
        ("quiet_hours", "[21:00-08:00, 08:00-21:00]", [("it", "ALWAYS_QUIET")]),
        ("quiet_hours", "[]", [("it", "WRONG_COUNT")]),
        ("quiet_hours", "{from: 21:00, to: 21:00}", [("it", "EMPTY")]),
        ("frequency_caps", "2 a day", [("it", "WRONG_TYPE")]),
        ("frequency_caps", "[{}, {at_most: 0, per: dayy, channel: E-Mail, otherwise: drop, upto: 2}]", [
            ("it[0].at_most", "MISSING_KEY"),
            ("it[0].per", "MISSING_KEY"),
            ("it[1].upto", "UNKNOWN_KEY"),
            ("it[1].at_most", "OUT_OF_RANGE"),
            ("it[1].per", "NOT_A_DURATION"),
            ("it[1].channel", "BAD_NAME"),
            ("it[1].otherwise", "UNKNOWN_VALUE"),
        ]),
        ("frequency_caps", "{at_most: true, per: 400d}", [("it.at_most", "OUT_OF_RANGE"), ("it.per", "OUT_OF_RANGE")]),
        ("frequency_caps", "{at_most: 1, per: 7}", [("it.per", "NOT_A_DURATION")]),
    ],
)  # fmt: skip
def test_everything_that_is_wrong_is_told_at_once_with_a_way_out(
    kind: str, text: str, expected: list[tuple[str, str]]
) -> None:
    found, problems, findings = read(kind, text)
    assert problems == expected
    assert not found or kind == "frequency_caps"
    assert all(problem.message and problem.hint for problem in findings.problems)


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        ("calendar", "{days: [wensday]}", "Did you mean wednesday?"),
        ("calendar", "{holiday: DE}", "Did you mean holidays?"),
        ("calendar", "{timezone: Europe/Berlim}", "Did you mean Europe/Berlin?"),
        ("calendar", "{holidays: de-by}", "Did you mean DE-BY?"),
        ("frequency_caps", "{at_most: 1, per: days}", "Did you mean day?"),
        ("frequency_caps", "{at_most: 1, per: day, otherwise: holds}", "Did you mean hold?"),
    ],
)
def test_the_nearest_name_is_offered(kind: str, text: str, hint: str) -> None:
    (problem,) = read(kind, text)[2].problems
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_schemas_are_schemas(kind: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[kind])


def test_a_calendar_that_is_closed_for_ten_years_is_refused() -> None:
    mondays = ", ".join(str(date(2025, 12, 29) + timedelta(weeks=week)) for week in range(600))
    assert read("calendar", f"{{days: mon, closed: [{mondays}]}}")[1] == [("it", "NEVER_OPEN")]
