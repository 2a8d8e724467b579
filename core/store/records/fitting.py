"""What of a candidate is written: own fields, unique values and stages in order, and nothing that came too late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from core.domain.errors import DripstoneError, EmailTaken, Invalid, ValueTaken, Violation
from core.domain.records.identity import Conflict
from core.store.records import pipelines, record_schema, unique_values
from core.store.records.candidates import Batch, ContactCandidate, Resolved
from core.store.records.late_fields import set_since
from core.store.records.record_rows import Record
from core.store.records.record_schema import Patch


class Candidate(Protocol):
    """A candidate whose record is known by now."""

    candidate: ContactCandidate
    target: str
    conflicts: tuple[Conflict, ...]
    violation: Violation | None
    also_wrong: Sequence[Violation]
    fields: Mapping[str, Any]


def refusal(record_type: str, refused: Resolved) -> DripstoneError:
    """Return the error that tells a single caller why no record was written."""
    reason = refused.violation.reason if refused.violation is not None else ""
    if reason == EmailTaken.reason:
        return EmailTaken(owner=refused.conflicts[0].record_id)
    if reason == ValueTaken.reason:
        (owner, *_) = refused.conflicts
        return ValueTaken(record_type=record_type, field=owner.kind, owner=owner.record_id)
    return Invalid(*refused.violations)


async def fit(batch: Batch, plans: Sequence[Candidate]) -> None:
    """Bring what candidates say into the form in which it is stored, or say what is wrong with it.

    What an event says and does not fit is left out, for nobody could be told.
    """
    going = [plan for plan in plans if plan.violation is None]
    patches = [_patch(batch, plan) for plan in going]
    for plan, found in zip(going, await record_schema.fit(batch.tx, patches), strict=True):
        plan.fields = found.fields
        if found.violations and not plan.candidate.observed:
            plan.violation, plan.also_wrong = found.violations[0], found.violations[1:]
    if batch.record_type == pipelines.OPPORTUNITY:
        await _place(batch, going)
    await _claim(batch, [plan for plan in going if plan.violation is None])


def _patch(batch: Batch, plan: Candidate) -> Patch:
    told = plan.candidate
    creates = plan.target in batch.new
    return Patch(batch.tx.org_id, batch.record_type, plan.fields, told.path, creates, demanding=not told.observed)


async def _place(batch: Batch, plans: Sequence[Candidate]) -> None:
    going = [plan for plan in plans if plan.violation is None]
    moves = []
    for plan in going:
        held = batch.held.get(plan.target)
        moves.append((held.fields if held is not None else {}, plan.fields, plan.candidate.path))
    for plan, (fields, wrong) in zip(going, await pipelines.place(batch.tx, moves), strict=True):
        plan.fields = fields
        if wrong:
            plan.violation, plan.also_wrong = wrong[0], wrong[1:]


async def _claim(batch: Batch, plans: Sequence[Candidate]) -> None:
    """Take the unique values that candidates bring, one candidate after the other: the first one has it."""
    if not any(record_schema.touches_own(plan.fields) for plan in plans):
        return
    org, record_type = batch.tx.org_id, batch.record_type
    schema = await record_schema.of(batch.tx)
    if record_type not in schema.unique:
        return
    for plan in plans:
        rows = unique_values.rows_of(schema, org, record_type, plan.target, plan.fields, dotted=True)
        for key, owner in (await unique_values.claim(batch.tx, rows)).items():
            path = f"custom.{key[2]}"
            if plan.candidate.observed:
                plan.fields = {name: value for name, value in plan.fields.items() if name != path}
                continue
            error = ValueTaken(record_type=record_type, field=path, owner=owner)
            at = f"{plan.candidate.path}.{path}" if plan.candidate.path else path
            plan.violation = Violation(at, error.reason, error.message, error.way_out)
            plan.conflicts = (Conflict(path, key[3], owner),)
            await unique_values.release(batch.tx, rows)


async def look_back(batch: Batch, plans: Sequence[Candidate]) -> None:
    """Learn what happened since, where something is said late."""
    earliest: dict[str, datetime] = {}
    fields: set[str] = set()
    for plan in plans:
        at = plan.candidate.as_of
        if at is not None and plan.target in batch.held:
            earliest[plan.target] = min(at, earliest.get(plan.target, at))
            fields.update(plan.candidate.fields)
    if any(plan.candidate.as_of is not None for plan in plans):
        batch.set_at = await set_since(batch.tx, earliest, fields)


def still_so(batch: Batch, plan: Candidate, record: Record, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is set of what a candidate says: what comes late does not undo what happened since."""
    at = plan.candidate.as_of
    if plan.candidate.fills:
        return {name: value for name, value in fields.items() if record.fields.get(name) in (None, "")}
    if at is None or batch.set_at is None:
        return fields
    known = batch.set_at.get(plan.target, {})
    return {name: value for name, value in fields.items() if known.get(name, at) <= at}
