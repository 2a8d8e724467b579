"""What more turns and more processes bring, on PostgreSQL: SQLite has one writer."""

from __future__ import annotations

import statistics

from tests.bench import prepared
from tests.bench.figures import Aim, Figure
from tests.bench.parts.engine import steps_per_second
from tests.bench.session import Session


async def measure(session: Session) -> None:
    """Measure one process with one turn at a time, with the two that it has when it serves, and two processes."""
    if "postgresql" not in session.options.databases:
        return
    made = await prepared.get(session, "postgresql")
    single, served, two = [], [], []
    for number in range(session.options.rounds):
        drain, of_round = made.drain, f", round {number + 1}"
        single.append(steps_per_second(await drain(f"one process, one turn{of_round}", turns=1)))
        served.append(steps_per_second(await drain(f"one process, two turns{of_round}")))
        two.append(steps_per_second(await drain(f"two processes, one turn{of_round}", processes=2, turns=1)))
    against = ("steps/s", "steps/s of one process, one turn at a time", statistics.median(single))
    session.add(
        Figure("workers", "one process, two turns at once", made.label, statistics.median(served), *against),
        Figure(
            "workers", "two processes, one turn at a time", made.label, statistics.median(two), *against,
            Aim("ratio", ">=", 1.6), tuple(two),
        ),
    )  # fmt: skip
