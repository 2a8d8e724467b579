"""What a schedule or a pool would do about a contact and when, as things stand: told from stored facts alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from core.domain.enrollment import Facts
from core.domain.frozen import frozen
from core.domain.workflow import audiences
from core.domain.workflow.trigger_kinds import PoolTrigger, Timed
from core.domain.workflow.why_not import TimedLook
from core.domain.workflow.zones import Zone

MOST_ROUNDS = 400
"""How far ahead the day is worked out on which a pool comes to somebody."""


@frozen
class InLine:
    """How a trigger stands, and a contact before it."""

    next_at: datetime | None
    """When it comes round next; None where it never does."""
    zone: Zone
    """By whose clock it goes."""
    before: int | None = 0
    """How many a pool takes earlier; None where the contact is not of the audience."""
    at_least: bool = False
    """There may be more of them."""
    taken: int = 0
    """How many it has taken of the round that is under way."""
    was_in: bool = False
    """The contact has been in the workflow before."""
    done: str = ""
    """What it did last, or what a pause keeps of it, in a sentence."""


def timed_look(position: int, trigger: Timed, facts: Facts, line: InLine) -> TimedLook:
    """Return what a trigger that fires by time would do about a contact, and what it did last."""
    look = _look(position, trigger, facts, line)
    return replace(look, sentence=f"{look.sentence}. {line.done}") if line.done else look


def fired(at: datetime, taken: int, zone: Zone) -> str:
    """Return what a trigger did last, as a sentence without its end."""
    return f"It came round last on {_spoken(at, zone)} and enrolled {taken:,}"


def left_out(at: datetime, count: int, zone: Zone) -> str:
    """Return what a resumption left out, as a sentence without its end."""
    return f"It came round {_often(count)} in a pause, last on {_spoken(at, zone)}, which the resumption left out"


def missed(at: datetime, count: int, zone: Zone) -> str:
    """Return what came round in a pause that is not over, as a sentence without its end."""
    return f"It came round {_often(count)} in this pause, last on {_spoken(at, zone)}; resuming says what becomes of it"


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _look(position: int, trigger: Timed, facts: Facts, line: InLine) -> TimedLook:
    fits = line.before is not None
    why, inputs = audiences.tell(trigger.audience, facts, fits=fits)
    is_pool = isinstance(trigger, PoolTrigger)
    name = (
        f"the pool of {trigger.per_day} a day" if isinstance(trigger, PoolTrigger) else f"the schedule {trigger.cron}"
    )
    if line.next_at is None:
        return TimedLook(position, False, f"{name} comes round no more", inputs)
    inputs |= {"trigger.next_time": line.next_at.isoformat()}
    if is_pool and line.was_in:
        told = f"{name} takes nobody who has been in the workflow, and it has"
        return TimedLook(position, False, told, inputs)
    if line.before is None:
        told = f"{name}, which comes round next on {_spoken(line.next_at, line.zone)}, does not take it: {why}"
        return TimedLook(position, False, told, inputs)
    if not isinstance(trigger, PoolTrigger):
        return TimedLook(position, True, f"{name} takes it on {_spoken(line.next_at, line.zone)}: {why}", inputs)
    inputs |= {"trigger.before": line.before}
    return TimedLook(position, True, f"{name} has it in line: {_turn(trigger, line)}; {why}", inputs)


def _turn(trigger: PoolTrigger, line: InLine) -> str:
    """Return when it is a contact's turn: no later than this, as who may not enter takes nobody's place."""
    before = line.before or 0
    many = f"{'at least ' if line.at_least else ''}{before:,}"
    ahead = "it is the next" if not before else f"{many} {'contact is' if before == 1 else 'contacts are'} before it"
    rounds = (before + line.taken) // trigger.per_day
    if line.at_least or rounds > MOST_ROUNDS or line.next_at is None:
        return ahead
    at = line.next_at
    for _ in range(rounds):
        at = trigger.next_after(at, line.zone)
    return f"{ahead}, and its turn is on {_spoken(at, line.zone)} at the latest"


def _spoken(instant: datetime, zone: Zone) -> str:
    return f"{zone.local(instant):%A %Y-%m-%d %H:%M} ({zone.name})"
