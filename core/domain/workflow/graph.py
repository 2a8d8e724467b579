"""What must hold of the graph of steps: every target exists, every step is reachable, every loop waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from graphlib import CycleError, TopologicalSorter

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.steps.way_shapes import ERROR
from core.domain.workflow.document import END

_MOST_GUESSED = 20
"""Wrong targets for which a step of a similar name is looked for: to compare names takes longer than all the rest."""
_LONGEST_ID = 63


@frozen
class Place:
    """A step as far as the graph is concerned."""

    path: str
    """Where it stands in the document, such as `steps[3]`."""
    id: str
    exits: Mapping[str, str]
    """Exit to target, all of them."""
    written: frozenset[str]
    """The exits whose target the author wrote."""
    holds: bool
    """It holds an enrollment."""
    hasty: frozenset[str] = frozenset()
    """Exits that it takes without holding, although it can hold: where a failure leads to."""
    perhaps: Mapping[str, str] = field(default_factory=dict)
    """Exit to target where else it may lead: it has no such exit, or what exits it has cannot be told."""


def problems(places: Sequence[Place], known: Iterable[str]) -> list[Violation]:
    """Return what is wrong with a graph; the first place is the entry, `known` are all ids of the document."""
    ids = frozenset(known)
    found = list(_bad_targets(places, ids))
    graph = {place.id: place for place in places}
    if len(graph) < len(places):
        return found
    unreachable = () if found else _unreachable(places, graph)  # a target at fault may be meant for whatever is not
    return [*found, *unreachable, *_busy_loops(places, graph)]


def _bad_targets(places: Sequence[Place], ids: frozenset[str]) -> Iterable[Violation]:
    guesses: dict[str, str] = {}
    for place in places:
        for name, target in {**place.perhaps, **place.exits}.items():
            if name not in place.written or target == END or target in ids:
                continue
            where, others = ("on_error", ("fail", "continue")) if name == ERROR else (f"exits.{name}", ())
            if target not in guesses:
                several = len(guesses) >= _MOST_GUESSED
                guesses[target] = "" if several else did_you_mean(target[:_LONGEST_ID], [*sorted(ids), END, *others])
            hint = guesses[target] or f"Name a step, or {', '.join((END, *others))}."
            yield Violation(f"{place.path}.{where}", "UNKNOWN_TARGET", f"there is no step {target}", hint)


def _unreachable(places: Sequence[Place], graph: Mapping[str, Place]) -> Iterable[Violation]:
    reached: set[str] = set()
    ahead = [places[0].id] if places else []
    while ahead:
        step = ahead.pop()
        if step not in reached and step in graph:
            reached.add(step)
            ahead += {*graph[step].exits.values(), *graph[step].perhaps.values()}
    for place in places:
        if place.id not in reached:
            hint = "Lead an exit to it, or remove it."
            yield Violation(place.path, "UNREACHABLE_STEP", f"no way leads to {place.id}", hint)


def _busy_loops(places: Sequence[Place], graph: Mapping[str, Place]) -> Iterable[Violation]:
    """Report loops in which no step holds the enrollment: it would run for ever without a pause.

    Each step is told of in one loop at most. All loops would be more than anybody could count: every branch on the way
    doubles them.
    """
    order = {place.id: number for number, place in enumerate(places)}
    busy = {
        place.id: {t for name, t in place.exits.items() if t in graph and (not place.holds or name in place.hasty)}
        for place in places
    }
    while loop := _loop(busy):
        first = loop.index(min(loop, key=order.__getitem__))
        way = [*loop[first:], *loop[:first], loop[first]]
        hint = "Put a wait, a wait_for_event or an approval into the loop."
        message = f"the loop {' → '.join(way)} never waits"
        yield Violation(graph[way[0]].path, "LOOP_WITHOUT_WAIT", message, hint)
        for step in loop:
            del busy[step]


def _loop(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the steps of a loop in their order, or none, in one walk over the graph."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]  # the first stands at the end as well, and each leads to the one before it
        return found[:0:-1]
    return []
