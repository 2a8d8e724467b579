"""What a run measures, and how much of it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

PARTS = (
    "floors",
    "engine",
    "workers",
    "peers",
    "restart",
    "fairness",
    "events",
    "calls",
    "mcp",
    "leads",
    "simulation",
    "webhooks",
    "endpoints",
    "scale",
)
"""Every part, in the order in which a run goes through them."""
MOST_ROUNDS = 12
"""Each takes some hours of the database's clock, and the floods come due on its sixth day."""

_SUMMARIES = """parts:
  floors     what the databases do by themselves: rows, commits and round trips a second
  engine     steps and row writes a second, loop lag, memory and bytes a sleeper, WAL and CPU a step
  workers    two worker processes against one (PostgreSQL)
  peers      DBOS, PgQueuer and Procrastinate on the same server; `make bench-peers` installs them first
  restart    from process start to the first step committed
  fairness   how long a small organization waits while another has a flood of due rows
  events     from an event's arrival to the next step committed, with an idle and with a busy engine
  calls      bulk enrollment and reads over gRPC
  mcp        a tool call that reads a record, beside a tool of the bare SDK that echoes
  leads      100,000 contacts from a file, and as many leads scored
  simulation workflows tried on 10,000 contacts for 90 days
  webhooks   deliveries beside a bare loop of POSTs, plain and over TLS; from commit to first attempt
  endpoints  how long healthy endpoints wait while others hang, fail or have dead names
  scale      the engine with 100,000 and with 5,000,000 sleepers; only when named, or with all
"""


@dataclass(frozen=True, slots=True)
class Options:
    """One run."""

    parts: tuple[str, ...]
    databases: tuple[str, ...]
    sleepers: int
    """Enrollments in the table that are not due; the floods are among them."""
    flood: int
    """Enrollments that come due at once, for the fairness part and again for the events part."""
    movers: int
    """Enrollments that come due once an hour and are moved."""
    rounds: int
    """Of each case, its floor measured anew in every one; the median is told."""
    seconds: float
    """The longest that one engine case runs."""
    floor_seconds: float
    events: int
    rows: int
    """Of the file that is imported, and leads that are scored."""
    simulated: int
    """Contacts that a workflow is tried on."""
    deliveries: int
    """Webhooks that are due at once."""
    endpoints: int
    """Receivers of the endpoints part; three tenths of them are bad."""
    peer_seconds: float
    few: int
    many: int
    """Sleepers of the scale part."""
    folder: Path | None
    """Where the databases live; a temporary folder by default."""
    scale_folder: Path | None
    """Where those of the scale part live; with the others by default."""
    fsync_micros: int
    """The least that an fsync takes; 0 leaves it as it is."""
    peers_python: Path
    as_json: bool
    write_docs: bool
    quick: bool


def read(arguments: list[str] | None = None) -> Options:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="What the engine costs, as ratios to floors and peers measured in the same run.",
        epilog=_SUMMARIES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="part", help="which parts; all but scale by default; `all` for all")
    parser.add_argument("--quick", action="store_true", help="50,000 sleepers and a few seconds a part")
    parser.add_argument("--database", choices=("both", "sqlite", "postgresql"), default="both")
    parser.add_argument("--sleepers", type=int, help="sleeping enrollments; 1,000,000 by default")
    parser.add_argument("--rounds", type=int, help="rounds of each case; 3 by default")
    parser.add_argument("--seconds", type=float, help="longest time of one engine case; 10 by default")
    parser.add_argument("--few", type=int, help="sleepers of the scale part, few; 100,000 by default")
    parser.add_argument("--many", type=int, help="sleepers of the scale part, many; 5,000,000 by default")
    parser.add_argument("--folder", type=Path, help="where the databases live, such as /dev/shm")
    parser.add_argument(
        "--scale-folder", type=Path, help="where those of the scale part live: five million on PostgreSQL take 40 GB"
    )
    parser.add_argument("--fsync-ms", type=float, default=0.0, help="least time of an fsync (Linux, needs cc)")
    parser.add_argument("--peers-python", type=Path, default=Path(".venv-peers/bin/python"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.md and its plot")
    given = parser.parse_args(arguments)
    if unknown := [part for part in given.parts if part not in (*PARTS, "all")]:
        parser.error(f"there is no part {unknown[0]}; the parts are {', '.join(PARTS)} and all")
    if given.rounds is not None and not 1 <= given.rounds <= MOST_ROUNDS:
        parser.error(f"--rounds is 1 to {MOST_ROUNDS}")
    return _sized(given)


def _sized(given: argparse.Namespace) -> Options:
    quick = given.quick
    sleepers = given.sleepers if given.sleepers is not None else (50_000 if quick else 1_000_000)
    return Options(
        parts=_parts(given.parts),
        databases=("sqlite", "postgresql") if given.database == "both" else (given.database,),
        sleepers=sleepers,
        flood=min(sleepers // 2, 20_000 if quick else 100_000),
        movers=min(max(sleepers, 1_000), 4_000 if quick else 40_000),
        rounds=given.rounds or (1 if quick else 3),
        seconds=given.seconds or (3.0 if quick else 10.0),
        floor_seconds=0.3 if quick else 1.0,
        events=min(max(sleepers // 20, 50), 100 if quick else 1_000),
        rows=2_000 if quick else 100_000,
        simulated=200 if quick else 10_000,
        deliveries=min(max(sleepers // 10, 200), 2_000 if quick else 20_000),
        endpoints=40 if quick else 100,
        peer_seconds=3.0 if quick else 15.0,
        few=given.few or (10_000 if quick else 100_000),
        many=given.many or (100_000 if quick else 5_000_000),
        folder=given.folder,
        scale_folder=given.scale_folder,
        fsync_micros=round(given.fsync_ms * 1000),
        peers_python=given.peers_python,
        as_json=given.json,
        write_docs=given.write_docs,
        quick=quick,
    )


def _parts(named: list[str]) -> tuple[str, ...]:
    if "all" in named:
        return PARTS
    chosen = named or [part for part in PARTS if part != "scale"]
    return tuple(part for part in PARTS if part in chosen)
