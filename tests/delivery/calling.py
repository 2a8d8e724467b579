"""Calls handlers as the pipeline does, each in a transaction of its own, on the hand-turned clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.rpc.call import Call, Caller, Parts
from core.settings import Settings
from tests.delivery.conftest import ORG, Outbox


@dataclass
class Engine:
    """Stands where the engine is told how awaited messages ended."""

    told: list[Any] = field(default_factory=list)

    async def ended(self, _tx: Any, finals: Any) -> None:
        self.told += finals


@dataclass
class Calls:
    """Handlers, called for one organization or another."""

    outbox: Outbox
    sender: Any
    engine: Engine = field(default_factory=Engine)
    key_id: str = ""
    parts: Parts = field(init=False)

    def __post_init__(self) -> None:
        settings = Settings(database_url="", data_dir=Path())
        self.parts = Parts(
            self.outbox.database,
            self.outbox.clock,
            settings,
            self.engine,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            self.sender,
        )

    def call(self, org: str = ORG, tx: Any = None) -> Call:
        """Return an admitted call."""
        caller = Caller(org, "key_1", "service", "test", frozenset(), key_id=self.key_id)
        return Call(caller, self.outbox.clock.now(), self.parts, "req_1", {}, tx)

    async def __call__(self, handler: Any, request: Any, org: str = ORG) -> Any:
        """Call a handler in a transaction of its own."""
        async with self.outbox.database.write(org) as tx:
            return await handler(request, self.call(org, tx))
