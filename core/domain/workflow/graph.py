"""What must hold of the graph of steps: every target exists, every step is reachable, every loop waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.steps.way_shapes import ERROR
from core.domain.workflow.document import END


@dataclass(frozen=True, slots=True)
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


def problems(places: Sequence[Place], known: Iterable[str]) -> list[Violation]:
    """Return what is wrong with a graph; the first place is the entry, `known` are all ids of the document."""
    ids = list(known)
    found = [problem for place in places for problem in _bad_targets(place, ids)]
    graph = {place.id: place for place in places}
    if found or len(graph) < len(places):
        return found  # what can be reached is not known before the targets are
    return [*_unreachable(places, graph), *_busy_loops(places, graph)]


def _bad_targets(place: Place, ids: list[str]) -> Iterable[Violation]:
    for name, target in place.exits.items():
        if name in place.written and target != END and target not in ids:
            where, others = ("on_error", ("fail", "continue")) if name == ERROR else (f"exits.{name}", ())
            hint = did_you_mean(target, [*ids, END, *others]) or f"Name a step, or {', '.join((END, *others))}."
            yield Violation(f"{place.path}.{where}", "UNKNOWN_TARGET", f"there is no step {target}", hint)


def _unreachable(places: Sequence[Place], graph: Mapping[str, Place]) -> Iterable[Violation]:
    reached: set[str] = set()
    ahead = [places[0].id] if places else []
    while ahead:
        step = ahead.pop()
        if step not in reached and step in graph:
            reached.add(step)
            ahead += graph[step].exits.values()
    for place in places:
        if place.id not in reached:
            hint = "Lead an exit to it, or remove it."
            yield Violation(place.path, "UNREACHABLE_STEP", f"no way leads to {place.id}", hint)


def _busy_loops(places: Sequence[Place], graph: Mapping[str, Place]) -> Iterable[Violation]:
    """Report each loop in which no step holds the enrollment: it would run for ever without a pause."""
    busy = {
        place.id: [t for name, t in place.exits.items() if t in graph and (not place.holds or name in place.hasty)]
        for place in places
        if not place.holds or place.hasty
    }
    done: set[str] = set()
    for start in busy:
        path: list[str] = []
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            step, depth = stack.pop()
            del path[depth:]
            if step in path:
                loop = path[path.index(step) :]
                way = " → ".join([*loop, step])
                hint = "Put a wait, a wait_for_event or an approval into the loop."
                yield Violation(graph[step].path, "LOOP_WITHOUT_WAIT", f"the loop {way} never waits", hint)
            elif step in busy and step not in done:
                path.append(step)
                stack += [(target, len(path)) for target in busy[step]]
        done |= _closure(start, busy)


def _closure(start: str, edges: Mapping[str, Sequence[str]]) -> set[str]:
    reached: set[str] = set()
    ahead = [start]
    while ahead:
        step = ahead.pop()
        if step not in reached and step in edges:
            reached.add(step)
            ahead += edges[step]
    return reached
