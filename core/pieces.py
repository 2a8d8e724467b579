"""Long work in pieces, between which whoever else runs in this process has a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

AT_ONCE = 8
"""Of what a batch has: a few hundred microseconds of work, so that no call waits for a whole batch."""

_T = TypeVar("_T")


async def in_pieces(items: Iterable[_T]) -> AsyncIterator[_T]:
    """Hand out items one by one; after every few of them, others have their turn."""
    for number, item in enumerate(items):
        if number and number % AT_ONCE == 0:
            await asyncio.sleep(0)
        yield item
