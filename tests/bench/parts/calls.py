"""What calls cost through the whole pipeline: bulk enrollment against plain inserts, a read against a health check."""

from __future__ import annotations

from tests.bench.figures import Figure
from tests.bench.parts.floors import BULK, SPOKEN
from tests.bench.session import LABELS, Session

_CALLS = 2_000


async def measure(session: Session) -> None:
    """Measure every database."""
    count = max(session.options.movers // 2, 1_000)
    for kind in session.options.databases:
        url = await session.new_database(kind)
        told = await session.run(
            f"{LABELS[kind]}: calls",
            "calls",
            url=url,
            folder=str(session.storage.new_folder("data")),
            contacts=count,
            calls=_CALLS,
        )
        await session.drop(url)
        rows = await session.floor(kind, BULK[kind])
        floor = f"rows/s of {SPOKEN[kind, BULK[kind]]}"
        session.add(
            Figure("calls", "bulk enrollment, new contacts", LABELS[kind], told["enrolled"], "contacts/s", floor, rows),
            Figure(
                "calls", "gRPC read, 16 at once", LABELS[kind], told["reads"], "calls/s", "health checks/s",
                told["checks"],
            ),
        )  # fmt: skip
