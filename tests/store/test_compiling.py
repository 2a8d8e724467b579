"""A document is checked beside the loops: whoever else is served does not wait for it."""

from __future__ import annotations

import asyncio

import pytest

from core.store.workflows import compiling

pytestmark = pytest.mark.anyio


async def test_others_have_their_turn_while_a_document_is_checked() -> None:
    steps = [{"id": f"s{number}", "kind": "filter", "when": f"vars.n > {number}"} for number in range(30)]
    document = {"title": "Long", "variables": {"n": "integer"}, "steps": steps}
    work = asyncio.ensure_future(compiling.compiled(document, workflow_id="w", number=7))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    version = work.result().version
    assert version is not None
    assert (version.workflow_id, version.number, len(version.steps)) == ("w", 7, 30)
    assert turns > 3
