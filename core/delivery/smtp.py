"""E-mail over SMTP: what a message looks like on the wire, and what a server's answer means for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.policy import SMTPUTF8 as UTF8_WIRE
from email.utils import format_datetime, parseaddr
from typing import Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

import aiosmtplib

from core.domain.steps.message import TRANSACTIONAL
from core.domain.workflow.storable import storable_text
from core.store.outgoing import ClaimedMessage

DEADLINE_SECONDS = 30.0
"""For connecting, greeting, TLS, login and the message together."""

LONGEST_OUTCOME = 300

Tls = Literal["auto", "required", "off", "implicit"]
"""`auto` encrypts where the server offers it; `implicit` from the first byte, as `smtps` does."""

UnsubscribeUrl = Callable[[ClaimedMessage], str]
"""Where one click ends messages of this purpose to this contact; empty for nowhere."""

_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where e-mail is handed over."""

    host: str
    port: int
    username: str = ""
    password: str = ""
    tls: Tls = "auto"

    @classmethod
    def of(cls, url: str) -> SmtpServer:
        """Return the server that `smtp://user:password@host:587` or `smtps://host` names.

        `?tls=auto`, `required` or `off` may follow; a password never travels in the clear unless `off` says so.
        Raises ValueError for another kind of address.
        """
        parts = urlsplit(url)
        tls = parse_qs(parts.query).get("tls", ["required" if parts.username else "auto"])[-1]
        if parts.scheme not in _PORTS or not parts.hostname or tls not in get_args(Tls):
            raise ValueError("write smtp://user:password@host:587 or smtps://host:465, and ?tls=auto, required or off")
        return cls(
            parts.hostname,
            parts.port or _PORTS[parts.scheme],
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            "implicit" if parts.scheme == "smtps" else tls,  # type: ignore[arg-type]  # checked above
        )


@dataclass(frozen=True, slots=True)
class SmtpAnswer:
    """What became of one try."""

    verdict: Literal["sent", "later", "never"]
    outcome: str
    """What the server said, or what went wrong, in one line."""


class SmtpSender:
    """Sends messages through one server; each over a connection of its own."""

    def __init__(
        self,
        server: SmtpServer,
        sender: str,
        *,
        unsubscribe_url: UnsubscribeUrl | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ):
        """Keep the server and the sender, such as `Acme <hello@acme.example>`. Raises ValueError for no address."""
        name, address = parseaddr(sender)
        if "@" not in address.strip("@"):
            raise ValueError(f"{sender!r} is no sender; write one such as Acme <hello@acme.example>")
        self._from = Address(name, addr_spec=address)
        self._server = server
        self._unsubscribe_url = unsubscribe_url
        self._deadline_seconds = deadline_seconds

    def compose(self, message: ClaimedMessage, now: datetime) -> EmailMessage:
        """Return a message as it goes over the wire; its Message-ID is the same at every try.

        Raises ValueError where it cannot be put into a mail.
        """
        address = _wire_address(message.recipient)
        mail = EmailMessage(policy=WIRE if address.isascii() else UTF8_WIRE)
        mail["From"] = self._from
        mail["To"] = address
        mail["Subject"] = " ".join(message.subject.split())
        mail["Date"] = format_datetime(now)
        mail["Message-ID"] = f"<{message.id}@{self._from.domain}>"
        url = self._unsubscribe_url(message) if self._unsubscribe_url and message.purpose != TRANSACTIONAL else ""
        if url:
            mail["List-Unsubscribe"] = f"<{url}>"
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        mail.set_content(message.text)
        if message.html:
            mail.add_alternative(message.html, subtype="html")
        return mail

    async def send(self, message: ClaimedMessage, now: datetime) -> SmtpAnswer:
        """Hand a message over and return what became of it; raises nothing that the server or the network does."""
        try:
            mail = self.compose(message, now)
        except (ValueError, UnicodeError, LookupError, IndexError) as error:
            return SmtpAnswer("never", f"it cannot be put into a mail ({type(error).__name__})")
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return SmtpAnswer("sent", await self._hand_over(mail, message.recipient))
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused(error.recipients[0])
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error)
        except aiosmtplib.SMTPNotSupported as error:
            return SmtpAnswer("never", _one_line(f"the server cannot do it: {error.message}"))
        except (aiosmtplib.SMTPException, OSError) as error:
            return SmtpAnswer("later", _one_line(f"the server did not take it ({type(error).__name__})"))

    async def _hand_over(self, mail: EmailMessage, recipient: str) -> str:
        server = self._server
        _, answer = await aiosmtplib.send(
            mail,
            sender=self._from.addr_spec,
            recipients=[_wire_address(recipient)],
            hostname=server.host,
            port=server.port,
            username=server.username or None,
            password=server.password or None,
            use_tls=server.tls == "implicit",
            start_tls={"auto": None, "required": True, "off": False, "implicit": False}[server.tls],
            local_hostname=socket.gethostname() or "localhost",
            timeout=self._deadline_seconds,
        )
        return _one_line(answer)


def _refused(error: aiosmtplib.SMTPResponseException) -> SmtpAnswer:
    # A wrong password and a server that turns everybody away say nothing about the message.
    about_us = isinstance(error, aiosmtplib.SMTPAuthenticationError | aiosmtplib.SMTPConnectResponseError)
    verdict: Literal["later", "never"] = "never" if 500 <= error.code < 600 and not about_us else "later"
    return SmtpAnswer(verdict, _one_line(f"{error.code} {error.message}"))


def _wire_address(address: str) -> str:
    """Return an address with its domain in ASCII. Raises UnicodeError for a domain that has no such form."""
    mailbox, _, domain = address.rpartition("@")
    return address if address.isascii() else f"{mailbox}@{domain.encode('idna').decode('ascii')}"


def _one_line(text: str) -> str:
    return storable_text(" ".join(text.split()))[:LONGEST_OUTCOME]
