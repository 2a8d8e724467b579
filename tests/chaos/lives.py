"""A warm process that forks one short life of a dispatcher after another; each kills itself at a given await.

`python -m tests.chaos.lives` reads an order a line and answers each with what became of the life, a line as well.
A fork of a process that has imported everything costs milliseconds where a new one costs a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core import collector, logging_setup
from core.clock import ManualClock
from core.store.database import Database
from tests.chaos.awaits import Awaits
from tests.chaos.batch import carry_out, dispatching, sending


@dataclass(frozen=True, slots=True)
class Ended:
    """How a life ended."""

    killed: bool
    """False when everything was sent before the fatal moment came."""
    moments: int
    """How many had been lived through."""
    now: datetime
    """What its clock said."""
    phase: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Lives:
    """The warm process, from outside."""

    process: subprocess.Popen[str]
    errors: Any

    async def live(self, database_url: str, now: datetime, fatal: int, at_once: int) -> Ended:
        """Run a dispatcher that ends itself at this moment, and wait until it is over."""
        order = {"database_url": database_url, "now": now.isoformat(), "fatal": fatal, "at_once": at_once}
        return await asyncio.to_thread(self._live, order)

    def _live(self, order: dict[str, Any]) -> Ended:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(order), file=self.process.stdin, flush=True)
        told: dict[str, Any] = {}
        while "exit_code" not in told:
            line = self.process.stdout.readline()
            assert line, self._said()
            told |= json.loads(line)
        exit_code = told.pop("exit_code")
        assert exit_code == (-9 if told.get("killed") else 0), f"it ended with {exit_code}:\n{self._said()}"
        return Ended(**told | {"now": datetime.fromisoformat(told["now"])})

    def _said(self) -> str:
        self.errors.seek(0)
        return str(self.errors.read()[-3000:])


@contextlib.contextmanager
def warm() -> Iterator[Lives]:
    """Run the process that lives are forked from."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.lives"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:  # it ends with its input
            yield Lives(process, errors)


def main() -> None:
    """Fork a life for every order, and tell when it is over."""
    logging_setup.configure("critical")
    collector.look_less()
    for line in sys.stdin:
        if not (life := os.fork()):
            _live(json.loads(line))
        _, status = os.waitpid(life, 0)
        _say(exit_code=os.waitstatus_to_exitcode(status))


def _say(**what: Any) -> None:
    os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


def _live(order: dict[str, Any]) -> None:
    """Live, and never come back."""
    clock = ManualClock(datetime.fromisoformat(order["now"]))

    def say(killed: bool, phase: str, place: str) -> None:
        _say(killed=killed, moments=awaits.count, now=clock.now().isoformat(), phase=phase, place=place)

    awaits = Awaits(order["fatal"], lambda phase, place: say(True, phase, place))
    exit_code = 1
    try:
        # Not uvloop, which writes a moment later: here what is waited for has left when the wait begins.
        with asyncio.Runner() as runner:
            runner.get_loop().set_task_factory(awaits.task_factory)
            runner.run(_dispatch(order["database_url"], clock, awaits, order["at_once"]))
        say(False, "", "")
        exit_code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(exit_code)


async def _dispatch(database_url: str, clock: ManualClock, awaits: Awaits, at_once: int) -> None:
    database, sender = await Database.open(database_url, clock), sending()
    try:
        awaits.armed = True
        hardly_begun = dispatching(database, sender, clock, at_once)
        await hardly_begun.turn()
        await hardly_begun.stop(0)  # what it has claimed and not begun to send is given back
        await carry_out(dispatching(database, sender, clock, at_once), clock)
        awaits.armed = False
    finally:
        await sender.close()
        await database.close()


if __name__ == "__main__":
    main()
