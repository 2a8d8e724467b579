"""What files and scores cost: a CSV of contacts brought in whole, and every lead scored in one stream."""

from __future__ import annotations

from tests.bench.figures import Figure
from tests.bench.parts.floors import BULK, SPOKEN
from tests.bench.session import LABELS, Session


async def measure(session: Session) -> None:
    """Measure every database."""
    rows = session.options.rows
    for kind in session.options.databases:
        url = await session.new_database(kind)
        folder = str(session.storage.new_folder("data"))
        told = await session.run(f"{LABELS[kind]}: leads", "leads", url=url, folder=folder, rows=rows)
        await session.drop(url)
        floor, plain = f"rows/s of {SPOKEN[kind, BULK[kind]]}", await session.floor(kind, BULK[kind])
        imported, scored = told["imported"], told["scored"]
        of_plain = ("us, one plain row", 1e6 / plain)
        session.add(
            Figure(
                "leads", f"import of {rows:,} contacts from CSV", LABELS[kind], imported["per_second"], "rows/s", floor,
                plain, note=f"{imported['seconds']:.1f} s",
            ),
            Figure("leads", "CPU of an imported row", LABELS[kind], imported["cpu"], "us", *of_plain),
            Figure(
                "leads", f"ScoreLeads over {rows:,} leads", LABELS[kind], scored["per_second"], "leads/s",
                note=f"{scored['seconds']:.1f} s",
            ),
            Figure("leads", "CPU of a scored lead", LABELS[kind], scored["cpu"], "us", *of_plain),
            Figure("leads", "memory at most, core and client", LABELS[kind], told["peak"], "MiB"),
        )  # fmt: skip
