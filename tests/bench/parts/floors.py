"""The floors themselves: what one connection gets out of each database on this machine."""

from __future__ import annotations

from tests.bench.figures import Figure
from tests.bench.session import LABELS, Session

BULK = {"sqlite": "rows 1000", "postgresql": "rows 1000"}
"""The floor of row writes: plain inserts, about as many rows a transaction as a batch of the engine writes."""

SPOKEN = {
    ("sqlite", "rows 1"): "commits of one row",
    ("sqlite", "rows 1000"): "plain inserts, 1,000 rows a transaction, WAL, FULL",
    ("sqlite", "rows 4096"): "plain inserts, 4,096 rows a transaction, WAL, FULL",
    ("postgresql", "round trips"): "round trips, one connection",
    ("postgresql", "rows 1"): "commits of one row",
    ("postgresql", "rows 1000"): "insert..unnest, 1,000 rows a transaction",
}
"""What each floor is called in the report."""


async def measure(session: Session) -> None:
    """Measure every floor of every database."""
    for kind, name in SPOKEN:
        if kind in session.options.databases:
            for _ in range(session.options.rounds):
                await session.floor(kind, name)
    samples = []
    for _ in range(session.options.rounds):
        folder = str(session.storage.new_folder("fsync"))
        told = await session.run(
            "fsync", "floors", url="sqlite://", floor="fsync", folder=folder, seconds=session.options.floor_seconds
        )
        samples.append(told["per_second"])
    session.add(Figure("floors", "fdatasync, one thread", "", sorted(samples)[len(samples) // 2], "/s"))


def figures(session: Session) -> list[Figure]:
    """Return every floor that was measured, each the median of all its samples in this run."""
    found = []
    for (kind, name), spoken in SPOKEN.items():
        samples = session.floor_samples(kind, name)
        if samples:
            unit = "/s" if name in ("round trips", "rows 1") else "rows/s"
            middle = sorted(samples)[len(samples) // 2]
            found.append(Figure("floors", spoken, LABELS[kind], middle, unit, samples=samples))
    return found
