"""Calls of the handlers of workflows, in an organization whose engine the test turns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.engine.driver import Entry
from core.rpc.call import Call, Caller, Parts
from core.store.workflows import workflows
from tests.engine.parts import ORG
from tests.engine.parts import Parts as Engine


async def call(engine: Engine, handler: Any, request: Any) -> Any:
    """Carry out a call in a transaction of its own."""
    nothing: Any = None  # neither the settings nor what leaves the process has a say
    parts = Parts(engine.database, engine.clock, nothing, engine.driver, engine.versions, nothing)
    caller = Caller(ORG, "key_1", "service", "Tests", frozenset())
    engine.clock.advance(timedelta(milliseconds=5))
    async with engine.database.write(ORG) as tx:
        return await handler(request, Call(caller, tx.now, parts, "r1", {}, _tx=tx))


async def enroll(engine: Engine, **variables: str) -> None:
    """Let one more contact enter the newest version."""
    contact = await engine.contact(f"c{len(await engine.enrolled())}@example.com")
    async with engine.database.write(ORG) as tx:
        row: Any = await workflows.get(tx, "w")
        version = await engine.versions.load(tx, ORG, "w", row.published_version)
        await engine.driver.enter(tx, ORG, version, [Entry(contact, "key_1", variables=variables)])
