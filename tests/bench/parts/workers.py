"""Two worker processes against one, on PostgreSQL: SQLite has one writer."""

from __future__ import annotations

import statistics

from tests.bench import prepared
from tests.bench.figures import Aim, Figure
from tests.bench.parts.engine import steps_per_second
from tests.bench.session import Session


async def measure(session: Session) -> None:
    """Measure one and two processes in turns."""
    if "postgresql" not in session.options.databases:
        return
    made = await prepared.get(session, "postgresql")
    one, two = [], []
    for number in range(session.options.rounds):
        one.append(steps_per_second(await made.drain(f"one worker, round {number + 1}")))
        two.append(steps_per_second(await made.drain(f"two workers, round {number + 1}", processes=2)))
    session.add(
        Figure(
            "workers", "two worker processes", made.label, statistics.median(two), "steps/s", "steps/s of one",
            statistics.median(one), Aim("ratio", ">=", 1.6), tuple(two),
        )
    )  # fmt: skip
