"""docs/benchmarks.md and its plot, written from one run: every figure with what it was measured against."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

from tests.bench.figures import Figure, Report, quantity

_ROOT = Path(__file__).parents[2]
PAGE = _ROOT / "docs" / "benchmarks.md"
PLOT = _ROOT / "docs" / "benchmarks.svg"

_TITLES = {
    "floors": "Floors: what the databases do by themselves",
    "engine": "Engine",
    "workers": "Two workers",
    "restart": "Restart",
    "fairness": "Fairness",
    "events": "Events",
    "calls": "Calls",
    "mcp": "Tool calls over MCP",
    "leads": "Files and scores",
    "simulation": "Simulation",
    "webhooks": "Webhooks",
    "endpoints": "Good receivers beside bad ones",
    "peers": "Beside other engines",
    "scale": "Many sleepers",
}

_INTRODUCTION = """\
# Benchmarks

Written by `{command}`; do not edit. Every figure stands beside a floor or a peer that was measured in the same run, on
the same databases with the same durability. Believe the ratios; the figures themselves belong to one machine.
"""

_REPEAT = """\
## Repeat it

```sh
make bench-peers                      # once: DBOS, PgQueuer and Procrastinate in an environment of their own
make bench ARGS="--quick"             # a few minutes, 50,000 sleepers
make bench ARGS="engine events"       # some parts; `make bench ARGS=--help` lists them
make bench ARGS="all --write-docs"    # everything, and this page
```

Put the databases on the storage that you mean to use with `--folder`. A virtual disk whose speed depends on credit
cannot be a baseline; `--folder /dev/shm --fsync-ms 1` keeps them in memory and lets every fsync, of both databases and
of every peer, take one millisecond, as on a network volume. Five million sleepers on PostgreSQL take 40 GB:
`--scale-folder` puts them on a disk.
"""

_METHOD = """\
## How it is measured

- **Work.** A move ends a wait, takes a branch by a CEL expression, updates two fields of the contact, renders a line
  into the log and begins the next wait: four steps, carried out by the same ticker that `dripstone serve` runs. Row
  writes are counted by the database. Nothing is left out: facts are loaded, changes recorded, traces written.
- **Sleepers.** Copies, made by the database, of an enrollment that came in through the API, each with its own contact
  and e-mail address. They stand in the same tables and indexes as those that are moved.
- **Floors.** One connection, rows of 145 bytes under an integer key. SQLite in WAL mode with `synchronous=FULL`,
  as durable as Dripstone's own commits, which wait for the disk by the same call, one after the other; the engine
  decides its next batch meanwhile. PostgreSQL with `synchronous_commit=on`.
- **Rounds.** Floor and case take turns; the median is told, and the range where there are several rounds. Every case is
  a process of its own. Clients and servers share the cores.
- **With and without sleepers.** Two databases that were filled in the same way, and in which everybody was moved once
  after the last checkpoint: a page that is written to for the first time after one is logged whole, which no figure
  here contains. They take turns, and are vacuumed before each.
- **Restart.** From the start of opening the database, and from `exec` of the process, which adds Python's imports.
  Its modules are compiled already, as those of whatever was installed or started before.
- **Events.** Posted one after the other through the same path as `IngestEvent`, from before the event is written to the
  commit of the next step; the engine's loops run in the same process. The matcher begins while the event is still on
  its way to the disk.
- **Tool calls.** `get-record` over streamable HTTP, 16 connections that are kept, each with its next call when the last
  one is answered: MCP to the core to a small read, everything in one process, as `dripstone serve` runs it; and once
  more with gRPC's wire in between, as `dripstone mcp` has it. Beside it, in the same run and with the same web server,
  a server of the bare SDK whose only tool returns its argument; and our MCP server alone, before a core that answers
  at once. The load is a process of its own. `/mcp` answers in JSON, `/mcp/interactive` in streams; each against the
  SDK's answer of the same form. The aim is for the overhead: what a call takes beyond the echo.
- **Peers.** Each on an empty database of the same server; the engine is measured again right before each. DBOS: a
  workflow of three trivial steps, eight threads, each step checkpointed; on SQLite as it comes, and with the journal
  that Dripstone uses. PgQueuer: batches of 256. Procrastinate: 32 jobs at once. An empty job does nothing but be
  logged; `one row a job` writes one history row, as a durable step must.
- **What the comparison is not.** DBOS runs any code, and a queue's job may do anything; Dripstone moves
  enrollments through steps that are data, many in one transaction. The ratios tell what this kind of product gets
  from each, not which engine is better.
"""


def write(report: Report, python: Path) -> list[Path]:
    """Write the page and, where matplotlib is installed, the plot; return what was written."""
    PAGE.parent.mkdir(exist_ok=True)
    plotted = _plot(report, python)
    PAGE.write_text(page(report, plotted=plotted))
    return [PAGE, PLOT] if plotted else [PAGE]


def page(report: Report, *, plotted: bool) -> str:
    """Return the page."""
    machine = {**report.machine}
    blocks = [_INTRODUCTION.format(command=machine.get("command", "make bench"))]
    blocks.append("\n".join(["| | |", "|---|---|", *(f"| {name} | {told} |" for name, told in machine.items())]) + "\n")
    if plotted:
        blocks.append(f"![Steps a second beside peers, and how far each figure is from its aim]({PLOT.name})\n")
    for part, figures in itertools.groupby(report.figures, key=lambda figure: figure.part):
        blocks.append(f"## {_TITLES[part]}\n\n{_table(list(figures))}")
    if report.left_out:
        blocks.append("## Not measured\n\n" + "".join(f"- {line.splitlines()[0]}\n" for line in report.left_out))
    return "\n".join([*blocks, _REPEAT, _METHOD])


def _table(figures: list[Figure]) -> str:
    if not any(figure.against or figure.aim for figure in figures):
        rows = ["| what | database | figure |", "|---|---|---:|"]
        return "\n".join([*rows, *(f"| {f.what} | {f.database} | {_value(f)} |" for f in figures)]) + "\n"
    rows = ["| what | database | figure | against | ratio | aim |", "|---|---|---:|---|---:|---|"]
    for figure in figures:
        what, database, _, against, ratio, aim = figure.spoken()
        rows.append(f"| {what} | {database} | {_value(figure)} | {against} | {ratio} | {aim} |")
    return "\n".join(rows) + "\n"


def _value(figure: Figure) -> str:
    told = f"{quantity(figure.value)} {figure.unit}"
    if len(figure.samples) < 2:
        return told
    return f"{told} ({quantity(min(figure.samples))} to {quantity(max(figure.samples))})"


def _plot(report: Report, python: Path) -> bool:
    """Draw the plot with the matplotlib of the peers' environment."""
    if not python.exists():
        report.left_out.append("plot: matplotlib is in the peers' environment; `make bench-peers` installs it")
        return False
    program = Path(__file__).with_name("plot.py")
    drawn = subprocess.run(
        [str(python), str(program), str(PLOT)], input=json.dumps(report.as_json()), text=True, capture_output=True
    )
    if drawn.returncode:
        report.left_out.append(f"plot: failed, {drawn.stderr.strip()[-300:]}")
    return drawn.returncode == 0
