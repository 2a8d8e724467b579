"""How far a call is, told to a client that asked to be told."""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context


class Progress:
    """What a tool tells of its progress through; a tool takes it as a parameter that is no argument of its callers."""

    def __init__(self, context: Context[Any, Any] | None = None) -> None:
        """Tell the client of a request; nobody without one."""
        self._context = context
        self._told = -1.0

    async def tell(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell that so much is done. Nothing is sent to who did not ask, nor where less is done than told before."""
        if self._context is None or done <= self._told:
            return
        self._told = done
        await self._context.report_progress(done, total, message or None)
