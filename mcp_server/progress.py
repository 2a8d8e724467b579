"""How far a call is, told to a client that asked to be told."""

from __future__ import annotations

from mcp.server.session import ServerSession


class Progress:
    """What a tool tells of its progress through; a tool takes it as a parameter that is no argument of its callers."""

    def __init__(self, session: ServerSession | None = None) -> None:
        """Tell the client of a request, by its session; nobody without one."""
        self._session = session
        self._told = -1.0

    async def tell(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell that so much is done. Nothing is sent to who did not ask, nor where less is done than told before."""
        if self._session is None or done <= self._told:
            return
        self._told = done
        await self._session.report_progress(done, total, message or None)
