"""Connections to the mail server: few of them, opened when they are needed, each for many messages."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from core.domain.frozen import frozen

Tls = Literal["auto", "required", "off", "implicit"]
"""`auto` encrypts where the server offers it; `implicit` from the first byte, as `smtps` does."""

CONNECTIONS = 8
MOST_CONNECTIONS = 64
MESSAGES_EACH = 100
"""After so many a connection is closed: servers limit them, and those behind a balancer want their turn."""
IDLE_SECONDS = 20.0
"""Unused for so long, a connection is closed before the server does it."""

_PORTS = {"smtp": 587, "smtps": 465}
_TLS: dict[str, Tls] = {"auto": "auto", "required": "required", "off": "off"}
_FORM = (
    "write smtp://user:password@host:587 or smtps://host:465; ?tls=auto, required or off, &connections=8 and "
    "&ca=/path/of/authorities.pem may follow"
)
_CLOSING = 421


@frozen
class SmtpServer:
    """Where e-mail is handed over."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    tls: Tls = "auto"
    connections: int = CONNECTIONS
    """Open at once, by one process."""
    ca: str = ""
    """File of the authorities that vouch for it; empty for those the system trusts."""

    @classmethod
    def of(cls, url: str) -> SmtpServer:
        """Return the server that `smtp://user:password@host:587` or `smtps://host` names.

        `?tls=auto`, `required` or `off` may follow; a password never travels in the clear unless `off` says so.
        Raises ValueError for another kind of address.
        """
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        tls = _TLS.get(options.get("tls", "required" if parts.username else "auto"))
        connections = options.get("connections", str(CONNECTIONS))
        countable = connections.isascii() and connections.isdigit() and 1 <= int(connections[:9]) <= MOST_CONNECTIONS
        if parts.scheme not in _PORTS or not parts.hostname or tls is None or not countable:
            raise ValueError(_FORM)
        return cls(
            parts.hostname,
            parts.port or _PORTS[parts.scheme],
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            "implicit" if parts.scheme == "smtps" else tls,
            int(connections),
            options.get("ca", ""),
        )


@frozen
class Envelope:
    """One mail and between whom it goes."""

    sender: str
    recipient: str
    content: bytes

    @property
    def needs_utf8(self) -> bool:
        """Tell whether the server must take addresses that are not ASCII."""
        return not self.recipient.isascii()


class Busy(Exception):
    """No connection became free in time; nothing was tried."""


class TooLarge(Exception):
    """The server says beforehand that it takes nothing of this size."""


@dataclass(slots=True)
class _Open:
    """A connection and what became of it so far."""

    client: aiosmtplib.SMTP
    messages: int = 0
    unused_since: float = 0.0


