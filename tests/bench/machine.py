"""Where the figures come from: without it they mean nothing."""

from __future__ import annotations

import os
import platform
import shlex
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg

from tests.bench.session import Session
from tests.bench.storage import SERVER_SETTINGS


async def describe(session: Session) -> dict[str, str]:
    """Return what a reader must know about this machine and this run."""
    options = session.options
    told = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "command": _command(),
        "commit": _commit(),
        "processor": f"{_processor()}, {os.cpu_count()} cores, shared by clients and servers",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "databases in": session.storage.describe(),
        "SQLite": f"{sqlite3.sqlite_version}, WAL, every commit waits for the disk",
        "sizes": f"{options.sleepers:,} asleep, {options.movers:,} due an hour, rounds of each case: {options.rounds}",
    }
    if session.storage.server:
        connection = await asyncpg.connect(session.storage.server)
        version = await connection.fetchval("SHOW server_version")
        await connection.close()
        given = os.environ.get("DRIPSTONE_TEST_DATABASE_URL")
        settings = "as it is configured" if given else ", ".join(f"{k} {v}" for k, v in SERVER_SETTINGS.items())
        told["PostgreSQL"] = f"{version}, {settings}"
    return told


def _command() -> str:
    """Return what repeats this run elsewhere: where the peers are installed here is nobody else's matter."""
    given = sys.argv[1:]
    if "--peers-python" in given:
        at = given.index("--peers-python")
        given = given[:at] + given[at + 2 :]
    return shlex.join(["make", "bench", *([f"ARGS={' '.join(given)}"] if given else [])])


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError):
        return "unknown"
