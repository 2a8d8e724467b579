"""Who is behind what workflows do by themselves: the principal that brought the event, however many led to it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from core.domain import names
from core.store.events.events import events
from core.store.metadata import day_of
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments

_FURTHEST = 64
"""More than an event and an enrollment for each workflow in a row that the matcher follows."""
_EVENT, _ENROLLMENT = "event:", "enrollment:"


async def of(tx: Transaction, actors: Iterable[str]) -> dict[str, str]:
    """Return for each actor who is behind it: itself, where nothing led to it or that is not kept any more."""
    found = {actor: actor for actor in actors}
    for _ in range(_FURTHEST):
        before = await _before(tx, {actor for actor in found.values() if actor.startswith((_EVENT, _ENROLLMENT))})
        if not before:
            break
        found = {actor: before.get(behind, behind) for actor, behind in found.items()}
    return found


async def _before(tx: Transaction, causes: set[str]) -> dict[str, str]:
    before: dict[str, str] = {}
    brought = sorted(cause.removeprefix(_EVENT) for cause in causes if cause.startswith(_EVENT))
    if brought:
        days = {day_of(names.minted_at(event_id)) for event_id in brought}
        which = (events.c.id.in_(brought), events.c.day.in_(sorted(days)), events.c.actor != "")
        before |= {
            _EVENT + row.id: row.actor for row in await tx.all(select(events.c.id, events.c.actor).where(*which))
        }
    entered = sorted(cause.removeprefix(_ENROLLMENT) for cause in causes if cause.startswith(_ENROLLMENT))
    if entered:
        rows = await tx.all(select(enrollments.c.id, enrollments.c.actor).where(enrollments.c.id.in_(entered)))
        before |= {_ENROLLMENT + row.id: row.actor for row in rows}
    return before
