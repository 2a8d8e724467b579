"""Other engines on the same server in the same run, each in its own environment and with its own way of working."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.bench import prepared
from tests.bench.figures import Aim, Figure
from tests.bench.parts.engine import steps_per_second
from tests.bench.session import LABELS, Session

_PROGRAMS = Path(__file__).parents[1] / "peers"
PACKAGES = ("dbos", "pgqueuer", "procrastinate")


@dataclass(frozen=True, slots=True)
class Peer:
    """One way of using one other engine."""

    package: str
    program: str
    kind: str
    mode: str
    spoken: str
    unit: str
    aim: float | None = None
    """So many times as many steps a second as it."""
    asleep: bool = False
    """With as many sleepers as the engine has."""
    jobs_a_second: int = 2_000
    """More than it does; so many are there to be done."""


PEERS = (
    Peer("dbos", "dbos_steps", "sqlite", "default", "DBOS as it comes", "durable steps/s", 40),
    Peer("dbos", "dbos_steps", "sqlite", "wal", "DBOS, WAL and FULL", "durable steps/s", 40),
    Peer("dbos", "dbos_steps", "postgresql", "default", "DBOS", "durable steps/s", 40),
    Peer("pgqueuer", "pgqueuer_jobs", "postgresql", "empty", "PgQueuer, empty jobs", "jobs/s", jobs_a_second=30_000),
    Peer("pgqueuer", "pgqueuer_jobs", "postgresql", "row", "PgQueuer, one row a job", "jobs/s", 1, False, 15_000),
    Peer("pgqueuer", "pgqueuer_jobs", "postgresql", "row", "PgQueuer, one row a job", "jobs/s", 1, True, 15_000),
    Peer("procrastinate", "procrastinate_jobs", "postgresql", "row", "Procrastinate, one row a job", "jobs/s"),
    Peer(
        "procrastinate", "procrastinate_jobs", "postgresql", "row", "Procrastinate, one row a job", "jobs/s", None, True
    ),
)


async def measure(session: Session) -> None:
    """Measure each peer, and the engine right before it."""
    python = session.options.peers_python
    if not python.exists():
        session.report.left_out.append("peers: their environment is not there; `make bench-peers` installs it")
        return
    installed = versions(python)
    for peer in PEERS:
        if peer.kind in session.options.databases:
            made = await prepared.get(session, peer.kind)
            ours = steps_per_second(await made.drain("engine, beside a peer"))
            told = await _run(session, peer, str(python))
            aim = None if peer.aim is None else Aim("ratio", ">=", peer.aim)
            against = f"{peer.unit} of {peer.package} {installed[peer.package]}"
            asleep = f", {session.options.sleepers:,} asleep" if peer.asleep else ""
            what = f"steps, against {peer.spoken}{asleep}"
            session.add(Figure("peers", what, made.label, ours, "steps/s", against, told["per_second"], aim))


async def _run(session: Session, peer: Peer, python: str) -> dict[str, Any]:
    """Run one peer's program on an empty database of its own."""
    url = await session.new_database(peer.kind)
    seconds = session.options.peer_seconds
    told = await session.run_program(
        f"{LABELS[peer.kind]}: {peer.spoken}",
        [
            python,
            str(_PROGRAMS / f"{peer.program}.py"),
            session.storage.administrator_of(url) if peer.kind == "postgresql" else url,
            *("--mode", peer.mode, "--seconds", str(seconds)),
            *("--jobs", str(round(peer.jobs_a_second * seconds))),
            *("--sleepers", str(session.options.sleepers if peer.asleep else 0)),
        ],
    )
    await session.drop(url)
    return told


@cache
def versions(python: Path) -> dict[str, str]:
    """Return the version of each peer in its environment."""
    code = (
        "import importlib.metadata as m, json, sys; "
        f"print(json.dumps({{name: m.version(name) for name in {PACKAGES!r}}}))"
    )
    told = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))
