"""How authors configure a wait: what is read, what is refused, what is published."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.domain.steps.base import Step, config_schema
from core.domain.steps.time_shapes import CalendarRef, LocalTime, Moment, Offset, Weekdays, ZoneName
from core.domain.steps.wait import Wait
from core.domain.workflow import durations, moments
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from core.domain.workflow.zones import Zone

CALENDARS = {
    "office": {"hours": "09:00-17:00"},
    "nights": {"hours": "22:00-06:00"},
    "sundays": {"days": "sunday", "open": ["2026-12-24"]},
}


def problems(config: str) -> list[tuple[str, str]]:
    """Return what is wrong with a wait of this configuration."""
    step = parse(f"it: {{id: a, kind: wait, {config}}}")["it"]
    found = compile_document({"calendars": CALENDARS, "steps": [step]}).problems
    assert all(problem.message and problem.hint for problem in found)
    return [(problem.field.removeprefix("steps[0]."), problem.reason) for problem in found]


def step(config: str) -> Step:
    """Return the step that a configuration describes."""
    document = parse(f"it: {{id: a, kind: wait, {config}}}")["it"]
    version = compile_document({"calendars": CALENDARS, "steps": [document]}).version
    assert version is not None
    return version.steps["a"].step


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("title: x", [("for", "MISSING_KEY")]),
        ("for: 2d, until: 2026-05-01", [("until", "CONFLICT")]),
        ("for: 2d, offset: -1d", [("offset", "CONFLICT")]),
        ("until: 2026-05-01, counted_in: office", [("counted_in", "CONFLICT")]),
        ("for: 2d, within: offce", [("within", "UNKNOWN_CALENDAR")]),
        ("for: 2d, at: 9am, on: [mo, monday], within: 3", [
            ("at", "NOT_A_TIME"), ("on[0]", "UNKNOWN_WEEKDAY"), ("within", "WRONG_TYPE"),
        ]),
        ("at: 900", [("at", "WRONG_TYPE")]),
        ("at: 25:00", [("at", "NOT_A_TIME")]),
        ("on: []", [("on", "WRONG_COUNT")]),
        ("until: soon", [("until", "NOT_A_DATE")]),
        ("until: 2026-02-30", [("until", "NOT_A_DATE")]),
        ("until: 0000-01-01", [("until", "NOT_A_DATE")]),
        ("until: 5", [("until", "WRONG_TYPE")]),
        ("until: {date: x}", [("until", "WRONG_TYPE")]),
        ("until: {cel: 'contact.employees > 3'}", [("until.cel", "EXPRESSION_TYPE")]),
        ('until: "{{ contact.custom.day }}"', [("exits.missing", "MISSING_EXIT")]),
        ('until: "{{ event.occurred_at }}", offset: 1d', [("exits.missing", "MISSING_EXIT")]),
        ("until: {cel: moment(vars.day)}, offset: -1d, exits: {missing: end}", [("exits.past", "MISSING_EXIT")]),
        ("until: {cel: contact.custom.day}, offset: -1d, exits: {missing: end, past: end}", []),
        ("until: {cel: 'enrollment.entered_at + duration(\"48h\")'}, offset: -1d", []),
        ("until: 2026-05-01, offset: -7d", []),
        ("until: {cel: 'contact.emial'}", [("until.cel", "EXPRESSION_UNKNOWN_NAME")]),
        ("until: 2026-05-01, offset: 7", [("offset", "WRONG_TYPE")]),
        ("until: 2026-05-01, offset: --7d", [("offset", "NOT_A_DURATION")]),
        ("at: 20:00, within: office", [("within", "NEVER_OPEN")]),
        ("on: saturday, within: office", [("within", "NEVER_OPEN")]),
        ("on: saturday, at: 05:00, within: nights", []),
        ("on: saturday, at: 23:00, within: nights", [("within", "NEVER_OPEN")]),
        ("on: thursday, within: sundays", []),  # the one that is open all the same
        ("for: 2d, exits: {past: end}", []),
        ("for: 2d, exits: {passt: end}", [("exits.passt", "UNKNOWN_EXIT")]),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(config: str, expected: list[tuple[str, str]]) -> None:
    assert problems(config) == expected


@pytest.mark.parametrize(
    ("config", "holds"),
    [
        ("for: 1s", True),
        ("at: 09:00", True),
        ("at: 09:00, on: mon, within: office", True),
        ("on: mon", False),
        ("within: office", False),
        ("until: 2026-05-01, at: 09:00", False),
    ],
)
def test_only_a_wait_that_surely_holds_makes_a_loop_wait(config: str, holds: bool) -> None:
    assert step(config).holds() is holds
    assert (problems(f"{config}, next: a") == []) is holds


@pytest.mark.parametrize(
    ("config", "valid"),
    [
        ({}, False),
        ({"for": "2d"}, True),
        ({"at": "09:00", "on": ["mon", "sunday"], "within": "office"}, True),
        ({"on": "monday"}, True),
        ({"until": {"cel": "now"}, "offset": "-7d"}, True),
        ({"for": "2d", "until": "2026-05-01"}, False),
        ({"for": "2d", "offset": "-7d"}, False),
        ({"until": "2026-05-01", "counted_in": "office"}, False),
        ({"for": "2d", "counted_in": "office"}, True),
        ({"at": "24:00"}, False),
        ({"on": "Monday"}, False),
        ({"until": ["2026-05-01"]}, False),
    ],
)
def test_the_schema_says_the_same(config: dict[str, Any], valid: bool) -> None:
    schema = {**config_schema(Wait), **Wait.constraints}
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(config) is valid


@pytest.mark.parametrize("shape", [CalendarRef(), LocalTime(), Moment(), Offset(), Weekdays(), ZoneName()])
def test_a_shape_says_how_to_write_one(shape: Any) -> None:
    Draft202012Validator.check_schema(shape.schema())
    assert shape.hint.endswith(".")


def test_an_unknown_calendar_is_told_how_to_be_described() -> None:
    document = {"steps": [{"id": "a", "kind": "wait", "within": "office"}]}
    (problem,) = compile_document(document).problems
    assert problem.hint == (
        "Describe it first: calendars: {office: {days: [monday, friday], hours: 09:00-17:00, holidays: DE-BY}}."
    )
    assert parse(problem.hint.removeprefix("Describe it first: ").removesuffix("."))["calendars"]["office"]


@pytest.mark.parametrize(
    ("text", "offset", "spoken"),
    [
        ("-7d", timedelta(days=-7), "7 days before"),
        ("3h", timedelta(hours=3), "3 hours after"),
        ("+1d12h", timedelta(days=1, hours=12), "1 day 12 hours after"),
        (" -P1W", timedelta(days=-7), "7 days before"),
    ],
)
def test_an_offset_is_read_and_spoken(text: str, offset: timedelta, spoken: str) -> None:
    assert durations.parse_offset(text) == offset
    assert durations.speak_offset(offset) == spoken
    assert durations.parse_offset(durations.render(offset)) == offset
    assert Draft202012Validator(Offset().schema()).is_valid(text.strip())


@pytest.mark.parametrize("text", ["", "-", "--7d", "+-7d", "7", "-0d", "d-7", "- 7d"])
def test_what_is_no_offset_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"length of time|no time"):
        durations.parse_offset(text)


BERLIN = Zone("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "moment", "instant"),
    [
        ("2026-03-30", date(2026, 3, 30), "2026-03-27T23:00"),
        ("2026-03-30T09:00", datetime.combine(date(2026, 3, 30), time(9)), "2026-03-28T08:00"),
        ("2026-03-30 09:00:00", datetime.combine(date(2026, 3, 30), time(9)), "2026-03-28T08:00"),
        ("2026-03-30T09:00:00Z", datetime(2026, 3, 30, 9, tzinfo=UTC), "2026-03-28T09:00"),
        (" 2026-03-30T09:00+02:00 ", datetime.fromisoformat("2026-03-30T09:00+02:00"), "2026-03-28T07:00"),
    ],
)
def test_a_moment_is_a_date_a_local_time_or_an_instant(text: str, moment: object, instant: str) -> None:
    found = moments.parse(text)
    assert (found, type(found)) == (moment, type(moment))
    assert moments.instant(found, timedelta(days=-2), BERLIN) == datetime.fromisoformat(instant).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "soon", "2026", "1767225600", "1767225600000", "2026-13-01", "9999-12-31", "1,5"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a date|is out of range"):
        moments.parse(text)
