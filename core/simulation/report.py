"""From what was counted to the result, with the warnings that a second look would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from core.domain.enrollment import State
from core.domain.workflow.advice import advise
from core.domain.workflow.version import Version
from core.simulation.outside import Outside
from core.simulation.people import MOST_MOVES, Person, Running
from core.simulation.result import ACTIVE, EXCLUDED, Journey, Simulation, Timeline
from core.simulation.tally import Tally


def report(
    version: Version,
    people: Sequence[Person],
    tally: Tally,
    outside: Outside,
    start: datetime,
    end: datetime,
    timelines: int,
) -> Simulation:
    """Return what a simulation found."""
    runs = [run for person in people for run in person.enrolled]
    standing = Counter(run.enrollment.step_id for run in runs if not run.enrollment.state.over)
    states = Counter(_state(run) for run in runs)
    return Simulation(
        start=start,
        end=end,
        title=version.title or version.workflow_id,
        entering="triggers" if tally.by_triggers else "start",
        contacts=len(people),
        admitted=sum(bool(person.enrolled) for person in people),
        enrollments=len(runs),
        transitions=tally.transitions,
        states=dict(sorted(states.items())),
        ends=dict(Counter(run.enrollment.end_reason for run in runs if run.enrollment.state.over).most_common(50)),
        funnel=tally.funnel(standing),
        messages=tally.by_day(),
        webhooks=dict(sorted(tally.webhooks.items())),
        emitted=dict(sorted(tally.emitted.items())),
        handed_over=dict(sorted(outside.handed_over.items())),
        exclusions=tally.exclusions(people),
        refused_reentries=tally.refused_reentries(),
        goals=tally.goals(),
        variants=tally.variants(),
        journeys=tuple(_journey(person, tally) for person in people),
        timelines=tuple(_timelines(people[:timelines], tally)),
        warnings=tuple(_warnings(version, people, runs, tally, outside)),
    )


def _state(run: Running) -> str:
    return run.enrollment.state.value if run.enrollment.state.over else ACTIVE


def _journey(person: Person, tally: Tally) -> Journey:
    label, contact_id = person.subject.label, person.id
    if not person.enrolled:
        return Journey(label, contact_id, EXCLUDED, "", _why_out(person, tally), 0, ())
    last = person.enrolled[-1]
    turns = tuple(turn for run in person.enrolled for turn in run.turns)
    about = (_state(last), last.enrollment.step_id, last.enrollment.end_reason)
    return Journey(label, contact_id, *about, len(person.enrolled), turns)


def _timelines(people: Iterable[Person], tally: Tally) -> Iterable[Timeline]:
    for person in people:
        label = person.subject.label
        if not person.enrolled:
            yield Timeline(label, EXCLUDED, "", _why_out(person, tally), ())
        for run in person.enrolled:
            enrollment = run.enrollment
            yield Timeline(label, _state(run), enrollment.step_id, enrollment.end_reason, tuple(run.entries or ()))


def _why_out(person: Person, tally: Tally) -> str:
    return person.kept_out or ("No trigger fired for this contact." if tally.by_triggers else "")


def _warnings(
    version: Version, people: Sequence[Person], runs: Sequence[Running], tally: Tally, outside: Outside
) -> Iterable[str]:
    yield from tally.notes
    for advice in advise(version):
        yield f"{advice.field}: {advice.message}. {advice.hint}"
    if not runs:
        yield "Nobody entered; the exclusions say why." if people else "There are no contacts."
        return
    unreached = [step.node.id for step in tally.steps.values() if not step.entered]
    if unreached:
        yield f"Nobody came to {_named(unreached)}."
    stuck: Counter[str] = Counter()
    for run in runs:
        enrollment = run.enrollment
        if not enrollment.state.over and enrollment.due_at is None:
            stuck[enrollment.step_id] += 1
    for step, count in stuck.most_common():
        node = version.steps.get(step)
        kind = f" ({node.step.kind})" if node else ""
        stand = "stands" if count == 1 else "stand"
        yield f"{_people(count)} {stand} at {step}{kind} without a deadline; give it a timeout."
    failed = sum(run.enrollment.state is State.FAILED for run in runs)
    if failed:
        reasons = Counter(run.enrollment.end_reason for run in runs if run.enrollment.state is State.FAILED)
        reason, _ = reasons.most_common(1)[0]
        yield f"{_people(failed)} failed; the commonest reason: {reason}"
    for step, gaps in tally.gaps.items():
        (commonest, _), count = gaps.most_common(1)[0], gaps.total()
        would = "1 message would go" if count == 1 else f"{count:,} messages would go"
        yield f"{would} out at {step} with gaps, most often: {'; '.join(commonest)}. Write a default, or when_empty."
    if tally.tripped:
        yield f"The circuit breaker would have paused the workflow at {tally.tripped}. The simulation went on."
    if tally.out_of_leads is not None:
        yield f"The pool has had nobody left since {tally.out_of_leads:%Y-%m-%d %H:%M} UTC."
    yield from _not_assumed(outside)
    endless = sum(run.moves >= MOST_MOVES for run in runs)
    if endless:
        yield f"{_people(endless)} went round so often that the simulation left them where they stood."


def _not_assumed(outside: Outside) -> Iterable[str]:
    """Yield where somebody outside was asked, and no assumption says what they would answer."""
    for step, count in outside.unknown.most_common():
        yield f"{_people(count)} could not be qualified at {step}: assume what the model decides, under qualify."
    for step, count in outside.unanswered.most_common():
        yield f"{_people(count)} got no answer at {step} that fits its schema: assume one, under steps."


def _people(count: int) -> str:
    return "1 enrollment" if count == 1 else f"{count:,} enrollments"


def _named(steps: Sequence[str]) -> str:
    if len(steps) == 1:
        return steps[0]
    return f"{', '.join(steps[:-1])} and {steps[-1]}"