class Connections:
    """Hands mails over, over connections that are kept for the next ones."""

    def __init__(self, server: SmtpServer, *, deadline_seconds: float):
        """Keep the server; nothing is opened yet. Raises OSError for a file of authorities that cannot be read."""
        self._server = server
        self._deadline_seconds = deadline_seconds
        self._tls_context = ssl.create_default_context(cafile=server.ca or None)
        self._places = asyncio.Semaphore(server.connections)
        self._unused: deque[_Open] = deque()
        self._closing: asyncio.TimerHandle | None = None

    async def hand_over(self, envelope: Envelope) -> str:
        """Return what the server says to a mail that it took.

        Raises Busy when no place came free in the deadline, TooLarge, TimeoutError past the deadline, OSError and what
        aiosmtplib raises for a server that refuses.
        """
        try:
            async with asyncio.timeout(self._deadline_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise Busy from None
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await self._hand_over(envelope)
        finally:
            self._places.release()

    async def close(self) -> None:
        """Take leave of the server on every connection that nothing is sent on."""
        if self._closing is not None:
            self._closing.cancel()
        while self._unused:
            client = self._unused.pop().client
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await client.quit()
            client.close()

    async def _hand_over(self, envelope: Envelope) -> str:
        kept = self._take()
        if kept is not None:
            begun = await self._begin(kept, envelope)
            if begun:
                return await self._finish(kept, envelope)
        fresh = await self._connect()
        await self._guarded(fresh, self._announce(fresh.client, envelope))
        return await self._finish(fresh, envelope)

    async def _begin(self, kept: _Open, envelope: Envelope) -> bool:
        """Announce a mail on a kept connection; False where the server had given it up, and nothing was sent on it."""
        try:
            await self._guarded(kept, self._announce(kept.client, envelope))
        except aiosmtplib.SMTPSenderRefused as error:
            if error.code != _CLOSING:
                raise
            return False
        except (aiosmtplib.SMTPServerDisconnected, ConnectionError):
            return False
        return True

    async def _announce(self, client: aiosmtplib.SMTP, envelope: Envelope) -> str:
        options = []
        if envelope.needs_utf8:
            if not client.supports_extension("smtputf8"):
                raise aiosmtplib.SMTPNotSupported("it takes no address that is not ASCII")
            options += ["SMTPUTF8", *(["BODY=8BITMIME"] if client.supports_extension("8bitmime") else [])]
        if client.supports_extension("size"):
            most = client.esmtp_extensions.get("size", "").strip()
            if most.isdigit() and 0 < int(most) < len(envelope.content):
                raise TooLarge(f"the mail has {len(envelope.content)} bytes, and the server takes {most}")
            options.append(f"SIZE={len(envelope.content)}")
        encoding = "utf-8" if envelope.needs_utf8 else "ascii"
        return (await client.mail(envelope.sender, options=options, encoding=encoding)).message

    async def _finish(self, opened: _Open, envelope: Envelope) -> str:
        answer = await self._guarded(opened, self._transfer(opened.client, envelope))
        self._keep(opened)
        return answer

    async def _transfer(self, client: aiosmtplib.SMTP, envelope: Envelope) -> str:
        await client.rcpt(envelope.recipient, encoding="utf-8" if envelope.needs_utf8 else "ascii")
        return (await client.data(envelope.content)).message

    async def _guarded(self, opened: _Open, step: Awaitable[str]) -> str:
        """Take a step; a connection on which it fails is kept only where the server itself said no."""
        try:
            return await step
        except (aiosmtplib.SMTPResponseException, aiosmtplib.SMTPNotSupported, TooLarge):
            try:
                await opened.client.rset()
            except (aiosmtplib.SMTPException, OSError):
                opened.client.close()
            else:
                self._keep(opened)
            raise
        except BaseException:
            opened.client.close()  # who knows what the server's next words would answer
            raise

    async def _connect(self) -> _Open:
        server = self._server
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username or None,
            password=server.password or None,
            use_tls=server.tls == "implicit",
            start_tls={"auto": None, "required": True, "off": False, "implicit": False}[server.tls],
            local_hostname=socket.gethostname() or "localhost",
            timeout=self._deadline_seconds,
            tls_context=self._tls_context,
        )
        try:
            await client.connect()
            if client.is_ehlo_or_helo_needed:
                try:
                    await client.ehlo()
                except aiosmtplib.SMTPHeloError:
                    await client.helo()
        except BaseException:
            client.close()
            raise
        return _Open(client)

    def _take(self) -> _Open | None:
        """Return the connection that was used last, where one is kept: the others may then be closed."""
        while self._unused:
            opened = self._unused.pop()
            if opened.client.is_connected:
                return opened
        return None

    def _keep(self, opened: _Open) -> None:
        opened.messages += 1
        if opened.messages >= MESSAGES_EACH or not opened.client.is_connected:
            opened.client.close()
            return
        loop = asyncio.get_running_loop()
        opened.unused_since = loop.time()
        self._unused.append(opened)
        if self._closing is None:
            self._closing = loop.call_later(IDLE_SECONDS, self._close_unused)

    def _close_unused(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unused and self._unused[0].unused_since <= loop.time() - IDLE_SECONDS + 0.01:
            self._unused.popleft().client.close()
        self._closing = loop.call_later(IDLE_SECONDS, self._close_unused) if self._unused else None
