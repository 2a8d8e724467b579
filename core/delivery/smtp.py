"""E-mail over SMTP: what a server's answer means for a message, and for the address it was to reach."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.headerregistry import Address
from email.utils import parseaddr

import aiosmtplib

from core.delivery.handover import Answer
from core.delivery.mime import compose, wire_address
from core.delivery.smtp_connections import Busy, Connections, Envelope, SmtpServer, TooLarge
from core.domain.messaging.bounces import Stage, address_is_dead
from core.domain.workflow.storable import storable_text
from core.settings import Settings
from core.store.messages.outgoing import ClaimedMessage

DEADLINE_SECONDS = 30.0
"""For connecting, greeting, TLS, login and the message together; as long at most does it wait for a connection."""

LONGEST_OUTCOME = 300

_TOO_LARGE = 552
_BUSY_FOR = timedelta(seconds=10)


class SmtpSender:
    """Sends messages through one server."""

    def __init__(
        self,
        server: SmtpServer,
        sender: str,
        *,
        unsubscribe_address: str = "",
        deadline_seconds: float = DEADLINE_SECONDS,
    ):
        """Keep the server and the sender, such as `Acme <hello@acme.example>`.

        To `unsubscribe_address` people may write instead of clicking. Raises ValueError for no address.
        """
        name, address = parseaddr(sender)
        if "@" not in address.strip("@"):
            raise ValueError(f"{sender!r} is no sender; write one such as Acme <hello@acme.example>")
        self._from = Address(name, addr_spec=address)
        self._unsubscribe_address = unsubscribe_address
        self._connections = Connections(server, deadline_seconds=deadline_seconds)

    async def send(self, message: ClaimedMessage, now: datetime) -> Answer:
        """Hand a message over and return what became of it; raises nothing that the server or the network does."""
        try:
            mail = compose(message, self._from, now, self._unsubscribe_address)
            envelope = Envelope(self._from.addr_spec, wire_address(message.recipient), mail.as_bytes())
        except ValueError as error:  # UnicodeError among them
            return Answer("never", f"it cannot be put into a mail ({type(error).__name__})")
        try:
            return Answer("sent", _one_line(await self._connections.hand_over(envelope)))
        except Busy:
            return Answer("held", "every connection to the mail server is busy", now + _BUSY_FOR)
        except TooLarge as error:
            return Answer("never", str(error))
        except aiosmtplib.SMTPRecipientRefused as error:
            return _refused("recipient", error)
        except aiosmtplib.SMTPDataError as error:
            return _refused("content", error)
        except aiosmtplib.SMTPResponseException as error:
            # A wrong password, a sender that is not ours, a server that turns everybody away: nothing of the message.
            too_large = isinstance(error, aiosmtplib.SMTPSenderRefused) and error.code == _TOO_LARGE
            return Answer("never" if too_large else "later", _spoken(error))
        except aiosmtplib.SMTPNotSupported as error:
            return Answer("never", _one_line(f"the server cannot do it: {error.message}"))
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Answer("later", _one_line(f"the server did not take it ({type(error).__name__})"))

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()


def sender_of(settings: Settings) -> SmtpSender | None:
    """Return what sends e-mail; None where no server is set. Raises ValueError for an address that is none."""
    if not settings.smtp_url:
        return None
    server = SmtpServer.of(settings.smtp_url)
    return SmtpSender(server, settings.mail_from, unsubscribe_address=settings.unsubscribe_address)


def _refused(stage: Stage, error: aiosmtplib.SMTPResponseException) -> Answer:
    if not 500 <= error.code < 600:
        return Answer("later", _spoken(error))
    return Answer("never", _spoken(error), bounced=address_is_dead(stage, error.code, error.message))


def _spoken(error: aiosmtplib.SMTPResponseException) -> str:
    return _one_line(f"{error.code} {error.message}")


def _one_line(text: str) -> str:
    return storable_text(" ".join(text.split()))[:LONGEST_OUTCOME]
