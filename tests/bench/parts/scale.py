"""The same work with few and with many sleepers in the table: a sleeper must cost nothing but its row."""

from __future__ import annotations

import statistics
from dataclasses import replace

from tests.bench import prepared, storage
from tests.bench.figures import Aim, Figure
from tests.bench.parts.engine import steps_per_second
from tests.bench.prepared import Prepared
from tests.bench.session import LABELS, Session

_FEWEST_ROUNDS = 3
"""To fill the tables takes far longer than to measure, and one pair of samples, on a disk above all, tells little."""


async def measure(session: Session) -> None:
    """Fill two databases of each kind and measure them in turns."""
    await prepared.drop(session)  # five million need the room
    apart = session.options.scale_folder
    if apart is None:
        await _measure(session)
        return
    with storage.opened(replace(session.options, folder=apart)) as there:
        session.report.machine["databases of many sleepers in"] = there.describe()
        here, session.storage = session.storage, there
        try:
            await _measure(session)
        finally:
            session.storage = here


async def _measure(session: Session) -> None:
    few, many = session.options.few, session.options.many
    for kind in session.options.databases:
        rates: dict[int, list[float]] = {few: [], many: []}
        both = [await _filled(session, kind, count) for count in rates]
        for _ in range(max(session.options.rounds, _FEWEST_ROUNDS)):
            for made in both:
                await made.tidy()
                drains = await made.drain(f"engine, {made.sleepers:,} asleep")
                rates[made.sleepers].append(steps_per_second(drains))
        session.add(
            Figure(
                "scale", f"steps, {many:,} asleep", LABELS[kind], statistics.median(rates[many]), "steps/s",
                f"steps/s, {few:,} asleep", statistics.median(rates[few]), Aim("ratio", ">=", 0.9), tuple(rates[many]),
            )
        )  # fmt: skip
        for made in both:
            await session.drop(made.url)


async def _filled(session: Session, kind: str, sleepers: int) -> Prepared:
    made = await prepared.start(session, kind)
    await made.add_sleepers(prefix="s", count=sleepers)
    await made.warm_up()
    return made
