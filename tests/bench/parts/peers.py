"""Other engines on the same server in the same run, each in its own environment and with its own way of working."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.bench.figures import Aim, Figure
from tests.bench.parts import engine
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
    """Measure each peer, and the engine before them when this run has not yet."""
    python = session.options.peers_python
    if not python.exists():
        session.report.left_out.append("peers: their environment is not there; `make bench-peers` installs it")
        return
    installed = versions(python)
    if not all(session.report.find("engine", engine.STEPS, LABELS[kind]) for kind in session.options.databases):
        await engine.measure(session)
    for peer in PEERS:
        if peer.kind in session.options.databases:
            await _measure(session, peer, str(python), installed[peer.package])


async def _measure(session: Session, peer: Peer, python: str, version: str) -> None:
    ours = session.report.find("engine", engine.STEPS, LABELS[peer.kind])
    assert ours is not None
    made = await session.new_database(peer.kind)
    url = session.storage.administrator_of(made) if peer.kind == "postgresql" else made
    seconds = session.options.peer_seconds
    sleepers = session.options.sleepers if peer.asleep else 0
    told = await session.run_program(
        f"{LABELS[peer.kind]}: {peer.spoken}",
        [
            python, str(_PROGRAMS / f"{peer.program}.py"), url, "--mode", peer.mode, "--seconds", str(seconds),
            "--jobs", str(round(peer.jobs_a_second * seconds)), "--sleepers", str(sleepers),
        ],
    )  # fmt: skip
    await session.drop(made)
    asleep = f", {sleepers:,} asleep" if sleepers else ""
    session.add(
        Figure(
            "peers", f"steps, against {peer.spoken}{asleep}", LABELS[peer.kind], ours.value, "steps/s",
            f"{peer.unit} of {peer.package} {version}", told["per_second"],
            None if peer.aim is None else Aim("ratio", ">=", peer.aim), note=ours.note,
        )
    )  # fmt: skip


@cache
def versions(python: Path) -> dict[str, str]:
    """Return the version of each peer in its environment."""
    code = (
        "import importlib.metadata as m, json, sys; "
        f"print(json.dumps({{name: m.version(name) for name in {PACKAGES!r}}}))"
    )
    told = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(told.stdout))
