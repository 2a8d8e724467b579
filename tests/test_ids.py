"""Ids: no two are the same, not in two threads, not in a process and its fork."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from core import ids

_AT = datetime(2026, 3, 1, tzinfo=UTC)

_FORKS = """
import os
from datetime import UTC, datetime
from core import ids

at = datetime(2026, 3, 1, tzinfo=UTC)
ids.mint("evt", at)  # more are drawn by now than were asked for
if child := os.fork():
    os.waitpid(child, 0)
print(*(ids.mint("evt", at) for _ in range(2_000)), flush=True)
"""


def _some() -> list[str]:
    return [ids.mint("evt", _AT) for _ in range(2_000)]


def test_no_two_threads_mint_the_same() -> None:
    with ThreadPoolExecutor(4) as threads:
        minted = [one for some in threads.map(lambda _: _some(), range(8)) for one in some]
    assert len(set(minted)) == len(minted)


def test_a_fork_goes_its_own_way() -> None:
    # A process of its own: this one has threads, whose locks a fork would keep for ever.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    forking = [sys.executable, "-c", _FORKS]
    told = subprocess.run(forking, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    minted = told.split()
    assert len(minted) == 4_000
    assert len(set(minted)) == len(minted)
