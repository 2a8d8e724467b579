"""The same work with few and with many sleepers in the table: a sleeper must cost nothing but its row."""

from __future__ import annotations

import statistics

from tests.bench import prepared
from tests.bench.figures import Aim, Figure
from tests.bench.parts.engine import steps_per_second
from tests.bench.session import Session


async def measure(session: Session) -> None:
    """Fill a database of each kind twice and measure each time."""
    await prepared.drop(session)  # five million need the room
    few, many = session.options.few, session.options.many
    for kind in session.options.databases:
        made = await prepared.start(session, kind)
        rates = []
        for prefix, count in (("s", few), ("z", many - few)):
            await made.add_sleepers(prefix=prefix, count=count)
            drains = [await made.drain(f"engine, {made.sleepers:,} asleep") for _ in range(session.options.rounds)]
            rates.append([steps_per_second(one) for one in drains])
        session.add(
            Figure(
                "scale", f"steps, {many:,} asleep", made.label, statistics.median(rates[1]), "steps/s",
                f"steps/s, {few:,} asleep", statistics.median(rates[0]), Aim("ratio", ">=", 0.9), tuple(rates[1]),
            )
        )  # fmt: skip
        await session.drop(made.url)
