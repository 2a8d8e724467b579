"""Long work in pieces: whoever else runs in the process has a turn between them, and nothing is left out."""

from __future__ import annotations

import asyncio

import pytest

from core.pieces import AT_ONCE, LIGHT_AT_ONCE, in_pieces

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("at_once", [AT_ONCE, LIGHT_AT_ONCE])
async def test_others_have_their_turn_after_every_few_items(at_once: int, anyio_backend: str) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while turns < 3:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    met = [(item, turns) async for piece in in_pieces(range(3 * at_once - 1), at_once) for item in piece]
    await running
    assert met == [(item, item // at_once) for item in range(3 * at_once - 1)]
