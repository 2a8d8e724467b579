"""The mailer against a real SMTP server: what arrives, what is tried again, what fails, and what is told of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.delivery.mail_outcomes import EndedMessage
from core.delivery.mailer import NO_SERVER
from core.delivery.smtp import SmtpSender
from core.delivery.smtp_connections import SmtpServer
from core.domain.messaging.unsubscribe import PLACE, Link, read
from core.store.messages import consent, outgoing_due
from tests.announcements import announced, listen
from tests.delivery.mailing import ORG, SENDER, Start, written
from tests.mail_server import MailServer
from tests.somebody import somebody

pytestmark = pytest.mark.anyio


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
    assert mail.ended[0][2].told == "message 1 on email to ada@example.com"


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
    mail = await start(public_url="https://acme.example/")
    marketing = await mail.write(text=f"Enough? {PLACE}", html=f"<a href='{PLACE}'>Enough?</a>")
    await mail.write(purpose="transactional", text=f"Enough? {PLACE}")
    await mail.mailer.drain()
    headed, other = sorted(server.mails, key=lambda one: one["List-Unsubscribe"] is None)
    url = headed["List-Unsubscribe"].strip("<>")
    assert headed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert b"List-Unsubscribe: <" + url.encode() + b">\r\n" in b"".join(server.raw)
    assert (other["List-Unsubscribe"], other["List-Unsubscribe-Post"]) == (None, None)
    text, html = (written(part) for part in headed.iter_parts())
    assert (text, html) == (f"Enough? {url}\n", f"<a href='{url}'>Enough?</a>\n")
    assert written(other).startswith("Enough? https://acme.example/u/")
    found = read(url.removeprefix("https://acme.example/u/"))
    async with mail.database.read(ORG) as tx:
        secret = (await consent.secrets_there(tx, [ORG])).get(ORG)
    assert found is not None
    assert found.prove(secret or b"") == Link(ORG, "cnt_1", marketing, "email", "marketing")


async def test_without_https_there_is_a_link_and_no_promise_of_one_click(start: Start, server: MailServer) -> None:
    mail = await start(public_url="http://localhost:7480")
    await mail.write()
    await mail.mailer.drain()
    (got,) = server.mails
    assert got["List-Unsubscribe"].startswith("<http://localhost:7480/u/")
    assert got["List-Unsubscribe-Post"] is None


async def test_without_a_public_address_messages_carry_no_link(start: Start, server: MailServer) -> None:
    mail = await start()
    await mail.write(text=f"Enough? {PLACE}")
    await mail.mailer.drain()
    (got,) = server.mails
    assert (got["List-Unsubscribe"], written(got)) == (None, "Enough? \n")


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
    assert mail.outcomes() == [(message_id, True, "2.0.0 queued", 3)]


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
    assert mail.outcomes() == [(message_id, False, outcome, 10)]


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
    assert mail.outcomes() == [(message_id, False, NO_SERVER, 1)]


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
    refused: list[str] = []

    async def refuse(_tx: Any, ended: list[EndedMessage]) -> None:
        if any(one.message_id in refused for _, _, one in ended):
            raise RuntimeError("the engine is broken")

    mail = await start(on_ended=refuse)
    awaited = await mail.write(awaited=True)
    refused.append(awaited)
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
