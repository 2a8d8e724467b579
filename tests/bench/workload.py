"""What the engine is asked to do: the workflows, who stands in them, and when they come due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NURTURE = """
title: Bench nurture
steps:
  - {id: pause, kind: wait, for: 1h}
  - id: size
    kind: branch
    cases: [{name: big, when: contact.employees >= 10}]
    exits: {big: mark, else: mark}
  - {id: mark, kind: update, set: {employees: {cel: contact.employees + 1}, lifecycle_stage: nurtured}}
  - {id: note, kind: log, message: "{{ contact.email }} has {{ contact.employees }} employees", exits: {next: pause}}
"""
"""Moved once an hour, for ever: a wait ends, a branch, an update of the contact, a line in the log, the next wait."""

STEPS_A_MOVE = 4
"""A wait that begins in one move and ends in the next is one step."""

LISTEN = """
title: Bench replies
steps:
  - {id: reply, kind: wait_for_event, event: bench.replied, timeout: 90d, exits: {matched: note, timeout: end}}
  - {id: note, kind: log, message: "{{ contact.email }} replied", exits: {next: reply}}
"""
"""Moved by every event of its contact, for ever."""

SOURCE_ID = "bench"
EVENT = "bench.replied"

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""When everybody is enrolled; measured processes have clocks of their own that begin here."""

FLOOD_AFTER = timedelta(hours=120)
"""After the start a flood comes due, and after it the small organization, group by group."""

BUSY_AFTER = timedelta(hours=144)
"""After the start another flood comes due, which keeps the engine busy while events come in."""

SMALL_GROUP = 10
SMALL_GROUPS = 40
SLEEP = timedelta(days=30)
"""Sleepers are due no earlier than this after the start."""

STILL = timedelta(days=365, microseconds=7)
"""After the start the one is due that the others are copies of; no other instant is like it."""

COPY_DIGITS = 10

SLEEPERS_APART = timedelta(milliseconds=100)


def email(prefix: str, number: int | str) -> str:
    """Return the address of one of a crowd; a crowd's copies have ten digits."""
    return f"{prefix}{number}@example.com"


def copy_of(model_id: str, prefix: str, number: int) -> str:
    """Return the id of a copy: it differs from the model's in its last characters."""
    return f"{model_id[: -COPY_DIGITS - 1]}{prefix}{number:0{COPY_DIGITS}d}"
