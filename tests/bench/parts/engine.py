"""What the engine gets out of a database: steps and row writes a second against plain inserts, and what they cost."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from tests.bench import prepared
from tests.bench.figures import Aim, Figure
from tests.bench.parts.floors import BULK, SPOKEN
from tests.bench.prepared import Prepared
from tests.bench.session import Session
from tests.bench.workload import STEPS_A_MOVE

Drains = Sequence[dict[str, Any]]
"""What measured processes told."""

STEPS = "steps"
_ROW_AIM = {("sqlite", "rows 4096"): 0.08, ("postgresql", "rows 1000"): 0.12}
"""By database and floor."""
_ROW_WRITES = {"rows 4096": "row writes, against 4,096 rows a transaction"}
_LAG_AIM_MS = 5.0
_WAL_AIM = 1_500.0


def steps_per_second(drains: Drains) -> float:
    """Return the steps a second of processes that ran at the same time."""
    span = max(one["ended"] for one in drains) - min(one["started"] for one in drains)
    return sum(one["moved"] for one in drains) * STEPS_A_MOVE / span


async def measure(session: Session) -> None:
    """Measure every database, floor and engine in turns."""
    for kind in session.options.databases:
        made = await prepared.get(session, kind)
        drains, awake = [], []
        for number in range(session.options.rounds):
            for name in _floors(kind):
                await session.floor(kind, name)
            for one, found in ((made.awake, awake), (made, drains)):
                await one.tidy()
                found += await one.drain(f"engine, {one.sleepers:,} asleep, round {number + 1}")
        (late,) = await made.drain("engine, loop lag", lag=True, seconds=session.options.seconds / 2)
        session.add(*_throughput(session, made, drains, awake), *_costs(session, made, drains, awake, late))


def _floors(kind: str) -> list[str]:
    return [BULK[kind], *(["rows 4096"] if kind == "sqlite" else [])]


def _throughput(session: Session, made: Prepared, drains: Drains, awake: Drains) -> list[Figure]:
    steps = [steps_per_second([one]) for one in drains]
    rows = [one["rows"] / (one["ended"] - one["started"]) for one in drains]
    asleep = f"{made.sleepers:,} asleep"
    bulk = statistics.median(session.floor_samples(made.kind, BULK[made.kind]))
    figures = [
        _figure(made, STEPS, steps, "steps/s", f"rows/s of {SPOKEN[made.kind, BULK[made.kind]]}", bulk, note=asleep)
    ]
    for name in _floors(made.kind):
        floor = statistics.median(session.floor_samples(made.kind, name))
        aim = Aim("ratio", ">=", _ROW_AIM[made.kind, name]) if (made.kind, name) in _ROW_AIM else None
        what = _ROW_WRITES.get(name, "row writes")
        figures.append(_figure(made, what, rows, "rows/s", f"rows/s of {SPOKEN[made.kind, name]}", floor, aim))
    alone = statistics.median(steps_per_second([one]) for one in awake)
    figures.append(
        _figure(
            made, f"steps, {asleep}", steps, "steps/s", "steps/s with nobody asleep", alone, Aim("ratio", ">=", 0.9)
        )
    )
    return figures


def _costs(session: Session, made: Prepared, drains: Drains, awake: Drains, late: dict[str, Any]) -> list[Figure]:
    done = [one["moved"] * STEPS_A_MOVE for one in drains]
    bulk = statistics.median(session.floor_samples(made.kind, BULK[made.kind]))
    cpu = [one["cpu"] * 1e6 / steps for one, steps in zip(drains, done, strict=True)]
    wal = [one["wal"] / steps for one, steps in zip(drains, done, strict=True)]
    resident = [one["rss"] / 2**20 for one in drains]
    figures = [
        _figure(made, "CPU of the engine's process", cpu, "us/step", "us, one plain row", 1e6 / bulk),
        _figure(
            made, "loop lag p99, engine busy", [late["lag"] * 1e3], "ms", "ms, engine idle", late["idle_lag"] * 1e3,
            Aim("value", "<=", _LAG_AIM_MS),
        ),
        _figure(
            made, f"memory of the process, {made.sleepers:,} asleep", resident, "MiB", "MiB, nobody asleep",
            statistics.median(one["rss"] for one in awake) / 2**20, Aim("ratio", "<=", 1.1),
        ),
        Figure("engine", "a sleeper's row and its indexes", made.label, made.sleeper_bytes, "bytes"),
    ]  # fmt: skip
    if made.kind == "postgresql":
        figures.append(_figure(made, "write-ahead log", wal, "bytes/step", aim=Aim("value", "<=", _WAL_AIM)))
    return figures


def _figure(
    made: Prepared,
    what: str,
    samples: Sequence[float],
    unit: str,
    against: str = "",
    against_value: float = 0.0,
    aim: Aim | None = None,
    note: str = "",
) -> Figure:
    value = statistics.median(samples)
    return Figure("engine", what, made.label, value, unit, against, against_value, aim, tuple(samples), note)
