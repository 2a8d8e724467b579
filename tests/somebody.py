"""A contact and an enrollment as rows, for tests of what happens to messages to somebody."""

from __future__ import annotations

from typing import Any

from core.domain import names
from core.store.records.record_rows import records
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments


async def somebody(
    tx: Transaction, org: str, contact_id: str, enrollment_id: str, *, state: str = "active", **fields: Any
) -> None:
    """Write a contact and their enrollment, in a system transaction, unless they are there."""
    person = {
        "org_id": org,
        "id": contact_id,
        "type": "contact",
        "fields": fields,
        "rev": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    known = {column.name for column in records.c}
    await tx.insert(records, [{key: value for key, value in person.items() if key in known}], on_conflict="ignore")
    enrollment = {
        "org_id": org,
        "id": enrollment_id,
        "bucket": names.bucket(org),
        "workflow_id": "nurture",
        "version": 1,
        "contact_id": contact_id,
        "key": enrollment_id,
        "occurrence": 1,
        "actor": "mem_1",
        "state": state,
        "step_id": "mail",
        "rev": 1,
        "trace_count": 0,
        "data": {},
        "end_reason": "",
        "entered_at": tx.now,
        "moved_at": tx.now,
    }
    await tx.insert(enrollments, [enrollment], on_conflict="ignore")
