"""Headers that every answer carries: nothing here is a page, nothing may be framed, sniffed or kept by a cache."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_UNLESS_SET = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_TLS_ONLY = ((b"strict-transport-security", b"max-age=31536000"),)
_OURS = frozenset(name for name, _ in (*_ALWAYS, *_TLS_ONLY)) | {b"server"}


class SafeHeaders:
    """Adds the headers to what the application inside answers; a page that sets its own policy keeps it."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [one for one in message.get("headers", ()) if one[0].lower() not in _OURS]
                names = {name.lower() for name, _ in given}
                also = [one for one in _UNLESS_SET if one[0] not in names]
                tls = _TLS_ONLY if scope.get("scheme") == "https" else ()
                message = {**message, "headers": [*given, *_ALWAYS, *also, *tls]}
            await send(message)

        await self._app(scope, receive, send_with_headers)
