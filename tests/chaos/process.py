"""A process of the product inside this one: its parts are real, its loops are turned by hand, and it can die."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from core import logging_setup
from core.bootstrap import Core
from core.clock import ManualClock
from core.rpc.methods import Method
from core.settings import Settings
from tests.chaos.faults import Faults


class Process:
    """A core without servers: calls enter by its pipeline, where every adapter enters."""

    core: Core

    def __init__(self, database_url: str, data_dir: Path, clock: ManualClock):
        self.faults = Faults()
        self._settings = Settings(
            database_url=database_url,
            data_dir=data_dir,
            roles=frozenset(),
            allowed_destinations=(ip_network("127.0.0.0/8"),),
            requests_per_second=1e9,
            drain_seconds=0,
        )
        self._clock = clock
        self._methods: Mapping[str, Method] = {}

    async def start(self) -> None:
        """Start, as after a power cut: nothing is left in memory. Nobody else may be sending."""
        logging_setup.configure("critical")  # it says a lot about what is broken on purpose
        self.faults.off = False
        self.faults.disarm()
        self.core = await Core.open(self._settings, self._clock)
        await self.core.join()
        await self.faults.attach(self.core.database)
        await self.core.outward.dispatcher.recover()
        await self.core.outward.mailer.recover()
        self._methods = {method.name: method for method in self.core.outward.methods}

    async def stop(self) -> None:
        """Stop in order."""
        await self.core.stop()

    async def die(self) -> None:
        """End without another word to the database; only what the operating system would close is closed."""
        self.faults.off = True
        core, sender = self.core, self.core.parts.webhook_sender
        sending = (core.outward.dispatcher, core.outward.mailer)
        for ending in (*(one.stop(0) for one in sending), sender.close(), core.database.close()):
            with contextlib.suppress(Exception):
                await ending
        for lock in core.locks:
            lock.close()

    async def call(self, name: str, request: Message, key: str) -> Any:
        """Make one call and return the answer. Raises DripstoneError."""
        reply = await self.core.outward.pipeline.unary(self._methods[name], request, {"authorization": f"Bearer {key}"})
        return reply.message

    async def match(self) -> int:
        """Turn the loop that carries events."""
        return await self.core.matcher.turn()

    async def tick(self) -> int:
        """Turn the loop that carries time."""
        return await self.core.ticker.turn()

    async def deliver(self) -> int:
        """Turn the loops that carry what leaves."""
        return await self.core.outward.dispatcher.drain() + await self.core.outward.mailer.drain()
