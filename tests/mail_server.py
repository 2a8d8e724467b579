"""A real SMTP server on the loopback address that takes mail and answers as told."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

USER = ("ada", "pässword")


@dataclass
class MailServer:
    """A server that takes mail and answers as told."""

    port: int = 0
    greetings: int = 0
    """Connections so far."""
    answers: list[str] = field(default_factory=list)
    """For the next messages; afterwards every one is taken."""
    senders: list[str] = field(default_factory=list)
    """Answers to the next senders; afterwards every one is taken."""
    recipients: dict[str, str] = field(default_factory=dict)
    """Answers to single recipients."""
    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str | None, list[str]]] = field(default_factory=list)
    sessions: list[tuple[bool, bool]] = field(default_factory=list)
    """Of each mail: was it encrypted, and had somebody logged in?"""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has gone."""
    transports: list[asyncio.Transport] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def hang_up(self) -> None:
        """Close every connection without a word."""
        for transport in self.transports:
            transport.abort()
        self.transports.clear()

    async def handle_MAIL(
        self, _server: Any, _session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.senders.pop(0) if self.senders else "250 ok"
        if answer.startswith("250"):
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self.recipients.get(address, "250 ok")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.arrived.set()
        await self.gate.wait()
        self.at_once -= 1
        answer = self.answers.pop(0) if self.answers else "250 2.0.0 queued"
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.raw.append(envelope.content)
            self.mails.append(BytesParser(EmailMessage, policy=default).parsebytes(envelope.content))
            self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
            encrypted = server.transport.get_extra_info("sslcontext") is not None
            self.sessions.append((encrypted, bool(session.authenticated)))
        return answer


class _Session(SMTP):
    """Counts who comes, and can be hung up on."""

    event_handler: MailServer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.event_handler.transports.append(transport)
        if self.session is None:
            self.event_handler.greetings += 1
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler.left.set()
        super().connection_lost(error)


def _log_in(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
    assert isinstance(given, LoginPassword)
    known = (given.login, given.password) == (USER[0].encode(), USER[1].encode())
    return AuthResult(success=known, handled=False)


@asynccontextmanager
async def serving_mail(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, login: bool = False, **options: Any
) -> AsyncIterator[MailServer]:
    """Take mail on a port of its own: in plaintext, with STARTTLS, or over TLS from the first byte."""
    server = MailServer()
    server.gate.set()
    loop = asyncio.get_running_loop()
    about: dict[str, Any] = {"hostname": "mail.example", "enable_SMTPUTF8": True, "loop": loop, **options}
    if starttls is not None:
        about |= {"tls_context": starttls}
    if login:
        about |= {"authenticator": _log_in, "auth_required": True, "auth_require_tls": tls is None}

    def session() -> _Session:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it does not see that TLS came before it
            return _Session(server, **about)

    listening = await loop.create_server(session, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    server.hang_up()
