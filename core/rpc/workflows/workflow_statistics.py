"""Handler of WorkflowService: how contacts went through a workflow, from counts that are kept as it happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta

from core.domain.errors import NotFound
from core.domain.intervals import difference, wilson
from core.domain.workflow.version import Node, Version
from core.rpc.call import Call
from core.store.workflows import statistics, workflows
from core.store.workflows.statistics import (
    CONVERTED,
    DRAWN,
    GAPS,
    GOAL,
    SENT,
    STANDING,
    STATE,
    UNDELIVERED,
    UNSENT,
    Figure,
)
from dripstone.v1 import workflow_pb2 as pb

_FINAL = ("ok", "skipped", "failed", "ended")


async def get_workflow_statistics(request: pb.GetWorkflowStatisticsRequest, call: Call) -> pb.WorkflowStatistics:
    """Return counts, rates and times step by step, and what came of splits. Raises NotFound."""
    row = await workflows.get(call.tx, request.workflow_id)
    if row is None:
        raise NotFound(kind="workflow", id=request.workflow_id)
    number = request.version or row.published_version
    version = None
    if number:
        version = await call.parts.versions.load(call.tx, call.caller.org_id, row.id, number)
    every = await statistics.figures(call.tx, call.caller.org_id, row.id)
    figures = [figure for figure in every if not request.version or figure.version == request.version]
    states = _sum(figures, STATE)
    return pb.WorkflowStatistics(
        workflow_id=row.id,
        version=request.version,
        entered_count=sum(states.values()),
        states={state: count for state, count in states.items() if count},
        goals={goal: count for goal, count in _sum(figures, GOAL).items() if count},
        steps=[_step(step_id, figures, version) for step_id in _step_ids(figures, version)],
        splits=[_split(node.id, node.step.its_exits(), figures) for node in _splits(version)],
    )


def _sum(figures: Iterable[Figure], outcome: str, step_id: str | None = None) -> Counter[str]:
    counts: Counter[str] = Counter()
    for figure in figures:
        if figure.outcome == outcome and step_id in (None, figure.step_id):
            counts[figure.exit] += figure.count
    return counts


def _step_ids(figures: Iterable[Figure], version: Version | None) -> list[str]:
    """Return the steps in document order, then those that only older versions have."""
    known = list(version.steps) if version is not None else []
    return list(dict.fromkeys([*known, *sorted({figure.step_id for figure in figures if figure.step_id})]))


def _splits(version: Version | None) -> list[Node]:
    return [node for node in version.steps.values() if node.step.kind == "split"] if version is not None else []


def _step(step_id: str, figures: Sequence[Figure], version: Version | None) -> pb.StepStatistics:
    outcomes: Counter[str] = Counter()
    exits: Counter[str] = Counter()
    stood = timedelta()
    node = version.steps.get(step_id) if version is not None else None
    for figure in figures:
        if figure.step_id != step_id:
            continue
        if figure.outcome in _FINAL:
            outcomes[figure.outcome] += figure.count
            stood += figure.stood
            if figure.exit:
                exits[figure.exit] += figure.count
    total = sum(outcomes.values())
    messages = {
        what: count for what in (SENT, UNDELIVERED, UNSENT) if (count := sum(_sum(figures, what, step_id).values()))
    }
    # The step was ok when it wrote the message; what became of it is known by now.
    for what, outcome in ((UNDELIVERED, "failed"), (UNSENT, "skipped")):
        late = min(messages.get(what, 0), outcomes["ok"])
        outcomes["ok"] -= late
        outcomes[outcome] += late
    return pb.StepStatistics(
        step_id=step_id,
        kind=node.step.kind if node is not None else "",
        outcome_count=total,
        outcomes={outcome: count for outcome, count in outcomes.items() if count},
        messages=messages,
        gaps_count=sum(_sum(figures, GAPS, step_id).values()),
        exits=exits,
        held_count=sum(_sum(figures, "held", step_id).values()),
        standing_count=sum(_sum(figures, STANDING, step_id).values()),
        failure_rate=outcomes["failed"] / total if total else 0.0,
        mean_seconds=stood.total_seconds() / total if total else 0.0,
    )


def _split(step_id: str, ways: Sequence[str], figures: Sequence[Figure]) -> pb.SplitStatistics:
    # Below nothing where somebody came from a version in which the split did not count, and has gone on to another.
    entered = Counter({way: max(number, 0) for way, number in _sum(figures, DRAWN, step_id).items()})
    converted = Counter({way: max(number, 0) for way, number in _sum(figures, CONVERTED, step_id).items()})
    shares = {way: wilson(min(converted[way], entered[way]), entered[way]) for way in ways}
    answers = []
    for way in ways:
        share, lift = shares[way], difference(shares[way], shares[ways[0]])
        is_base = way == ways[0]
        answers.append(
            pb.WayStatistics(
                way=way,
                entered_count=entered[way],
                converted_count=converted[way],
                rate=share.value,
                rate_low=share.low,
                rate_high=share.high,
                lift=0.0 if is_base else lift.value,
                lift_low=0.0 if is_base else lift.low,
                lift_high=0.0 if is_base else lift.high,
                significant=not is_base and (lift.low > 0 or lift.high < 0),
            )
        )
    return pb.SplitStatistics(step_id=step_id, ways=answers)
