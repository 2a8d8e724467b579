"""Long work in pieces, between which whoever else runs in this process has a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

AT_ONCE = 8
"""Of what a batch has: a few hundred microseconds of work, so that no call waits for a whole batch."""
LIGHT_AT_ONCE = 32
"""The same of what takes a few microseconds each, such as making rows of what was decided."""

_T = TypeVar("_T")


async def in_pieces(items: Iterable[_T], at_once: int = AT_ONCE) -> AsyncIterator[list[_T]]:
    """Hand out items, a few at a time; between two pieces others have their turn."""
    rest = iter(items)
    piece = list(islice(rest, at_once))
    while piece:
        yield piece
        piece = list(islice(rest, at_once))
        if piece:
            await asyncio.sleep(0)
