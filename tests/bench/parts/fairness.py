"""How long a small organization waits while another has a flood of due rows, against the time the flood takes."""

from __future__ import annotations

from core.store.metadata import to_micros
from tests.bench import prepared, workload
from tests.bench.figures import Aim, Figure
from tests.bench.session import Session

_AIM = Aim("value", "<=", 0.1)


async def measure(session: Session) -> None:
    """Measure every database."""
    for kind in session.options.databases:
        made = await prepared.get(session, kind)
        flood = session.options.flood + session.options.movers
        told = await session.run(
            f"{made.label}: fairness",
            "fairness",
            url=made.url,
            folder=made.folder,
            now=to_micros(workload.START + workload.FLOOD_AFTER),
            org=made.models["small"]["org"],
            groups=workload.SMALL_GROUPS,
            seconds=session.options.seconds,
        )
        for name, spoken in (("p50", "half of the time"), ("most", "at most")):
            session.add(
                Figure(
                    "fairness", f"{workload.SMALL_GROUP} rows wait behind {flood:,} of another, {spoken}", made.label,
                    told[name], "s", "s for the flood alone", flood / told["per_second"],
                    _AIM, note=f"{told['waits']} times",
                )
            )  # fmt: skip
