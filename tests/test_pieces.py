"""Long work in pieces: whoever else runs in the process has a turn between them, and nothing is left out."""

from __future__ import annotations

import asyncio

import pytest

from core.pieces import AT_ONCE, in_pieces

pytestmark = pytest.mark.anyio


async def test_others_have_their_turn_after_every_few_items(anyio_backend: str) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while turns < 3:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    met = [(item, turns) async for item in in_pieces(range(3 * AT_ONCE))]
    await running
    assert met == [(item, item // AT_ONCE) for item in range(3 * AT_ONCE)]
