"""What comes next in a simulation: a heap of instants, and the script that fills it."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Any

from core.domain.trace import Transition
from core.domain.workflow.version import Version
from core.simulation.chance import draw
from core.simulation.people import Person, Running
from core.simulation.script import ENTRY, EVERYBODY, START, ScriptedEvent, follows


class Rank(IntEnum):
    """What may come, in the order in which it does at one instant: as in the engine, events come before timers."""

    TRIGGER = 0
    ENTRY = 1
    EVENT = 2
    ANSWER = 3
    TIMER = 4


class Agenda:
    """Keeps what is to come between the start and the end, and nothing else."""

    def __init__(self, version: Version, script: Sequence[ScriptedEvent], start: datetime, end: datetime, seed: int):
        self.now = start
        self._start, self._end = start, end
        self._script = script
        self._seed = seed
        self._heap: list[tuple[datetime, int, int, Any, Any]] = []
        self._serial = 0
        self._at_entry = follows(script, ENTRY)
        self._after_step = {step: found for step in version.steps if (found := follows(script, step))}

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing more comes."""
        return not self._heap

    def serial(self) -> int:
        """Return a number that nothing else has."""
        self._serial += 1
        return self._serial

    def push(self, at: datetime, rank: int, target: Any, payload: Any) -> None:
        """Let something come; what lies before the start or after the end does not."""
        if self._start <= at <= self._end:
            heapq.heappush(self._heap, (at, rank, self.serial(), target, payload))

    def pop(self) -> tuple[int, Any, Any]:
        """Take what comes next; it is now then."""
        self.now, rank, _, target, payload = heapq.heappop(self._heap)
        return rank, target, payload

    def finish(self) -> None:
        """Let the rest of the time pass."""
        self.now = self._end

    def begin(self, people: Sequence[Person]) -> None:
        """Plan the events of the script that wait for nothing."""
        whose = _by_name(people) if any(one.contact != EVERYBODY for one in self._script) else {}
        for place, one in enumerate(self._script):
            if one.at is None and one.since != START:
                continue
            for person in people if one.contact == EVERYBODY else whose.get(one.contact.lower(), ()):
                self._plan(place, one, person, self._start, "")

    def entered(self, person: Person, occurrence: int) -> None:
        """Plan the events that follow an entry."""
        for place, one in self._at_entry:
            if _is_of(one, person):
                self._plan(place, one, person, self.now, occurrence)

    def moved(self, run: Running, transition: Transition) -> None:
        """Plan the events that follow the steps just carried out, once a visit."""
        if not self._after_step:
            return
        for note in transition.trace:
            step = note.step_id
            if step not in self._after_step:
                continue
            if note.outcome in ("ok", "waiting") and run.followed != step:
                for place, one in self._after_step[step]:
                    if _is_of(one, run.person):
                        self._plan(place, one, run.person, note.at, (step, run.visits(step)))
            run.followed = step if note.outcome == "waiting" else ""

    def _plan(self, place: int, one: ScriptedEvent, person: Person, since: datetime, which: object) -> None:
        """Let an event of the script come in, if chance wants it so."""
        parts = (place, one.name, person.id, which)
        if one.share < 1.0 and draw(self._seed, "share", *parts) >= one.share:
            return
        after = one.after
        later = after.least if after.least == after.most else after.at(draw(self._seed, "when", *parts))
        self.push(since + later if one.at is None else one.at, Rank.EVENT, person, one)


def _names(person: Person) -> frozenset[str]:
    """Return every name that a script may use: id, e-mail, and position such as `#3`."""
    email = str(person.subject.contact.fields.get("email") or "")
    return frozenset({person.id.lower(), email.lower(), f"#{person.index + 1}"} - {""})


def _by_name(people: Sequence[Person]) -> Mapping[str, Sequence[Person]]:
    found: dict[str, list[Person]] = {}
    for person in people:
        for name in _names(person):
            found.setdefault(name, []).append(person)
    return found


def _is_of(one: ScriptedEvent, person: Person) -> bool:
    return one.contact == EVERYBODY or one.contact.lower() in _names(person)
