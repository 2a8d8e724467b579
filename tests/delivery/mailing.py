"""A mailer, the server it sends through, and what a test sees of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from core import ids
from core.clock import ManualClock
from core.delivery.mail_outcomes import EndedMessage
from core.delivery.mailer import Mailer
from core.delivery.smtp import SmtpSender
from core.delivery.smtp_connections import SmtpServer
from core.domain.effects import SendMessage
from core.store.database import Database
from core.store.messages import outgoing
from core.store.messages.outgoing import NewMessage
from core.store.organizations.organizations import organizations
from tests.announcements import announced
from tests.mail_server import MailServer, serving_mail
from tests.somebody import somebody

ORG = "org_a"
SENDER = "Acme Ltd. <hello@acme.example>"


@pytest.fixture
async def server(anyio_backend: str) -> AsyncIterator[MailServer]:
    async with serving_mail() as serving:
        yield serving


@dataclass
class Mail:
    """What a test does to the mailer, and sees of it."""

    database: Database
    clock: ManualClock
    mailer: Mailer
    ended: list[EndedMessage]

    def outcomes(self) -> list[tuple[str, bool, str, int]]:
        """Return what enrollments were told of their messages: id, sent or not, outcome and tries."""
        assert all(one[:2] == (ORG, "enr_1") and one[2].step_id == "mail" for one in self.ended)
        return [(one.message_id, one.sent, one.outcome, one.attempts) for _, _, one in self.ended]

    async def write(self, **changed: Any) -> str:
        values: dict[str, Any] = {
            "id": ids.mint("msg", self.clock.now()),
            "channel": "email",
            "purpose": "marketing",
            "contact_id": "cnt_1",
            "to": "ada@example.com",
            "subject": "Hello Ada",
            "text": "Dear Ada,\n\nhello.\n",
        }
        effect = SendMessage(**{**values, **changed})
        async with self.database.system() as tx:
            await somebody(tx, ORG, effect.contact_id, "enr_1")
            await outgoing.create_many(tx, [NewMessage(ORG, "enr_1", "nurture", "mail", effect)])
        return effect.id

    async def rows(self) -> list[tuple[str, int, str]]:
        async with self.database.read(ORG) as tx:
            found = await tx.all(outgoing.listing(enrollment_id="enr_1").order_by(outgoing.outgoing_messages.c.id))
        return [(row.state, row.attempts, row.outcome) for row in found]

    async def told(self) -> list[str]:
        return sorted(body["type"] for body in await announced(self.database, ORG))


Start = Callable[..., Any]


def written(part: Any) -> str:
    return str(part.get_content()).replace("\r\n", "\n")


@pytest.fixture
async def start(database: Database, clock: ManualClock, server: MailServer) -> AsyncIterator[Start]:
    started: list[Mailer] = []

    async def begin(sender: SmtpSender | str | None = "", **options: Any) -> Mail:
        if isinstance(sender, str):
            sender = SmtpSender(SmtpServer("127.0.0.1", server.port), SENDER, deadline_seconds=5)
        async with database.system() as tx:
            row = {"org_id": ORG, "display_name": "A", "timezone": "UTC", "created_at": clock.now()}
            await tx.insert(organizations, [row], on_conflict="ignore")
        ended: list[EndedMessage] = []

        async def on_ended(_tx: Any, found: list[EndedMessage]) -> None:
            ended.extend(found)

        mailer = Mailer(database, sender, clock, on_ended=options.pop("on_ended", on_ended), **options)
        started.append(mailer)
        return Mail(database, clock, mailer, ended)

    yield begin
    for mailer in started:
        await mailer.stop(0)
