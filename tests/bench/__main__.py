"""`make bench`: what the engine costs, each figure as a ratio to floors and peers measured in the same run."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.bench import document, machine, options, storage
from tests.bench.figures import Report
from tests.bench.options import Options
from tests.bench.parts import (
    calls,
    engine,
    events,
    fairness,
    floors,
    leads,
    mcp,
    peers,
    restart,
    scale,
    simulation,
    webhooks,
    workers,
)
from tests.bench.session import JobFailed, Session
from tests.bench.storage import Storage

MEASURE: dict[str, Callable[[Session], Awaitable[None]]] = {
    "floors": floors.measure,
    "engine": engine.measure,
    "workers": workers.measure,
    "peers": peers.measure,
    "restart": restart.measure,
    "fairness": fairness.measure,
    "events": events.measure,
    "calls": calls.measure,
    "mcp": mcp.measure,
    "leads": leads.measure,
    "simulation": simulation.measure,
    "webhooks": webhooks.measure,
    "endpoints": webhooks.measure_fairness,
    "scale": scale.measure,
}

_PIPED_WIDTH = 190


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; return 1 when a part could not be measured. Aims that are not met are told, no failure."""
    chosen = options.read(arguments)
    console = Console(stderr=True)
    with storage.opened(chosen) as where:
        report = asyncio.run(_measure(chosen, where, console))
        _tell(report, chosen, console)  # before anything can go wrong with databases that nobody needs any more
    return 1 if any("failed" in line for line in report.left_out) else 0


def _tell(report: Report, chosen: Options, console: Console) -> None:
    if chosen.as_json:
        print(json.dumps(report.as_json()))
    else:
        Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(report.table())
    for line in report.left_out:
        console.print(f"[yellow]not measured[/] {line}")


async def _measure(chosen: Options, where: Storage, console: Console) -> Report:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        session = Session(chosen, where, progress)
        session.report.machine = await machine.describe(session)
        parts = progress.add_task("bench", total=len(chosen.parts))
        for part in chosen.parts:
            progress.update(parts, description=f"bench: {part}")
            try:
                await MEASURE[part](session)
            except JobFailed as failure:
                session.report.left_out.append(f"{part}: failed, {failure}")
            progress.advance(parts)
            if chosen.write_docs:  # whatever becomes of the parts that follow
                document.write(_so_far(session), chosen.peers_python)
    return _so_far(session)


def _so_far(session: Session) -> Report:
    return replace(session.report, figures=[*floors.figures(session), *session.report.figures])


if __name__ == "__main__":
    sys.exit(main())
