"""One run under way: starts measured processes, shows how they get on, and keeps the figures."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from tests.bench.figures import Figure, Report
from tests.bench.options import Options
from tests.bench.storage import Storage

LABELS = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
_LONGEST_LINE = 1 << 24


class JobFailed(Exception):
    """A measured process ended without a result."""


@dataclass(slots=True)
class Session:
    """What the parts of a run share."""

    options: Options
    storage: Storage
    progress: Progress
    report: Report = field(default_factory=Report)
    prepared: dict[str, Any] = field(default_factory=dict)
    """Kind of database to the populated one, which several parts use in turn."""
    _floor_urls: dict[str, str] = field(default_factory=dict)
    _floors: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    async def new_database(self, kind: str, like: str = "") -> str:
        """Return the address of an empty database, or of a copy of one at rest."""
        return await asyncio.to_thread(self.storage.new_database, kind, like)  # makes it in a loop of its own

    async def drop(self, url: str) -> None:
        """Remove a database."""
        await asyncio.to_thread(self.storage.drop, url)

    async def run(self, title: str, job: str, **spec: Any) -> dict[str, Any]:
        """Run one job in a process of its own and return its result. Raises JobFailed."""
        return (await self.run_together(title, [{"job": job, **spec}]))[0]

    async def run_together(self, title: str, specs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run jobs in processes of their own that all begin at the same moment. Raises JobFailed."""
        commands = [[sys.executable, "-m", "tests.bench.child", json.dumps(spec)] for spec in specs]
        return await self._run(title, commands)

    async def run_program(self, title: str, command: Sequence[str]) -> dict[str, Any]:
        """Run a program that speaks as measured processes do and return its result. Raises JobFailed."""
        return (await self._run(title, [list(command)]))[0]

    async def _run(self, title: str, commands: Sequence[list[str]]) -> list[dict[str, Any]]:
        task = self.progress.add_task(title, total=None)
        children = [_Child(command, self.storage.environment(), self.progress, task) for command in commands]
        try:
            for child in children:
                await child.start()
            await asyncio.gather(*(child.until_ready() for child in children))
            for child in children:
                child.go()
            return await asyncio.gather(*(child.result() for child in children))
        finally:
            await asyncio.gather(*(child.end() for child in children))
            self.progress.remove_task(task)

    async def floor(self, kind: str, name: str) -> float:
        """Measure a floor once more and return the median of its samples so far, in its unit a second."""
        url = self._floor_urls.get(kind) or await self.new_database(kind)
        self._floor_urls[kind] = url
        sample = await self.run(
            f"{LABELS[kind]}: floor, {name}", "floors", url=url, floor=name, seconds=self.options.floor_seconds
        )
        samples = self._floors.setdefault((kind, name), [])
        samples.append(sample["per_second"])
        return statistics.median(samples)

    def floor_samples(self, kind: str, name: str) -> tuple[float, ...]:
        """Return every sample of a floor so far."""
        return tuple(self._floors.get((kind, name), ()))

    def add(self, *figures: Figure) -> None:
        """Keep figures."""
        self.report.figures.extend(figures)


class _Child:
    """One measured process."""

    def __init__(self, command: list[str], environment: dict[str, str], progress: Progress, task: TaskID):
        self._command = command
        self._environment = environment
        self._progress = progress
        self._task = task
        self._result: dict[str, Any] | None = None
        self._ended = False
        self._started = 0.0
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        self._started = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment,
            cwd=Path(__file__).parents[2],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
        )
        self._errors = asyncio.create_task(self._process.stderr.read())  # type: ignore[union-attr]

    async def until_ready(self) -> None:
        """Return when the process waits for the word, or has ended without asking for it."""
        await self._read_until("ready")

    def go(self) -> None:
        assert self._process.stdin is not None
        if not self._ended:
            self._process.stdin.write(b"go\n")

    async def result(self) -> dict[str, Any]:
        """Return what it found out, with the monotonic instant it was started at. Raises JobFailed."""
        if not self._ended:
            await self._read_until("result")
        if self._result is None:
            errors = (await self._errors).decode(errors="replace")
            raise JobFailed(f"{' '.join(self._command)[:300]}\n{errors[-4000:]}")
        return {**self._result, "spawned": self._started}

    async def _read_until(self, key: str) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if not line.startswith(b"{"):
                continue  # a library's own chatter
            told = json.loads(line)
            if "result" in told:
                self._result = told["result"]
                break
            if "done" in told:
                self._progress.update(self._task, completed=told["done"], total=told.get("total"))
            if key in told:
                return
        self._ended = True

    async def end(self) -> None:
        """See it off, whatever state it is in."""
        process = getattr(self, "_process", None)
        if process is None:
            return
        try:
            await asyncio.wait_for(process.wait(), 15 if self._result is not None else 0.1)
        except TimeoutError:
            process.kill()
            await process.wait()
        await self._errors
