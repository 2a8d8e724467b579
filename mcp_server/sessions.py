"""Who has how many interactive sessions: nobody takes those of others away by opening all there may be."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import Message, Send

from mcp_server.callers import Caller

SESSION_SECONDS = 600.0
"""How long a session outlives its last request."""

MOST_SESSIONS = 1_000
"""Of one process."""

MOST_OF_ONE = 100
"""Of one principal."""

_HEADER = b"mcp-session-id"


class Sessions:
    """A book of the sessions that were opened here; the protocol's library holds the sessions themselves."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._used: dict[str, dict[str, float]] = {}

    def are_all_taken(self, caller: Caller) -> bool:
        """Tell whether a caller has as many sessions as one may have."""
        used, now = self._used.get(_whose(caller), {}), self._monotonic()
        for session in [session for session, at in used.items() if now - at > SESSION_SECONDS]:
            del used[session]
        if not used:
            self._used.pop(_whose(caller), None)
        return len(used) >= MOST_OF_ONE

    def end(self, caller: Caller, session: str) -> None:
        """Note that a session is over."""
        self._used.get(_whose(caller), {}).pop(session, None)

    def noting(self, caller: Caller, send: Send) -> Send:
        """Return a `send` that notes the session which an answer belongs to."""

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                for name, value in message["headers"]:
                    if name.lower() == _HEADER:
                        self._used.setdefault(_whose(caller), {})[value.decode("latin-1")] = self._monotonic()
            await send(message)

        return forward


def _whose(caller: Caller) -> str:
    return f"{caller.organization_id}/{caller.principal_id}"
