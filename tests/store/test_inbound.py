"""Reading what came to an inbound URL: a thousand messages in one request leave room for others."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from core.domain.inbound.mapping import MappingRules
from core.domain.inbound.request import Arrived
from core.domain.inbound.settings import stored_rules
from core.store.events import inbound

pytestmark = pytest.mark.anyio


async def test_others_are_served_between_the_messages_of_a_request() -> None:
    rules = MappingRules(event_name='"a.b"', fields=tuple((f"f{number}", "body.n") for number in range(20)))
    source = cast(Any, SimpleNamespace(id="shop", verifier=None, mapping=stored_rules(rules)))
    body = json.dumps([{"n": number} for number in range(200)]).encode()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    found = await inbound.read(source, Arrived(body, {"content-type": "application/json"}))
    task.cancel()
    assert [mapped.event.fields["f19"] for _, mapped in found if mapped.event and mapped.event.fields] == [*range(200)]
    assert turns >= 199
