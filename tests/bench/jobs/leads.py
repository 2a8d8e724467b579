"""Files and scores in a process of its own: contacts and leads from CSV, then every lead scored in one stream."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from core.clock import ManualClock
from core.store.records.record_rows import records
from core.store.transaction import EVERY_ORGANIZATION
from core.templates import scoring_models
from dripstone.v1 import qualification_pb2, transfer_pb2
from tests.bench import workload
from tests.bench.child import tell
from tests.running import RunningCore, running

_MODEL = "b2b-inbound"


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Import `rows` contacts into the empty database at `url`, and as many leads, and score them."""
    rows = spec["rows"]
    async with running(spec["url"], Path(spec["folder"]), ManualClock(workload.START)) as core:
        people = "".join(
            f"{workload.email('p', n)},Kim {n},{n % 400},{'DE' if n % 3 else 'FR'},Head of Sales\n" for n in range(rows)
        )
        imported = await _spent(
            lambda: _import(core, "contact", f"email,first_name,employees,country,job_title\n{people}")
        )
        async with core.core.database.read(EVERY_ORGANIZATION) as tx:
            ids = [row.id for row in await tx.all(select(records.c.id).where(records.c.type == "contact"))]
        assert len(ids) >= rows
        await _import(core, "lead", "contact_id,source\n" + "".join(f"{one},web\n" for one in ids))
        scored = await _spent(lambda: _score(core, rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"imported": imported, "scored": scored, "peak": peak}


async def _spent(work: Callable[[], Awaitable[int]]) -> dict[str, float]:
    """Return how many a second there were, and the microseconds of CPU that each took."""
    started, before = time.perf_counter(), os.times()
    count = await work()
    seconds, after = time.perf_counter() - started, os.times()
    cpu = after.user + after.system - before.user - before.system
    return {"per_second": count / seconds, "cpu": cpu * 1e6 / count, "seconds": seconds}


async def _import(core: RunningCore, record_type: str, text: str) -> int:
    request = transfer_pb2.CreateImportRequest(
        content=text.encode(),
        format=transfer_pb2.IMPORT_FORMAT_CSV,
        type=record_type,
        trigger_behaviour=transfer_pb2.TRIGGER_BEHAVIOUR_NONE,
        start=True,
    )
    async with core.client() as client:
        made = await client.records.CreateImport(request, timeout=60)
        done = 0
        while turned := await core.core.outward.importer.turn():
            done += turned
            tell(done=min(done, 2 * made.row_count), total=2 * made.row_count)  # checked, then written
        over = await client.records.GetImport(transfer_pb2.GetImportRequest(import_id=made.id))
    assert over.created_count == made.row_count, over
    return int(made.row_count)


async def _score(core: RunningCore, rows: int) -> int:
    (model,) = [one for one in scoring_models() if one.id == _MODEL]
    async with core.client() as client:
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id=_MODEL, source=model.source)
        )
        done = 0
        async for progress in client.qualification.ScoreLeads(qualification_pb2.ScoreLeadsRequest(model_id=_MODEL)):
            done = progress.done_count
            tell(done=done, total=progress.total_count)
    assert done >= rows
    return done
