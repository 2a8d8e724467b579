"""From an event's arrival to the commit of the step it leads to, against the two commits that this takes at least."""

from __future__ import annotations

from core.store.metadata import to_micros
from tests.bench import prepared, workload
from tests.bench.figures import Aim, Figure
from tests.bench.prepared import Prepared
from tests.bench.session import Session

_PACE_SECONDS = 0.005
_P50_AIM_MS = 5.0


async def measure(session: Session) -> None:
    """Measure with an idle engine, then with one that the flood keeps busy."""
    for kind in session.options.databases:
        made = await prepared.get(session, kind)
        commits = await session.floor(kind, "rows 1")
        await _measure(session, made, commits, busy=False)
        await _measure(session, made, commits, busy=True)


async def _measure(session: Session, made: Prepared, commits: float, *, busy: bool) -> None:
    doing = "busy" if busy else "idle"
    told = await session.run(
        f"{made.label}: events, engine {doing}",
        "events",
        url=made.url,
        folder=made.folder,
        now=to_micros(workload.START + workload.BUSY_AFTER) if busy else made.next_hour(),
        busy=busy,
        count=session.options.events,
        listeners=session.options.events,
        pace=_PACE_SECONDS,
        seconds=session.options.seconds,
        prefix="w",
        org=made.models["listen"]["org"],
        enrollment=made.models["listen"]["enrollment"],
    )
    for name in ("p50", "p99"):
        aim = Aim("value", "<=", _P50_AIM_MS) if name == "p50" and not busy else None
        session.add(
            Figure(
                "events", f"event to next step committed, {name}, engine {doing}", made.label, told[name] * 1e3, "ms",
                "ms, two commits of one row", 2e3 / commits, aim, note=f"{told['count']} events",
            )
        )  # fmt: skip
