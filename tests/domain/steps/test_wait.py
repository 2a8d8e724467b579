"""What a wait waits for, until when, and why the trace says so."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import machine
from core.domain.enrollment import Facts, State, TimerFired
from core.domain.trace import TraceEntry
from core.domain.workflow.calendar import is_open
from core.domain.workflow.source import render
from core.domain.workflow.zones import Zone
from tests.domain.machine_cases import DAY, START, compiled, entered, known, moved

CALENDARS = """
calendars:
  office: {hours: 09:00-17:00, holidays: DE}
  tokyo: {hours: 09:00-17:00, timezone: Asia/Tokyo}
  nights: {hours: 22:00-06:00}
"""
ZONES = ["", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]


def waits(config: str, now: datetime = START, facts: Facts | None = None, head: str = "") -> machine.Transition:
    """Return what entering makes of a wait with this configuration; `past` and `missing` lead on when written."""
    return entered(compiled(f"{head}{CALENDARS}steps: [{{id: pause, kind: wait, {config}}}]"), facts, now=now)


def begun(config: str, now: datetime = START, facts: Facts | None = None, head: str = "") -> TraceEntry:
    """Return how the trace tells of it."""
    return waits(config, now, facts, head).trace[1]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


BERLIN = known(timezone="Europe/Berlin", custom={"renewal": "2026-04-01", "call": "2026-03-05T15:30:00Z"})


@pytest.mark.parametrize(
    ("config", "due", "reason"),
    [
        ("for: 2d", "2026-03-04T09:00", "Waits 2 days, until 2026-03-04 09:00 UTC."),
        (
            "for: 2d, at: 09:00",  # it is Monday, 10:00 there, and Wednesday is two days on
            "2026-03-04T08:00",
            "Waits 2 days, then for 09:00, until 2026-03-04 09:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "for: 2h, at: 11:00",
            "2026-03-03T10:00",
            "Waits 2 hours, then for 11:00, until 2026-03-03 11:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "for: 5d, on: [monday, wed]",
            "2026-03-08T23:00",
            "Waits 5 days, then for Monday or Wednesday, until 2026-03-09 00:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "for: 2d, within: office",
            "2026-03-04T09:00",
            "Waits 2 days, then for office to be open, until 2026-03-04 10:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "for: 5d, counted_in: office",
            "2026-03-09T09:00",
            "Waits 5 days counted in office, until 2026-03-09 10:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "for: 8h, counted_in: office",
            "2026-03-03T09:00",
            "Waits 8 hours counted in office, until 2026-03-03 10:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "for: 5d, counted_in: office, at: 09:00",
            "2026-03-09T08:00",
            "Waits 5 days counted in office, then for 09:00, until 2026-03-09 09:00"
            " (Europe/Berlin, the contact's zone).",
        ),
        (
            "for: 1h, counted_in: tokyo",
            "2026-03-03T01:00",
            "Waits 1 hour counted in tokyo, until 2026-03-03 10:00 (Asia/Tokyo, the calendar's zone).",
        ),
        (
            "at: 09:00",
            "2026-03-03T08:00",
            "Waits for 09:00, until 2026-03-03 09:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "at: 10:00, on: tuesday",
            "2026-03-03T09:00",
            "Waits for 10:00 on Tuesday, until 2026-03-03 10:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "at: 10:00",  # which it is: the next one counts
            "2026-03-03T09:00",
            "Waits for 10:00, until 2026-03-03 10:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "on: [sat, sun]",
            "2026-03-06T23:00",
            "Waits for Saturday or Sunday, until 2026-03-07 00:00 (Europe/Berlin, the contact's zone).",
        ),
        (
            "at: 23:00, on: friday, within: nights",
            "2026-03-06T22:00",
            "Waits for 23:00 on Friday while nights is open, until 2026-03-06 23:00"
            " (Europe/Berlin, the contact's zone).",
        ),
        (
            "within: tokyo",
            "2026-03-03T00:00",
            "Waits for tokyo to be open, until 2026-03-03 09:00 (Asia/Tokyo, the calendar's zone).",
        ),
        (
            'until: "{{ contact.custom.renewal }}", offset: -7d, at: 09:00, exits: {missing: end, past: end}',
            "2026-03-25T08:00",
            "Waits for 7 days before contact.custom.renewal, then for 09:00, until 2026-03-25 09:00"
            " (Europe/Berlin, the contact's zone).",
        ),
        (
            "until: {cel: contact.custom.call}, offset: 30m, exits: {missing: end}",
            "2026-03-05T16:00",
            "Waits for 30 minutes after contact.custom.call, until 2026-03-05 17:00"
            " (Europe/Berlin, the contact's zone).",
        ),
        (
            "until: {cel: 'now + duration(\"48h\")'}, within: office",
            "2026-03-04T09:00",
            'Waits for now + duration("48h"), then for office to be open, until 2026-03-04 10:00'
            " (Europe/Berlin, the contact's zone).",
        ),
        (
            "until: 2026-05-01, within: office",  # a holiday, then a week-end
            "2026-05-04T07:00",
            "Waits for 2026-05-01, then for office to be open, until 2026-05-04 09:00"
            " (Europe/Berlin, the contact's zone).",
        ),
        (
            "until: '2026-05-01T08:00'",  # local, as it says nothing else
            "2026-05-01T06:00",
            "Waits for 2026-05-01T08:00, until 2026-05-01 08:00 (Europe/Berlin, the contact's zone).",
        ),
    ],
)
def test_a_wait_knows_when_it_ends_and_says_why(config: str, due: str, reason: str) -> None:
    transition = waits(config, facts=BERLIN)
    assert transition.enrollment.due_at == at(due)
    assert transition.trace[1].reason == reason
    assert transition.trace[1].outcome == "waiting"
    after = moved(compiled(f"{CALENDARS}steps: [{{id: pause, kind: wait, {config}}}]"), transition.enrollment,
                  TimerFired(), at(due), BERLIN)  # fmt: skip
    assert after.enrollment.state is State.COMPLETED
    assert after.trace[0].reason.startswith("The wait ")


@pytest.mark.parametrize(
    ("config", "outcome", "exit", "reason"),
    [
        ("on: monday", "ok", "next", "Does not wait for Monday: it is 2026-03-02 10:00 (ZONE)."),
        ("within: office", "ok", "next", "Does not wait for office to be open: it is 2026-03-02 10:00 (ZONE)."),
        ("until: 2026-02-01", "ok", "next", "Does not wait for 2026-02-01: 2026-02-01 00:00 (ZONE) is past."),
        ("until: 2026-02-01, exits: {past: end}", "ok", "past",
         "Does not wait for 2026-02-01: 2026-02-01 00:00 (ZONE) is past."),
        ('until: "{{ contact.custom.renewal }}", offset: -60d, at: 09:00, exits: {missing: end, past: end}', "ok",
         "past",
         "Does not wait for 60 days before contact.custom.renewal, then for 09:00: 2026-01-31 09:00 (ZONE) is past."),
        ("until: {cel: now}", "ok", "next", "Does not wait for now: 2026-03-02 10:00 (ZONE) is past."),
        ('until: "{{ contact.custom.trial }}T09:00", exits: {missing: end}', "skipped", "missing",
         "Does not wait for contact.custom.trial: contact.custom.trial is not known."),
        ("until: {cel: contact.custom.trial}, exits: {missing: end}", "skipped", "missing",
         "Does not wait for contact.custom.trial: contact.custom.trial is not known."),
        ("until: {cel: moment(contact.custom.trial)}, exits: {missing: end}", "skipped", "missing",
         "Does not wait for moment(contact.custom.trial): contact.custom.trial is not known."),
        ('until: "{{ contact.email }}", exits: {missing: end}', "failed", "",
         "The date could not be made: 'ada@example.com' is not a date."),
        ('until: "{{ contact.custom.renewal }}0", exits: {missing: end}', "failed", "",
         "The date could not be made: '2026-04-010' is not a date."),
        ("until: {cel: moment(contact.email)}, exits: {missing: end}", "failed", "",
         "The date could not be made: it could not be evaluated ('ada@example.com' is not a date)."),
        ("until: {cel: '\" \"'}", "failed", "", "Does not wait for \" \": \" \" is empty."),
    ],
)  # fmt: skip
def test_a_wait_that_has_nothing_to_wait_for_does_not_go_on_as_if_it_were_over_and_says_why(
    config: str, outcome: str, exit: str, reason: str
) -> None:
    entry = begun(config, facts=BERLIN)
    told = reason.replace("ZONE", "Europe/Berlin, the contact's zone")
    assert (entry.outcome, entry.exit, entry.reason) == (outcome, exit, told)


@pytest.mark.parametrize(
    ("config", "due", "reason"),
    [
        ("until: 2026-02-01, on: friday", "2026-03-05T23:00",
         "2026-02-06 00:00 (ZONE) is past; waits for Friday, until 2026-03-06 00:00 (ZONE)."),
        ("until: 2026-02-01, at: 23:00, within: nights", "2026-03-02T21:00",
         "2026-02-02 23:00 (ZONE) is past; waits for nights to be open, until 2026-03-02 22:00 (ZONE)."),
    ],
)  # fmt: skip
def test_a_date_that_is_past_still_respects_weekday_and_calendar(config: str, due: str, reason: str) -> None:
    transition = waits(config, facts=BERLIN)
    told = reason.replace("ZONE", "Europe/Berlin, the contact's zone")
    assert (transition.enrollment.due_at, transition.trace[1].reason) == (at(due), told)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("until: 2050-01-01", "Waits for 2050-01-01, which takes longer than ten years."),
        ("for: 3000d, counted_in: office", "Waits 3000 days counted in office, which takes longer than ten years."),
    ],
)
def test_a_wait_of_more_than_ten_years_fails(config: str, reason: str) -> None:
    transition = waits(config)
    assert transition.enrollment.state is State.FAILED
    assert (transition.trace[1].outcome, transition.trace[1].reason) == ("failed", reason)


@pytest.mark.parametrize(
    ("head", "facts", "zone", "inputs"),
    [
        ("timezone: Asia/Tokyo\n", known(timezone="Europe/Berlin"), "Europe/Berlin, the contact's zone",
         {"contact.timezone": "Europe/Berlin"}),
        ("timezone: Asia/Tokyo\n", known(timezone="Berlin"), "Asia/Tokyo, the workflow's zone",
         {"workflow.timezone": "Asia/Tokyo"}),
        ("", known(), "UTC, as no zone is set", {}),
    ],
)  # fmt: skip
def test_the_trace_says_which_zone_counted(head: str, facts: Facts, zone: str, inputs: dict[str, str]) -> None:
    entry = begun("at: 09:00", facts=facts, head=head)
    assert f"({zone})" in entry.reason
    assert entry.inputs == inputs


def test_the_trace_carries_the_date_that_was_looked_at() -> None:
    entry = begun('until: "{{ contact.custom.renewal }}", exits: {missing: end}', facts=BERLIN)
    assert entry.inputs == {"contact.custom.renewal": "2026-04-01", "contact.timezone": "Europe/Berlin"}


def test_a_timer_so_late_that_the_calendar_has_closed_waits_for_it_to_open() -> None:
    version = compiled(f"{CALENDARS}steps: [{{id: pause, kind: wait, for: 2d, within: office}}]")
    waiting = entered(version).enrollment
    late = moved(version, waiting, TimerFired(), at("2026-03-04T20:00"))
    assert (late.enrollment.due_at, late.enrollment.waiting) == (at("2026-03-05T09:00"), waiting.waiting)
    assert late.trace[0].reason == (
        "The wait of 2 days, then for office to be open is over, but office has closed since:"
        " waits until 2026-03-05 09:00 (UTC, as no zone is set)."
    )
    after = moved(version, late.enrollment, TimerFired(), at("2026-03-05T09:00"))
    assert after.enrollment.state is State.COMPLETED


def test_a_wait_for_nine_in_a_loop_waits_for_tomorrow() -> None:
    version = compiled("steps: [{id: pause, kind: wait, at: 09:00, next: pause}]")
    first = entered(version, now=START).enrollment
    assert first.due_at == START + DAY
    assert moved(version, first, TimerFired(), START + DAY).enrollment.due_at == START + 2 * DAY


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_days_with_a_time_of_day_do_not_drift_with_late_timers(zone: str) -> None:
    facts, config = known(timezone=zone), "for: 2d, at: 09:00"
    due = waits(config, facts=facts).enrollment.due_at
    assert due is not None
    for late in (timedelta(), timedelta(milliseconds=400), timedelta(hours=3)):
        following = waits(config, due + late, facts).enrollment.due_at
        assert following == due + 2 * DAY


START_OF_DAY = st.sampled_from([None, "for", "until"])
INSTANTS = st.timedeltas(timedelta(), timedelta(days=730)).map(lambda one: START + one)
WEEKDAYS = st.none() | st.lists(st.sampled_from(["mon", "tue", "wed", "thu", "fri"]), min_size=1, unique=True)
CLOCKS = st.none() | st.integers(9 * 60, 17 * 60 - 1).map(lambda minutes: f"{minutes // 60:02}:{minutes % 60:02}")


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the configuration of a wait that can end."""
    config: dict[str, Any] = {}
    match draw(START_OF_DAY):
        case "for":
            config["for"] = draw(st.sampled_from(["5m", "3h", "1d", "2d12h", "1w"]))
            config |= {"counted_in": "office"} if draw(st.booleans()) else {}
        case "until":
            config["until"] = draw(st.dates(START.date(), (START + 1000 * DAY).date())).isoformat()
            config |= {"offset": draw(st.sampled_from(["-7d", "3h", "-1d2h"]))} if draw(st.booleans()) else {}
    config |= {key: value for key, value in (("at", draw(CLOCKS)), ("on", draw(WEEKDAYS))) if value}
    if draw(st.booleans()) or not config:
        config["within"] = "office"
    return config


