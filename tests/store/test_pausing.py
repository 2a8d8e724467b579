"""What pausing and resuming do to rows, on both databases: nothing is lost, and nobody pays for who stands still."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain import names
from core.store.database import Database
from core.store.workflows import pausing, workflows
from core.store.workflows.enrollments import enrollments
from tests.conftest import START
from tests.store.effort import effort, tidy

pytestmark = pytest.mark.anyio

ORG = "org_a"
MANY = 3_000


def workflow(workflow_id: str, state: str, org: str = ORG) -> dict[str, Any]:
    return {
        **{"org_id": org, "id": workflow_id, "title": "", "state": state, "draft_source": "", "draft_document": {}},
        **{"published_version": 1, "rev": 1, "created_at": START, "updated_at": START, "pause_reason": ""},
        **{"draft_author": "", "draft_at": START, "draft_version": 1},
        "paused_at": START if state == "paused" else None,
    }


def enrollment(enrollment_id: str, workflow_id: str, org: str = ORG, **changed: Any) -> dict[str, Any]:
    return {
        **{"org_id": org, "id": enrollment_id, "bucket": names.bucket(org), "workflow_id": workflow_id, "version": 1},
        **{"contact_id": f"cnt_{enrollment_id}", "key": "", "occurrence": 1, "actor": "key_1", "state": "active"},
        **{"step_id": "pause", "rev": 1, "trace_count": 0, "data": {}, "end_reason": ""},
        **{"entered_at": START, "moved_at": START, "parked": "held", "due_at": None, "deadline": START},
        **{"wait_kind": "timer", "wait_subject": "", "wait_key": None, "wait_since": START},
        **changed,
    }


async def write(database: Database, there: list[dict[str, Any]], standing: list[dict[str, Any]]) -> None:
    columns = list(standing[0])
    async with database.system() as tx:
        await tx.insert(workflows.workflows, there)
        await tx.bulk_insert(enrollments, columns, [tuple(row[name] for name in columns) for row in standing])


async def rows(database: Database, org: str = ORG) -> Mapping[str, tuple[Any, ...]]:
    async with database.read(org) as tx:
        found = await tx.all(enrollments.select())
    return {row.id: (row.parked, row.due_at) for row in found}


async def test_who_stands_for_a_pause_that_is_over_is_found_among_many_others_at_little_cost(
    database: Database, clock: ManualClock
) -> None:
    held = [enrollment(f"enr_{number:04}", "long") for number in range(MANY)]
    held += [enrollment("enr_b", "short", "org_b"), enrollment("enr_c", "long", "org_b")]
    states = [workflow("long", "paused"), workflow("short", "active", "org_b"), workflow("long", "paused", "org_b")]
    await write(database, [*states, workflow("other", "active")], held)
    clock.advance(timedelta(hours=1))
    await tidy(database, "enrollments")
    async with database.system() as tx:
        assert await effort(tx, lambda: pausing.release_forgotten(tx)) < 300
    assert await rows(database, "org_b") == {"enr_b": (None, START), "enr_c": ("held", None)}
    assert set((await rows(database)).values()) == {("held", None)}
    async with database.system() as tx:
        assert await pausing.release_forgotten(tx) == 0
