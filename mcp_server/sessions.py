"""Who has how many interactive sessions: nobody takes those of others away by opening all there may be."""

from __future__ import annotations

from collections.abc import Callable, Container

from starlette.types import Message, Send

from mcp_server.callers import Caller

SESSION_SECONDS = 600.0
"""How long a session outlives its last request."""

MOST_SESSIONS = 1_000
"""Of one process."""

MOST_OF_ONE = 100
"""Of one principal."""

MOST_OF_ORGANIZATION = 500
"""Of all principals of one organization."""

_HEADER = b"mcp-session-id"


class Sessions:
    """A book of the sessions that were opened here; `live` are those that the protocol's library still holds."""

    def __init__(self, live: Callable[[], Container[str]]) -> None:
        self._live = live
        self._places: list[Place] = []

    def place_for(self, caller: Caller) -> Place | None:
        """Return a place for one more session of a caller; None when all it may have are taken.

        It is taken from now on: by the request that opens the session, then by the session as long as that lives.
        """
        live = self._live()
        self._places = [place for place in self._places if place.is_taken(live)]
        neighbours = [place.caller for place in self._places if place.caller.organization_id == caller.organization_id]
        own = sum(neighbour.principal_id == caller.principal_id for neighbour in neighbours)
        if own >= MOST_OF_ONE or len(neighbours) >= MOST_OF_ORGANIZATION:
            return None
        place = Place(caller)
        self._places.append(place)
        return place


class Place:
    """What one session takes."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._is_opening = True
        self._session = ""

    def is_taken(self, live: Container[str]) -> bool:
        """Tell whether a session is being opened here, or lives."""
        return self._is_opening or self._session in live

    def opened(self) -> None:
        """Note that the request which was to open a session is over."""
        self._is_opening = False

    def noting(self, send: Send) -> Send:
        """Return a `send` that notes the session which an answer opens."""

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                for name, value in message["headers"]:
                    if name.lower() == _HEADER:
                        self._session = value.decode("latin-1")
            await send(message)

        return forward
