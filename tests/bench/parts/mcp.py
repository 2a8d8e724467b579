"""What a tool call costs, from MCP through the core to a small read, against an echo on the protocol's bare SDK."""

from __future__ import annotations

from statistics import median
from typing import Any

from tests.bench.figures import Aim, Figure
from tests.bench.session import LABELS, Session

_MOUNTS = {"json": "/mcp", "stream": "/mcp/interactive"}
_AIM = Aim("ratio", "<=", 2.0)
"""Of the overhead: what a call takes beyond the echo."""

_Samples = list[dict[str, Any]]


async def measure(session: Session) -> None:
    """Measure every database; echo, the MCP server alone, the core, and it over a wire take turns."""
    calls = 800 if session.options.quick else 2_000
    echo: _Samples = []
    alone: _Samples = []
    for kind in session.options.databases:
        reads: _Samples = []
        wired: _Samples = []
        for _ in range(session.options.rounds):
            echo.append(await session.run("MCP: echo on the bare SDK", "mcp", serve="echo", calls=calls))
            alone.append(await session.run("MCP: our server alone", "mcp", serve="alone", calls=calls))
            for serve, samples in (("core", reads), ("wire", wired)):
                url = await session.new_database(kind)
                place = {"url": url, "folder": str(session.storage.new_folder("data"))}
                samples.append(await session.run(f"{LABELS[kind]}: MCP", "mcp", serve=serve, calls=calls, **place))
                await session.drop(url)
        for mount in _MOUNTS:
            session.add(*_figures("get-record", LABELS[kind], mount, reads, echo))
            session.add(*_figures("get-record over gRPC's wire", LABELS[kind], mount, wired, echo, aimed=False))
    for mount in _MOUNTS:
        session.add(*_figures("the MCP server alone", "", mount, alone, echo))


def _figures(
    what: str, database: str, mount: str, samples: _Samples, echoes: _Samples, *, aimed: bool = True
) -> list[Figure]:
    def figure(of: str, key: str, unit: str, *, beyond: bool = False, aim: Aim | None = None) -> Figure:
        floor = median(one[mount][key] for one in echoes)
        found = tuple(one[mount][key] - floor * beyond for one in samples)
        name = f"{what} by {_MOUNTS[mount]}, 16 at once, {of}"
        return Figure("mcp", name, database, median(found), unit, f"{unit}, echo on the bare SDK", floor, aim, found)

    return [
        figure("p50", "p50", "ms"),
        figure("p50 beyond the echo's", "p50", "ms", beyond=True, aim=_AIM if aimed else None),
        figure("p99", "p99", "ms"),
        figure("calls", "per_second", "calls/s"),
        figure("CPU", "cpu", "us/call"),
    ]
