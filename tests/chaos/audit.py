"""What must hold of the rows of any organization, whatever happened to it: checked from the outside, row by row.

`audit` returns one sentence for everything that is wrong; nothing is repaired, and nothing of the engine is called but
the compiler, which says where the exits of a version lead. The organization has an endpoint for every type.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Table, select

from core.domain.trace import OUTCOME
from core.domain.workflow.compile import compile_document
from core.domain.workflow.version import Version
from core.store.control.approvals import approvals
from core.store.database import Database
from core.store.messages.outgoing import outgoing_messages
from core.store.transaction import Transaction
from core.store.webhooks.deliveries import deliveries, messages
from core.store.workflows import statistics
from core.store.workflows.dead_letters import dead_letters
from core.store.workflows.enrollments import enrollments, trace_entries
from core.store.workflows.workflows import workflow_versions, workflows
from tests.chaos.way import RUNNING, fails, wrong_turns


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything that an organization has, as it lies in its tables."""

    now: datetime
    enrollments: Sequence[Any]
    traces: Mapping[str, Sequence[Any]]
    """By enrollment, in order."""
    versions: Mapping[tuple[str, int], Version]
    paused: frozenset[str]
    messages: Sequence[Any]
    deliveries: Sequence[Any]
    outgoing: Sequence[Any]
    approvals: Sequence[Any]
    letters: Sequence[Any]
    figures: Mapping[tuple[str, str, str, str, int], int]
    """Counts by workflow, step, outcome, exit, and version; 0 where the version is not told apart."""
    settled: bool = True
    """Every loop has turned until nothing was left to do."""
    by_id: Mapping[str, Any] = field(default_factory=dict)


async def rows(database: Database, org_id: str, *, settled: bool = True) -> Rows:
    """Read everything in one transaction."""
    async with database.read(org_id) as tx:
        return await rows_within(tx, settled=settled)


async def rows_within(tx: Transaction, *, settled: bool = True) -> Rows:
    """Read everything of a transaction's organization."""

    async def every(table: Table) -> Sequence[Any]:
        return await tx.all(select(table).order_by(*table.primary_key.columns))

    traces = defaultdict(list)
    for entry in await every(trace_entries):
        traces[entry.enrollment_id].append(entry)
    versions = {
        (row.workflow_id, row.version): _compiled(row.workflow_id, row.version, json.dumps(row.document))
        for row in await every(workflow_versions)
    }
    found = await every(workflows)
    figures: Counter[tuple[str, str, str, str, int]] = Counter()
    for workflow in found:
        for one in await statistics.figures(tx, tx.org_id, workflow.id):
            told = one.version if one.outcome in (statistics.STATE, statistics.STANDING) else 0
            figures[workflow.id, one.step_id, one.outcome, one.exit, told] += one.count
    there = await every(enrollments)
    return Rows(
        now=tx.now,
        enrollments=there,
        traces={key: sorted(some, key=lambda entry: entry.seq) for key, some in traces.items()},
        versions=versions,
        paused=frozenset(row.id for row in found if row.state == "paused"),
        messages=await every(messages),
        deliveries=await every(deliveries),
        outgoing=await every(outgoing_messages),
        approvals=await every(approvals),
        letters=await every(dead_letters),
        figures={key: count for key, count in figures.items() if count},
        settled=settled,
        by_id={row.id: row for row in there},
    )


@cache
def _compiled(workflow_id: str, number: int, document: str) -> Version:
    version = compile_document(json.loads(document), workflow_id=workflow_id, number=number).version
    assert version is not None
    return version


def audit(found: Rows) -> list[str]:
    """Return what is wrong, a sentence each."""
    return [
        *_identities(found),
        *_rows(found),
        *_ways(found),
        *_messages(found),
        *_approvals(found),
        *_letters(found),
        *_statistics(found),
    ]


def _identities(found: Rows) -> Iterator[str]:
    """Nobody is there twice: times under one key count from 1, and only the last may still run."""
    same: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for row in found.enrollments:
        same[row.workflow_id, row.contact_id, row.key].append(row)
    for identity, some in same.items():
        some.sort(key=lambda row: row.occurrence)
        if [row.occurrence for row in some] != list(range(1, len(some) + 1)):
            yield f"{identity} has the occurrences {[row.occurrence for row in some]}"
        if any(row.state in RUNNING for row in some[:-1]):
            yield f"{identity} runs although it has entered again"


