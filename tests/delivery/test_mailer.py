"""The mailer against a real SMTP server: what arrives, what is tried again, what fails, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope

from core import ids
from core.clock import ManualClock
from core.delivery.mail_outcomes import NOBODY_CARRIES, EndedMessage
from core.delivery.mailer import HANDED_OVER, NO_SERVER, Mailer
from core.delivery.smtp import SmtpSender, SmtpServer
from core.domain.effects import SendMessage
from core.domain.enrollment import MessageEnded
from core.store import outgoing, outgoing_due
from core.store.database import Database
from core.store.organizations import organizations
from core.store.outgoing import NewMessage
from tests.announcements import announced, listen
from tests.somebody import somebody

pytestmark = pytest.mark.anyio

ORG = "org_a"
SENDER = "Acme Ltd. <hello@acme.example>"


@dataclass
class MailServer:
    """A server that takes mail and answers as told."""

    port: int = 0
    answers: list[str] = field(default_factory=list)
    """For the next messages; afterwards every one is taken."""
    recipients: dict[str, str] = field(default_factory=dict)
    """Answers to single recipients."""
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str | None, list[str]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.recipients.get(address, "250 ok")

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        self.arrived.set()
        await self.gate.wait()
        answer = self.answers.pop(0) if self.answers else "250 2.0.0 queued"
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(BytesParser(EmailMessage, policy=default).parsebytes(envelope.content))
            self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        return answer


@pytest.fixture
async def server(anyio_backend: str) -> AsyncIterator[MailServer]:
    handler = MailServer()
    handler.gate.set()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: SMTP(handler, hostname="mail.example", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0
    )
    handler.port = listening.sockets[0].getsockname()[1]
    yield handler
    listening.close()


@dataclass
class Mail:
    """What a test does to the mailer, and sees of it."""

    database: Database
    clock: ManualClock
    mailer: Mailer
    ended: list[EndedMessage]

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


async def test_an_email_arrives_with_both_bodies_and_a_stable_id(start: Start, server: MailServer) -> None:
    mail = await start()
    await listen(mail.database, ORG)
    message_id = await mail.write(html="<p>Dear Ada</p>")
    assert await mail.mailer.drain() == 2
    (got,) = server.mails
    assert server.envelopes == [("hello@acme.example", ["ada@example.com"])]
    assert (got["From"], got["To"], got["Subject"]) == (
        '"Acme Ltd." <hello@acme.example>',
        "ada@example.com",
        "Hello Ada",
    )
    assert got["Message-ID"] == f"<{message_id}@acme.example>"
    assert got["Date"] == "Mon, 02 Mar 2026 09:00:00 +0000"
    assert got["List-Unsubscribe"] is None
    assert [(part.get_content_type(), written(part)) for part in got.iter_parts()] == [
        ("text/plain", "Dear Ada,\n\nhello.\n"),
        ("text/html", "<p>Dear Ada</p>\n"),
    ]
    assert await mail.rows() == [("sent", 1, "2.0.0 queued")]
    (told,) = await announced(mail.database, ORG)
    assert told["type"] == "message.sent"
    assert told["data"] == {
        "message_id": message_id,
        "channel": "email",
        "purpose": "marketing",
        "contact_id": "cnt_1",
        "enrollment_id": "enr_1",
        "workflow_id": "nurture",
        "step_id": "mail",
        "ordinal": 1,
    }
    assert mail.ended == []


async def test_unusual_letters_arrive_as_written(start: Start, server: MailServer) -> None:
    mail = await start()
    await mail.write(to="ada@bücher.example", subject="Grüße \N{SNOWMAN}", text="Größe\n" + "ä" * 2000 + "\n.\n.dot\n")
    await mail.write(to="grüße@example.com")
    await mail.mailer.drain()
    first = next(one for one in server.mails if "bcher" in one["To"])
    assert first["Subject"] == "Grüße \N{SNOWMAN}"
    assert written(first) == "Größe\n" + "ä" * 2000 + "\n.\n.dot\n"
    assert {recipient for _, (recipient,) in server.envelopes} == {"ada@xn--bcher-kva.example", "grüße@example.com"}


async def test_unsubscribing_takes_one_click_where_there_is_a_page_for_it(start: Start, server: MailServer) -> None:
    sender = SmtpSender(
        SmtpServer("127.0.0.1", server.port),
        SENDER,
        unsubscribe_url=lambda message: f"https://acme.example/u/{message.contact_id}",
    )
    mail = await start(sender)
    await mail.write()
    await mail.write(purpose="transactional")
    await mail.mailer.drain()
    found = {str(one["List-Unsubscribe"]): one["List-Unsubscribe-Post"] for one in server.mails}
    assert found == {"<https://acme.example/u/cnt_1>": "List-Unsubscribe=One-Click", "None": None}


async def test_a_refusal_for_now_is_tried_again_later_under_the_same_id(start: Start, server: MailServer) -> None:
    server.answers = ["451 4.7.1 greylisted,\r\ncome back", "452 full"]
    mail = await start()
    await listen(mail.database, ORG)
    message_id = await mail.write(awaited=True)
    await mail.mailer.drain()
    assert (await mail.rows())[0][:2] == ("pending", 1)
    mail.clock.advance(timedelta(seconds=7))
    await mail.mailer.drain()
    assert (await mail.rows()) == [("pending", 2, "452 full")]
    assert (await mail.told(), mail.ended) == ([], [])
    mail.clock.advance(timedelta(minutes=7))
    await mail.mailer.drain()
    assert await mail.rows() == [("sent", 3, "2.0.0 queued")]
    assert [one["Message-ID"] for one in server.mails] == [f"<{message_id}@acme.example>"]
    assert mail.ended == [(ORG, "enr_1", MessageEnded(message_id, True, "2.0.0 queued"))]


async def test_a_server_that_is_away_is_tried_ten_times(start: Start, free_tcp_port: int) -> None:
    mail = await start(SmtpSender(SmtpServer("127.0.0.1", free_tcp_port), SENDER))
    await listen(mail.database, ORG)
    message_id = await mail.write(awaited=True)
    for _ in range(10):
        await mail.mailer.drain()
        mail.clock.advance(timedelta(hours=30))
    ((state, attempts, outcome),) = await mail.rows()
    assert (state, attempts, outcome) == ("failed", 10, "the server did not take it (SMTPConnectError)")
    (told,) = await announced(mail.database, ORG)
    assert (told["type"], told["data"]["reason"], told["data"]["attempts"]) == ("message.failed", outcome, 10)
    assert mail.ended == [(ORG, "enr_1", MessageEnded(message_id, False, outcome))]


@pytest.mark.parametrize(
    ("answers", "recipients", "outcome"),
    [(["550 5.7.1 spam"], {}, "550 5.7.1 spam"), ([], {"ada@example.com": "550 no such user"}, "550 no such user")],
)
async def test_a_refusal_for_good_fails_the_message(
    start: Start, server: MailServer, answers: list[str], recipients: dict[str, str], outcome: str
) -> None:
    server.answers, server.recipients = [*answers], recipients
    mail = await start()
    await mail.write()
    await mail.mailer.drain()
    assert await mail.rows() == [("failed", 1, outcome)]
    assert server.mails == []


async def test_a_message_that_is_no_mail_fails_at_once(start: Start, server: MailServer) -> None:
    mail = await start()
    await mail.write(to="a..b@" + "x" * 70 + "é.example")
    await mail.mailer.drain()
    ((state, attempts, outcome),) = await mail.rows()
    assert (state, attempts) == ("failed", 1)
    assert outcome.startswith("it cannot be put into a mail")


async def test_without_a_server_an_email_fails_and_says_why(start: Start) -> None:
    mail = await start(None)
    await listen(mail.database, ORG)
    message_id = await mail.write(awaited=True)
    await mail.mailer.drain()
    assert await mail.rows() == [("failed", 1, NO_SERVER)]
    assert await mail.told() == ["message.failed"]
    assert mail.ended == [(ORG, "enr_1", MessageEnded(message_id, False, NO_SERVER))]


async def test_another_channel_is_handed_over_as_an_event(start: Start) -> None:
    mail = await start(None)
    await listen(mail.database, ORG)
    first = await mail.write(channel="dm", to="@ada", text="hi", awaited=True)
    await mail.write(channel="dm", to="@ada", text="hi again", ordinal=2)
    await mail.write(channel="sms", to="+44 20 7946 0000")
    await mail.mailer.drain()
    assert await mail.rows() == [("sent", 1, HANDED_OVER)] * 3
    assert mail.ended == [(ORG, "enr_1", MessageEnded(first, True, HANDED_OVER))]
    assert await mail.told() == sorted(["message.requested", "message.sent"] * 3 + ["cold_dm.sent", "followup.sent"])
    requested = {
        body["data"]["text"]: body["data"]["to"]
        for body in await announced(mail.database, ORG)
        if body["type"] == "message.requested"
    }
    assert requested == {"hi": "@ada", "hi again": "@ada", "Dear Ada,\n\nhello.\n": "+44 20 7946 0000"}


async def test_a_channel_that_nobody_carries_fails_and_says_so(start: Start) -> None:
    mail = await start()
    message_id = await mail.write(channel="dm", to="@ada", awaited=True)
    await mail.mailer.drain()
    assert await mail.rows() == [("failed", 1, NOBODY_CARRIES)]
    assert mail.ended == [(ORG, "enr_1", MessageEnded(message_id, False, NOBODY_CARRIES))]


async def test_a_worker_that_lost_its_lease_changes_nothing(start: Start, server: MailServer) -> None:
    server.gate.clear()
    slow, quick = await start(), await start()
    await slow.write(awaited=True)
    await slow.mailer.turn()
    await server.arrived.wait()
    slow.clock.advance(timedelta(seconds=91))
    server.arrived.clear()
    await quick.mailer.turn()
    await server.arrived.wait()
    server.gate.set()
    await quick.mailer.drain()
    await slow.mailer.drain()
    assert await slow.rows() == [("sent", 1, "2.0.0 queued")]
    assert (len(quick.ended), len(slow.ended)) == (1, 0)
    assert len({one["Message-ID"] for one in server.mails}) == 1


async def test_stopping_finishes_what_is_under_way_and_gives_back_the_rest(start: Start, server: MailServer) -> None:
    server.gate.clear()
    mail = await start(concurrency=1)
    await mail.write()
    await mail.mailer.turn()
    await server.arrived.wait()
    await mail.mailer.stop(0)
    assert (await mail.rows())[0][:2] == ("pending", 0)
    server.gate.set()
    again = await start()
    await again.mailer.drain()
    assert (await mail.rows())[0][:2] == ("sent", 1)


async def test_a_failing_hook_leaves_its_message_unrecorded_and_the_rest_recorded(
    start: Start, server: MailServer
) -> None:
    async def refuse(_tx: Any, _ended: Any) -> None:
        raise RuntimeError("the engine is broken")

    mail = await start(on_ended=refuse)
    awaited = await mail.write(awaited=True)
    mail.clock.advance(timedelta(milliseconds=5))
    await mail.write()
    await mail.mailer.drain()
    assert [row[0] for row in await mail.rows()] == ["sending", "sent"]
    mail.clock.advance(timedelta(seconds=91))
    healthy = await start()
    await healthy.mailer.drain()
    assert [row[0] for row in await mail.rows()] == ["sent", "sent"]
    assert [one["Message-ID"] for one in server.mails].count(f"<{awaited}@acme.example>") == 2


async def test_what_a_dead_process_had_is_given_back(start: Start, server: MailServer) -> None:
    mail = await start()
    await mail.write()
    async with mail.database.system() as tx:
        await outgoing_due.claim(tx, limit=1, lease=timedelta(hours=1), token="lse_dead")
    assert await mail.mailer.recover() == 1
    await mail.mailer.drain()
    assert [row[0] for row in await mail.rows()] == ["sent"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", SmtpServer("mail.example", 587)),
        ("smtp://mail.example:25?tls=off", SmtpServer("mail.example", 25, tls="off")),
        ("smtps://ada:p%40ss@mail.example", SmtpServer("mail.example", 465, "ada", "p@ss", "implicit")),
        ("smtp://ada:pw@mail.example:2525", SmtpServer("mail.example", 2525, "ada", "pw", "required")),
    ],
)
def test_an_address_names_a_server(url: str, expected: SmtpServer) -> None:
    assert SmtpServer.of(url) == expected


@pytest.mark.parametrize("url", ["", "mail.example", "http://mail.example", "smtp://", "smtp://mail.example?tls=maybe"])
def test_other_addresses_do_not(url: str) -> None:
    with pytest.raises(ValueError, match="write smtp://"):
        SmtpServer.of(url)


@pytest.mark.parametrize("sender", ["", "Acme", "Acme <>"])
def test_a_sender_needs_an_address(sender: str) -> None:
    with pytest.raises(ValueError, match="is no sender"):
        SmtpSender(SmtpServer("mail.example", 25), sender)


@pytest.mark.parametrize(
    ("fields", "state", "why"),
    [
        ({"unsubscribed": True}, "active", "skipped: the contact has unsubscribed"),
        ({}, "cancelled", "skipped: the enrollment was cancelled"),
    ],
)
async def test_nothing_goes_out_to_who_has_left_since_it_was_written(
    start: Start, server: MailServer, fields: dict[str, Any], state: str, why: str
) -> None:
    mail = await start()
    async with mail.database.system() as tx:
        await somebody(tx, ORG, "cnt_1", "enr_1", state=state, **fields)
    await mail.write()
    await mail.mailer.drain()
    assert server.mails == []
    assert await mail.rows() == [("skipped", 1, why)]
