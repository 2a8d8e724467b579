"""What a message looks like as an e-mail: headers, both bodies, and how one click ends messages of its purpose."""

from __future__ import annotations

import re
from datetime import datetime
from email.errors import MessageError
from email.headerregistry import Address, BaseHeader, HeaderRegistry, UniqueUnstructuredHeader
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8, Policy
from email.utils import format_datetime
from urllib.parse import quote

from core.domain.steps.message import TRANSACTIONAL
from core.store.messages.outgoing import ClaimedMessage


class _OneLine(UniqueUnstructuredHeader, BaseHeader):  # type: ignore[misc]  # the registry mixes them just so
    """A header whose long addresses stay whole: folded as text they would be encoded, and no longer be addresses."""

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self}{policy.linesep}"


_MAILBOX = re.compile(r"[^\s<>()\[\],;:\\\"@]+")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_HEADERS = HeaderRegistry()
_HEADERS.map_to_type("list-unsubscribe", _OneLine)
# Bodies travel in seven bits: not every server on the way says that it takes more.
_WIRE = SMTP.clone(cte_type="7bit", header_factory=_HEADERS)
_UTF8_WIRE = SMTPUTF8.clone(cte_type="7bit", header_factory=_HEADERS)


def compose(message: ClaimedMessage, sender: Address, now: datetime, unsubscribe_address: str = "") -> EmailMessage:
    """Return a message as it goes over the wire; its Message-ID is the same at every try.

    Raises ValueError where it cannot be put into a mail.
    """
    address = wire_address(message.recipient)
    mail = EmailMessage(policy=_WIRE if address.isascii() else _UTF8_WIRE)
    mail["From"] = sender
    mail["To"] = _one_address(address)
    mail["Subject"] = _line(message.subject)
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = f"<{message.id}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: an absence note is no reply
    if message.unsubscribe_url and message.purpose != TRANSACTIONAL:
        mail["List-Unsubscribe"] = ", ".join(_ways_out(message, unsubscribe_address))
        if message.unsubscribe_url.startswith("https://"):  # RFC 8058 knows no other
            mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content(message.text)
    if message.html:
        mail.add_alternative(message.html, subtype="html")
    return mail


def wire_address(address: str) -> str:
    """Return an address with its domain in ASCII. Raises UnicodeError for a domain that has no such form."""
    mailbox, _, domain = address.rpartition("@")
    return address if address.isascii() else f"{mailbox}@{domain.encode('idna').decode('ascii')}"


def _one_address(address: str) -> Address:
    """Return an address as a header has it: a single one, whatever its letters say. Raises ValueError."""
    mailbox, _, domain = address.rpartition("@")
    if not address.isascii() and _MAILBOX.fullmatch(mailbox) and _DOMAIN.fullmatch(domain):
        return Address(username=mailbox, domain=domain)
    try:
        return Address(addr_spec=address)
    except (MessageError, ValueError, LookupError) as error:
        raise ValueError("it goes to what is no address") from error


def _ways_out(message: ClaimedMessage, unsubscribe_address: str) -> list[str]:
    ways = [f"<{message.unsubscribe_url}>"]
    if unsubscribe_address:
        ways.append(f"<mailto:{quote(unsubscribe_address, safe='@')}?subject={quote(f'unsubscribe {message.id}')}>")
    return ways


def _line(text: str) -> str:
    """Return text as one line without control characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
