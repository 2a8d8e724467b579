"""Carrying an import on by one slice of rows: checking them, or writing the records that they stand for.

A slice is one transaction: its rows, the records they change and how far the import is are written together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row

from core.domain.records.identity import Identifier
from core.domain.records.import_files import Fault
from core.engine.import_rows import Judge
from core.store.records import imports, record_schema
from core.store.records.imports import COUNTED, ImportState, JudgedRow, Outcome
from core.store.records.records import ContactCandidate, Resolved
from core.store.records.upserts import resolve
from core.store.transaction import Transaction

CHECKED_AT_ONCE = 500
WRITTEN_AT_ONCE = 200

_TAKEN = (Outcome.CREATE, Outcome.UPDATE, Outcome.UNCHANGED)


def cause_of(import_id: str) -> str:
    """Return the cause of every change that an import makes; RevertChanges takes it."""
    return f"import:{import_id}"


async def carry_on(tx: Transaction, import_: Row[Any], most: int = 0) -> int:
    """Check or carry out the next rows of an import that is held; return how many, 0 when it came to an end.

    `most` rows at once, where that is fewer than usual.
    """
    checking = import_.state == ImportState.CHECKING
    limit = CHECKED_AT_ONCE if checking else WRITTEN_AT_ONCE
    rows = await imports.slice_of(tx, import_.id, import_.done_count, min(limit, most or limit))
    if not rows:
        await _end(tx, import_)
        return 0
    judged = await _checked(tx, import_, rows) if checking else await _carried_out(tx, import_, rows)
    await _note(tx, import_, rows[-1].row, judged)
    return len(rows)


async def _end(tx: Transaction, import_: Row[Any]) -> None:
    if import_.state == ImportState.RUNNING:
        await imports.note(tx, import_.id, state=ImportState.SUCCEEDED, ended_at=tx.now)
        return
    await imports.note(tx, import_.id, state=ImportState.CHECKED)
    if import_.starts and (import_.skip_bad_rows or not import_.bad_count):
        await start(tx, import_)


async def start(tx: Transaction, import_: Row[Any]) -> None:
    """Begin to carry an import out, or go on with one that a row stopped."""
    values: dict[str, Any] = {"state": ImportState.RUNNING, "error": ""}
    if import_.state != ImportState.FAILED:
        counts = dict.fromkeys(("done_count", "created_count", "updated_count", "unchanged_count"), 0)
        values |= counts
    await imports.note(tx, import_.id, **values)
    tx.wake("importer")


async def _note(tx: Transaction, import_: Row[Any], done: int, judged: Sequence[JudgedRow]) -> None:
    """Write what became of rows and how far the import is."""
    values: dict[str, Any] = {"done_count": done}
    for one in judged:
        name = COUNTED[one.outcome]
        values[name] = values.get(name, getattr(import_, name)) + 1
    failed = next((one for one in judged if one.outcome == Outcome.BAD), None)
    if import_.state == ImportState.RUNNING and failed is not None and not import_.skip_bad_rows:
        why = failed.faults[-1]["message"] if failed.faults else "it cannot be taken"
        values |= {"state": ImportState.FAILED, "error": f"Row {failed.number}: {why}"}
    await imports.note(tx, import_.id, **values)


async def _checked(tx: Transaction, import_: Row[Any], rows: Sequence[Row[Any]]) -> list[JudgedRow]:
    """Judge rows one type after the other: what later types name is known by then."""
    judge = Judge(tx, import_, await record_schema.of(tx))
    judged: list[JudgedRow] = []
    for _, some in groupby(rows, key=lambda row: row.record_type):
        found = await judge.judge(list(some))
        await imports.judge(tx, import_.id, found)
        judged += found
    return judged


async def _carried_out(tx: Transaction, import_: Row[Any], rows: Sequence[Row[Any]]) -> list[JudgedRow]:
    """Write the records of rows that can be taken, one type after the other: later types name earlier ones."""
    judged: list[JudgedRow] = []
    for record_type, some in groupby((row for row in rows if row.outcome in _TAKEN), key=lambda row: row.record_type):
        done = await _write(tx, import_, record_type, list(some))
        await imports.judge(tx, import_.id, done)
        judged += done
    return judged


async def _write(tx: Transaction, import_: Row[Any], record_type: str, rows: Sequence[Row[Any]]) -> list[JudgedRow]:
    links = await imports.records_of_rows(
        tx, import_.id, {number for row in rows for number in row.said.get("links", {}).values()}
    )
    ready = [row for row in rows if all(number in links for number in row.said.get("links", {}).values())]
    left = [_refused(row, _UNLINKED) for row in rows if row not in ready]
    candidates = [
        ContactCandidate(
            {**row.said["fields"], **{name: links[number] for name, number in row.said.get("links", {}).items()}},
            tuple(_identifiers(row)),
            contact_id=row.record_id,
        )
        for row in ready
    ]
    cause, triggers = cause_of(import_.id), import_.triggers
    resolved = await resolve(tx, record_type, candidates, actor=import_.actor, cause=cause, triggers=triggers)
    return [*left, *(_became(row, answer) for row, answer in zip(ready, resolved, strict=True))]


_UNLINKED = Fault("", "REFERS_TO_BAD_ROW", "names a row of the file that could not be taken", "Correct that row first.")


def _identifiers(row: Row[Any]) -> Iterable[Identifier]:
    return ((kind, value) for kind, value in row.said.get("identifiers", ()))


def _became(row: Row[Any], answer: Resolved) -> JudgedRow:
    if answer.record is None:
        wrong = answer.violation
        assert wrong is not None
        return _refused(row, Fault(wrong.field, wrong.reason, wrong.message, wrong.hint))
    outcome = Outcome.CREATED if answer.created else Outcome.UPDATED if answer.changes else Outcome.UNCHANGED
    return JudgedRow(row.row, outcome, answer.record.id, faults=row.faults)


def _refused(row: Row[Any], fault: Fault) -> JudgedRow:
    return JudgedRow(row.row, Outcome.BAD, faults=[*row.faults, fault.as_data()])


async def refuse_next(tx: Transaction, import_: Row[Any]) -> None:
    """Leave out the next row, at which carrying on failed in a way that nobody foresaw."""
    rows = await imports.slice_of(tx, import_.id, import_.done_count, 1)
    fault = Fault("", "FAILED", "could not be taken; the operator's log says why", "Tell the operator the import's id.")
    judged = [_refused(row, fault) for row in rows]
    await imports.judge(tx, import_.id, judged)
    await _note(tx, import_, rows[-1].row, judged)