def due_of(config: dict[str, Any], now: datetime, zone: str) -> datetime:
    """Return when a wait ends; now when it does not wait. When that has come, it is over."""
    text = render({"steps": [{"id": "pause", "kind": "wait", **config}]})
    version = compiled(CALENDARS + text)
    enrollment = entered(version, known(timezone=zone), now=now).enrollment
    if enrollment.due_at is None:
        assert enrollment.state is State.COMPLETED
        return now
    over = moved(version, enrollment, TimerFired(), enrollment.due_at, known(timezone=zone)).enrollment
    assert over.state is State.COMPLETED
    return enrollment.due_at


@given(configs(), INSTANTS, st.sampled_from(ZONES))
def test_a_wait_ends_at_a_time_that_suits_everything(config: dict[str, Any], now: datetime, name: str) -> None:
    due, zone = due_of(config, now, name), Zone(name or "UTC")
    assert due >= now
    local = zone.local(due)
    office = compiled(CALENDARS + "steps: [{id: pause, kind: exit}]").calendars["office"]
    assert config.get("within") is None or is_open(office, due, zone)
    in_gap = zone.local(due - datetime.resolution).utcoffset() != local.utcoffset()
    assert in_gap or "on" not in config or f"{local:%a}".lower() in config["on"]
    if "at" in config and "until" not in config:
        assert in_gap or local.time() == time.fromisoformat(config["at"])
        assert due > now


@given(configs(), INSTANTS, st.timedeltas(timedelta(), 20 * DAY), st.sampled_from(ZONES))
def test_whoever_begins_to_wait_later_does_not_end_earlier(
    config: dict[str, Any], now: datetime, later: timedelta, zone: str
) -> None:
    assert due_of(config, now, zone) <= due_of(config, now + later, zone)
