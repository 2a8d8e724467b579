"""Carrying work out in a transaction, and again when it failed only because of others that ran beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from core.store.database import Database, may_pass_again
from core.store.transaction import Transaction

_T = TypeVar("_T")

_TRIES = 4
"""How often work is carried out when others running beside it made its transaction fail; it left nothing behind."""


async def written(database: Database, org_id: str, work: Callable[[Transaction], Awaitable[_T]]) -> _T:
    """Return what work in a transaction of one organization returns, once that is committed."""
    for left in range(_TRIES - 1, -1, -1):
        try:
            async with database.write(org_id) as tx:
                return await work(tx)
        except Exception as error:
            if not left or not may_pass_again(error):
                raise
    raise AssertionError("the last try returns or raises")
