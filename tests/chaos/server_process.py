"""A real `dripstone serve` process that a test may kill at any moment and start again on the same data."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from dripstone.v1.client import Client
from tests import warm


class ServerProcess:
    """Starts, kills and starts again; addresses and keys are found in connection.json, as every client finds them."""

    def __init__(self, data_dir: Path, database_url: str, *, roles: str = "grpc,http,engine,dispatcher,scheduler"):
        data_dir.mkdir(parents=True, exist_ok=True)
        self._data_dir = data_dir
        self._roles = roles
        self._database_url = database_url
        self._process: asyncio.subprocess.Process | None = None
        self._log = data_dir / "server.log"
        atexit.register(self._leave_nothing_running)

    async def start(self) -> None:
        """Start and wait until it serves."""
        before = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *warm.command(), "serve",
                "--data-dir", str(self._data_dir), "--db", self._database_url,
                "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                "--allow-destination", "127.0.0.0/8", "--roles", self._roles,
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
        async with asyncio.timeout(30):
            while b'"serving"' not in self._log.read_bytes()[before:]:
                if self._process.returncode is not None:
                    raise AssertionError(f"the server ended by itself:\n{self._log.read_text()[-3000:]}")
                await asyncio.sleep(0.02)

    def _leave_nothing_running(self) -> None:
        """End a process that a failed test left behind."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    @property
    def connection(self) -> dict[str, Any]:
        """Return what connection.json says."""
        return dict(json.loads((self._data_dir / "connection.json").read_text()))

    def client(self) -> Client:
        """Return a client of the process as it is now."""
        return Client(self.connection["grpc"], self.connection["api_key"])

    async def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.send_signal(warm.DIE_AT_ONCE)
        await self._process.wait()

    async def terminate(self) -> int:
        """Ask it to drain and return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            return await self._process.wait()
