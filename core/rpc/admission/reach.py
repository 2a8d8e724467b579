"""How far calls reach whose requests do not say it: the rows of a file, everything that one cause did, all that failed.

Handlers say here what one of their methods would touch now. Policies count it, and an approval is bound to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from core.domain.control.digest import digest
from core.domain.frozen import frozen
from core.rpc.call import Call


@frozen
class Reach:
    """What a call would touch."""

    count: int | None
    """How many; None where nobody can know it before."""
    matched: str = ""
    """The digest of what is matched now; empty where the request says it all."""

    @classmethod
    def of(cls, matched: list[Any], count: int | None = None) -> Reach:
        """Return the reach of a call that would touch these."""
        return cls(len(matched) if count is None else count, digest(matched))


Look = Callable[[Call, Any], Awaitable[Reach | None]]
"""Say how far a request reaches now; None where it says so itself."""

_KNOWN: dict[str, Look] = {}


def register(method: str, look: Look) -> None:
    """Say how far the requests of a method reach; called once where its handler is."""
    _KNOWN[method] = look


async def of(call: Call, method: str, request: object) -> Reach | None:
    """Return how far a request reaches; None where it says so itself."""
    look = _KNOWN.get(method)
    return await look(call, request) if look is not None and request is not None else None
