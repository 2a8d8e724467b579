"""A wait looks again: when its time has come, and when the date changes that it waits for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from core.domain import machine
from core.domain.enrollment import EventArrived, EventFacts, Facts, State, TimerFired
from core.domain.records.changes import Change
from core.domain.workflow.record_changes import ChangedRecord
from tests.domain.machine_cases import DAY, HOUR, START, compiled, entered, known, moved, settled

OFFICE = "calendars: {office: {hours: 09:00-17:00, holidays: DE}}\n"
DATE = """
calendars: {office: {hours: 09:00-17:00, timezone: Europe/Berlin}}
steps:
  - id: pause
    kind: wait
    until: "{{ contact.custom.renewal }}"
    offset: -30d
    at: 09:00
    exits: {missing: none, past: late}
  - {id: done, kind: exit, reason: done}
  - {id: none, kind: exit, reason: none}
  - {id: late, kind: exit, reason: late}
"""
ZONE = "Europe/Berlin, the contact's zone"
CHANGED = "The date has changed: waits for 30 days before contact.custom.renewal, then for 09:00,"
GONE, AGAIN = "contact.custom.renewal is not known.", f"Looks again at 2026-04-01 09:00 ({ZONE})."


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def renews(day: str | None, zone: str = "Europe/Berlin") -> Facts:
    return known(timezone=zone, custom={"renewal": day} if day else {})


def change_of(record_type: str, *fields: str) -> EventArrived:
    """Return the stimulus that tells of changed fields."""
    changes = tuple(Change(one, "old", "new") for one in fields)
    told = ChangedRecord(record_type, "cnt_1", False, changes).to_fields()
    return EventArrived(EventFacts("evt_1", f"$record.{record_type}", "record", told, START, START))


@pytest.mark.parametrize(
    ("day", "zone", "then", "reason"),
    [
        ("2026-06-01", "Europe/Berlin", "2026-05-02T07:00",
         f"{CHANGED} until 2026-05-02 09:00 ({ZONE}), not until 2026-04-01 09:00 ({ZONE})."),
        ("2026-05-01", "America/New_York", "2026-04-01T13:00",
         f"{CHANGED} until 2026-04-01 09:00 (America/New_York, the contact's zone),"
         " not until 2026-04-01 03:00 (America/New_York, the contact's zone)."),
        ("2026-04-15", "Europe/Berlin", State.EXITED, "done"),
        (None, "Europe/Berlin", State.EXITED, "none"),
        ("01.06.2026", "Europe/Berlin", State.FAILED, "The date could not be made: '01.06.2026' is not a date."),
        ("2050-01-01", "Europe/Berlin", State.FAILED, None),
    ],
)  # fmt: skip
def test_a_date_is_computed_again_when_its_time_has_come(
    day: str | None, zone: str, then: Any, reason: str | None
) -> None:
    version = compiled(DATE)
    waiting = entered(version, renews("2026-05-01")).enrollment
    assert waiting.due_at == at("2026-04-01T07:00")
    after = moved(version, waiting, TimerFired(), waiting.due_at, renews(day, zone))
    if isinstance(then, State):
        assert after.enrollment.state is then
        assert (after.enrollment.state, reason) in (settled(after), (then, None))
    else:
        assert (after.enrollment.due_at, after.trace[0].reason, after.enrollment.waiting) == (
            at(then),
            reason,
            waiting.waiting,
        )


@pytest.mark.parametrize(
    ("day", "change", "then"),
    [
        ("2026-04-15", change_of("contact", "custom.renewal"), "2026-03-16T08:00"),  # earlier: it is woken for it
        ("2026-06-01", change_of("contact", "email", "custom.renewal"), "2026-05-02T07:00"),
        ("2026-06-01", change_of("contact", "custom"), "2026-05-02T07:00"),
        ("2026-06-01", change_of("contact", "first_name"), None),  # nothing that it looks at
        ("2026-06-01", change_of("lead", "custom.renewal"), None),
        ("2026-05-01", change_of("contact", "custom.renewal"), None),
        (None, change_of("contact", "custom.renewal"), f"There is no date by now: {GONE} {AGAIN}"),  # it may come back
        ("soon", change_of("contact", "custom.renewal"), f"The date could not be made: 'soon' is not a date. {AGAIN}"),
        ("2026-03-20", change_of("contact", "custom.renewal"), (State.EXITED, "late")),
    ],
)
def test_a_date_that_changes_moves_the_wait_at_once(day: str | None, change: EventArrived, then: Any) -> None:
    version = compiled(DATE)
    waiting = entered(version, renews("2026-05-01")).enrollment
    after = machine.advance(version, waiting, change, renews(day), START + DAY)
    if isinstance(then, tuple):
        assert after is not None
        assert settled(after) == then
    elif then is not None and " " in then:
        assert after is not None
        assert (after.enrollment.due_at, after.trace[0].reason) == (waiting.due_at, then)
    else:
        due = None if after is None else after.enrollment.due_at
        assert due == (None if then is None else at(then))


def test_a_wait_for_a_date_of_its_own_beginning_ends() -> None:
    version = compiled("steps: [{id: pause, kind: wait, until: {cel: 'now + duration(\"48h\")'}}]")
    waiting = entered(version).enrollment
    assert moved(version, waiting, TimerFired(), START + 2 * DAY).enrollment.state is State.COMPLETED


@pytest.mark.parametrize(
    ("config", "due", "zone", "then"),
    [
        ("for: 2d, at: 09:00", "2026-03-04T08:00", "America/Los_Angeles", "2026-03-04T17:00"),
        ("for: 2d, at: 09:00", "2026-03-04T08:00", "Europe/Berlin", None),
        ("for: 2d, at: 09:00", "2026-03-04T22:00", "Europe/Berlin", "2026-03-05T08:00"),
        ("on: friday", "2026-03-07T04:00", "Europe/Berlin", "2026-03-12T23:00"),
        ("for: 2d", "2026-03-04T22:00", "Europe/Berlin", None),
        ("for: 1d, counted_in: office", "2026-03-04T22:00", "Europe/Berlin", None),
    ],
)
def test_a_wait_for_a_local_time_ends_at_that_time_of_where_the_contact_is_by_then(
    config: str, due: str, zone: str, then: str | None
) -> None:
    version = compiled(f"{OFFICE}steps: [{{id: pause, kind: wait, {config}}}]")
    waiting = replace(entered(version, known(timezone="Europe/Berlin")).enrollment, due_at=at(due))
    after = moved(version, waiting, TimerFired(), at(due), known(timezone=zone)).enrollment
    assert after.due_at == (None if then is None else at(then))
    if then is not None:
        late = replace(waiting, shifted=14 * HOUR)  # the same, after a pause
        (entry,) = moved(version, late, TimerFired(), at(due), known(timezone=zone)).trace
        assert "is over, 14 hours later because of a pause, but by now it may end at 2026-03-" in entry.reason
        done = moved(version, after, TimerFired(), at(then), known(timezone=zone)).enrollment
        assert done.state is State.COMPLETED
