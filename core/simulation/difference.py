"""Two simulations side by side: who goes another way, and what that makes of the numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import zip_longest

from core.domain.frozen import frozen
from core.simulation.result import Journey, Simulation, Turn

_MOST_NAMED = 50


@frozen
class Divergence:
    """A contact that goes another way, and where the ways part."""

    contact: str
    after: str
    """The last step that both have in common; empty where they part at the entry."""
    here: str
    """What comes next here: a step and its exit, or how it ended."""
    there: str


@frozen
class Difference:
    """One simulation minus another one."""

    same: int
    """Contacts that go the same way in both."""
    changed: int
    contacts: tuple[Divergence, ...]
    """Some of those that do not."""
    entered: Mapping[str, int]
    """Visits by step, here minus there; steps without a difference are left out."""
    messages: Mapping[str, int]
    """Messages by channel, here minus there."""
    states: Mapping[str, int]
    """Enrollments by how they ended, here minus there."""
    goals: Mapping[str, int]


def diff(here: Simulation, there: Simulation) -> Difference:
    """Return what differs between two simulations of the same contacts."""
    others = {journey.contact_id: journey for journey in there.journeys}
    pairs = [(one, others[one.contact_id]) for one in here.journeys if one.contact_id in others]
    parted = [found for one, other in pairs if (found := _divergence(one, other)) is not None]
    return Difference(
        len(pairs) - len(parted),
        len(parted),
        tuple(parted[:_MOST_NAMED]),
        _minus({one.step_id: one.entered for one in here.funnel}, {one.step_id: one.entered for one in there.funnel}),
        _minus(_by_channel(here), _by_channel(there)),
        _minus(here.states, there.states),
        _minus(here.goals, there.goals),
    )


def _divergence(here: Journey, there: Journey) -> Divergence | None:
    if here.turns == there.turns and (here.state, here.step_id) == (there.state, there.step_id):
        return None
    after = ""
    for one, other in zip_longest(here.turns, there.turns):
        if one != other:
            return Divergence(here.contact, after, _told(one, here), _told(other, there))
        after = one[0]
    return Divergence(here.contact, after, _told(None, here), _told(None, there))


def _told(turn: Turn | None, journey: Journey) -> str:
    if turn is None:
        return f"{journey.state} at {journey.step_id}" if journey.step_id else journey.state
    return f"{turn[0]}: {turn[1]}"


def _by_channel(simulation: Simulation) -> Counter[str]:
    counts: Counter[str] = Counter()
    for one in simulation.messages:
        counts[one.channel] += one.count
    return counts


def _minus(here: Mapping[str, int], there: Mapping[str, int]) -> dict[str, int]:
    names = dict.fromkeys([*here, *there])
    return {name: by for name in names if (by := here.get(name, 0) - there.get(name, 0))}
