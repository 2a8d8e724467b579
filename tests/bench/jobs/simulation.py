"""A workflow tried on made-up contacts over months, in a process of its own that does nothing else."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from core.domain.workflow import source
from core.domain.workflow.compile import compile_document
from core.simulation.made_up import made_up
from core.simulation.simulate import simulate
from core.templates import templates
from tests.bench import workload

_SEED = 1


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Try the template `workflow` on `contacts` over `days`; return the CPU `seconds`, and how much that was."""
    (template,) = (one for one in templates() if one.id == spec["workflow"])
    version = compile_document(source.parse(template.source, template.id), workflow_id=template.id, number=1).version
    assert version is not None
    before = time.process_time()
    found = simulate(
        version,
        made_up(spec["contacts"], _SEED),
        start=workload.START,
        horizon=timedelta(days=spec["days"]),
        seed=_SEED,
    )
    seconds = time.process_time() - before
    return {"seconds": seconds, "enrollments": found.enrollments, "transitions": found.transitions}
