"""Web pages of which origins may call the server: those whose Host it takes; what a browser asks is answered for them.

No cookie lets anybody in, so a page gets no further than the key that its user gave it.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Message, Scope, Send

from mcp_server import calls

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

_SENT = "authorization, content-type, accept, last-event-id, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name"
"""Headers that a page may send: those of the protocol, and the key."""
_SHOWN = "mcp-session-id, www-authenticate, retry-after"
"""Headers of answers that a page may read."""
_KEPT_SECONDS = 600


class Origins:
    """The hosts whose pages may call."""

    def __init__(self, hosts: Collection[str], *, everybody: bool = False) -> None:
        """Take names and addresses of hosts, IPv6 in brackets; any port of theirs."""
        self._hosts = frozenset(host.lower() for host in hosts)
        self._everybody = everybody

    def of(self, scope: Scope) -> str:
        """Return the origin of the page that sends a request, if it may; empty for another, and for no page."""
        origin = calls.header(scope, b"origin") or ""
        try:
            told = urlsplit(origin)
            host = f"[{told.hostname}]" if ":" in (told.hostname or "") else told.hostname or ""
            plain = origin == f"{told.scheme}://{told.netloc}" and "@" not in told.netloc and told.port != 0
        except ValueError:
            return ""
        known = self._everybody or host in self._hosts
        return origin if plain and known and told.scheme in ("http", "https") else ""

    def answer(self, scope: Scope, methods: str) -> Response:
        """Answer a browser that asks before it sends: what a page may send, if it may; `shared` says whether."""
        headers = {"allow": methods}
        if self.of(scope):
            headers |= {
                "access-control-allow-methods": methods,
                "access-control-allow-headers": _SENT,
                "access-control-max-age": str(_KEPT_SECONDS),
            }
        return Response(status_code=204, headers=headers)

    def shared(self, scope: Scope, send: Send) -> Send:
        """Return a `send` whose answer the page that asked may read, where it may call."""
        origin = self.of(scope)
        if not origin:
            return send
        added = [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", _SHOWN.encode()),
            (b"vary", b"origin"),
        ]

        async def forward(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        return forward