def _rows(found: Rows) -> Iterator[str]:
    """Whoever runs is waited for by somebody: a timer, an event, an outcome, or the end of a pause."""
    for row in found.enrollments:
        paused = row.workflow_id in found.paused
        told = f"{row.id} ({row.state} at {row.step_id})"
        if row.state not in RUNNING:
            if (row.wait_kind, row.due_at, row.deadline, row.parked) != (None, None, None, None):
                yield f"{told} is over and still waits"
            if row.ended_at is None or not row.end_reason:
                yield f"{told} does not say when or why it ended"
            continue
        if row.ended_at is not None or row.end_reason:
            yield f"{told} says that it ended"
        if row.due_at is None and row.parked != "held" and row.deadline is not None:
            yield f"{told} has a timer that nobody looks at"
        if row.due_at is None and row.parked != "held" and row.wait_kind in (None, "timer", "retry"):
            yield f"{told} is waited for by nobody"
        if (row.wait_kind == "approval") != (row.state == "awaiting_approval"):
            yield f"{told} waits for {row.wait_kind}"
        if row.parked == "held" and not paused:
            yield f"{told} stands as if its workflow were paused"
        if found.settled and row.due_at is not None and row.due_at <= found.now:
            yield f"{told} is due and was left behind"


def _ways(found: Rows) -> Iterator[str]:
    """Every trace is a way through the graph of its versions, and belongs to somebody."""
    for row in found.enrollments:
        versions = {
            number: version for (workflow, number), version in found.versions.items() if workflow == row.workflow_id
        }
        yield from wrong_turns(versions, row, found.traces.get(row.id, ()))
    for enrollment_id in found.traces:
        if enrollment_id not in found.by_id:
            yield f"{enrollment_id} has a trace and is not there"


def _messages(found: Rows) -> Iterator[str]:
    """What a trace says was sent is there, once, and nothing that no trace knows."""
    caused: Counter[str] = Counter()
    for some in found.traces.values():
        for entry in some:
            if entry.kind in ("webhook", "message"):
                caused.update(entry.effects)
    own = [row.id for row in found.messages if row.enrollment_id and not row.event_type.startswith(_TOLD_BY_THE_CORE)]
    there = Counter([*own, *(row.id for row in found.outgoing)])
    for message_id in sorted({*caused, *there}):
        if caused[message_id] != 1 or there[message_id] != 1:
            yield f"{message_id} was caused {caused[message_id]} times and is there {there[message_id]} times"
    receivers = Counter(row.message_id for row in found.deliveries)
    for row in found.messages:
        if not receivers[row.id]:
            yield f"{row.id} ({row.event_type}) goes to nobody"
    for row in found.enrollments:
        told = [one.event_type for one in found.messages if one.enrollment_id == row.id]
        over = sum(told.count(f"enrollment.{what}") for what in ("completed", "exited", "failed"))
        ends = sum(entry.outcome == "ended" or fails(entry) for entry in found.traces.get(row.id, ()))
        if told.count("enrollment.created") != 1 or over != ends:
            yield f"{row.id} ended {ends} times and told {told}"


_TOLD_BY_THE_CORE = (
    *("enrollment.", "execution.", "approval.", "cold_dm.", "followup.", "message.", "agent_task.", "automation."),
    *("record.", "lead.", "contact.", "workflow.", "endpoint.", "reply."),
)


def _approvals(found: Rows) -> Iterator[str]:
    """Whoever waits for a decision can get one, and no decision is asked for nobody."""
    asked = {row.wait_subject: row for row in found.enrollments if row.wait_kind == "approval"}
    there = {row.id: row for row in found.approvals}
    for subject, row in asked.items():
        if subject not in there:
            yield f"{row.id} waits for {subject}, which is not there"
    for row in found.approvals:
        if row.subject_kind == "step" and row.state == "pending" and row.id not in asked:
            yield f"{row.id} is asked for nobody"


def _letters(found: Rows) -> Iterator[str]:
    """Whoever failed at a step has one open letter, and nobody else has one."""
    there = Counter(row.enrollment_id for row in found.letters if row.state == "open")
    for row in found.enrollments:
        failed = row.state == "failed" and found.traces.get(row.id, [None])[-1].kind != "engine"  # type: ignore[union-attr]
        if there.pop(row.id, 0) != failed:
            yield f"{row.id} is {row.state} and has another number of open dead letters"
    yield from (f"{enrollment_id} has a dead letter and is not there" for enrollment_id in there)


def _statistics(found: Rows) -> Iterator[str]:
    """Counts that are kept as it happens are those that counting anew would give."""
    counted: Counter[tuple[str, str, str, str, int]] = Counter()
    for row in found.enrollments:
        counted[row.workflow_id, "", statistics.STATE, row.state, row.version] += 1
        if row.state in RUNNING:
            counted[row.workflow_id, row.step_id, statistics.STANDING, "", row.version] += 1
        for entry in found.traces.get(row.id, ()):
            if entry.kind == OUTCOME:
                counted[row.workflow_id, entry.step_id, statistics.LATE[entry.outcome], "", 0] += 1
            elif entry.kind not in ("enrollment", "engine", "step") and entry.outcome != "waiting":
                counted[row.workflow_id, entry.step_id, entry.outcome, entry.exit, 0] += 1
    beside = (statistics.CONVERTED, statistics.GOAL, statistics.DRAWN)
    kept = {key: count for key, count in found.figures.items() if key[2] not in beside}
    for key in sorted({*counted, *kept}):
        if counted[key] != kept.get(key, 0):
            yield f"{key} is counted as {kept.get(key, 0)} and is {counted[key]}"
