"""Connections to a real SMTP server: kept for the next message, made anew when lost, never too many."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.delivery.handover import Answer
from core.delivery.smtp import SmtpSender
from core.delivery.smtp_connections import SmtpServer
from tests.certificates import certificate
from tests.delivery.test_mime import NOW, message
from tests.mail_server import USER, MailServer, serving_mail

pytestmark = pytest.mark.anyio

SENDER = "Acme <hello@acme.example>"


def sender(server: MailServer, **about: Any) -> SmtpSender:
    return SmtpSender(SmtpServer("127.0.0.1", server.port, **about), SENDER, deadline_seconds=5)


async def send(through: SmtpSender, *ids: str, **changed: Any) -> list[Answer]:
    return [await through.send(message(id=one, **changed), NOW) for one in ids]


def verdicts(answers: list[Answer]) -> list[str]:
    return [one.verdict for one in answers]


async def test_many_messages_go_over_one_connection(anyio_backend: str) -> None:
    async with serving_mail() as server:
        through = sender(server)
        assert verdicts(await send(through, *(f"msg_{number}" for number in range(5)))) == ["sent"] * 5
        assert (server.greetings, len(server.mails)) == (1, 5)
        await through.close()


async def test_a_refused_message_leaves_the_connection_for_the_next_one(anyio_backend: str) -> None:
    async with serving_mail() as server:
        server.recipients = {"eve@example.com": "550 no such user"}
        server.answers = ["451 later"]
        through = sender(server)
        (refused,) = await send(through, "msg_1", recipient="eve@example.com")
        later, taken = await send(through, "msg_2", "msg_3")
        assert (refused.verdict, refused.bounced, later.verdict, taken.verdict) == ("never", True, "later", "sent")
        assert server.greetings == 1
        assert server.envelopes == [("hello@acme.example", ["ada@example.com"])]
        await through.close()


async def test_a_connection_that_the_server_gave_up_is_made_anew_and_nothing_is_lost(anyio_backend: str) -> None:
    async with serving_mail() as server:
        through = sender(server)
        await send(through, "msg_1")
        server.hang_up()
        server.senders = []
        assert verdicts(await send(through, "msg_2")) == ["sent"]
        server.senders = ["421 4.4.2 closing"]
        assert verdicts(await send(through, "msg_3")) == ["sent"]
        assert [one["Message-ID"] for one in server.mails] == [f"<msg_{number}@acme.example>" for number in (1, 2, 3)]
        assert server.greetings == 3
        await through.close()


async def test_what_may_have_been_taken_is_not_sent_again_at_once(anyio_backend: str) -> None:
    async with serving_mail() as server:
        through = sender(server)
        await send(through, "msg_1")
        server.gate.clear()
        server.arrived.clear()
        sending = asyncio.create_task(send(through, "msg_2"))
        await server.arrived.wait()
        server.hang_up()
        assert verdicts(await sending) == ["later"]
        assert server.greetings == 1
        server.gate.set()
        await through.close()


async def test_no_more_connections_than_allowed_are_open_at_once(anyio_backend: str) -> None:
    async with serving_mail() as server:
        server.gate.clear()
        through = sender(server, connections=2)
        sending = [asyncio.create_task(send(through, f"msg_{number}")) for number in range(6)]
        await server.arrived.wait()
        server.gate.set()
        assert [verdicts(one) for one in await asyncio.gather(*sending)] == [["sent"]] * 6
        assert server.greetings <= 2
        assert server.most_at_once <= 2
        await through.close()


async def test_who_gets_no_connection_in_time_was_not_tried(anyio_backend: str) -> None:
    async with serving_mail() as server:
        server.gate.clear()
        where = SmtpServer("127.0.0.1", server.port, connections=1)
        through = SmtpSender(where, SENDER, deadline_seconds=0.3)
        first = asyncio.create_task(send(through, "msg_1"))
        await server.arrived.wait()
        others = await asyncio.gather(*(send(through, f"msg_{number}") for number in range(2, 6)))
        assert "held" in {one.verdict for (one,) in others}
        assert {one.outcome for (one,) in others if one.verdict == "held"} == {
            "every connection to the mail server is busy"
        }
        assert verdicts(await first) == ["later"]
        server.gate.set()
        await through.close()


async def test_a_connection_is_closed_after_so_many_messages(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.delivery.smtp_connections.MESSAGES_EACH", 2)
    async with serving_mail() as server:
        through = sender(server)
        assert verdicts(await send(through, *(f"msg_{number}" for number in range(5)))) == ["sent"] * 5
        assert server.greetings == 3
        await through.close()


async def test_a_connection_that_nobody_uses_is_closed(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.delivery.smtp_connections.IDLE_SECONDS", 0.0)
    async with serving_mail() as server:
        through = sender(server)
        await send(through, "msg_1")
        await server.left.wait()
        assert verdicts(await send(through, "msg_2")) == ["sent"]
        assert server.greetings == 2
        await through.close()


async def test_what_the_server_says_is_too_large_is_not_sent(anyio_backend: str) -> None:
    async with serving_mail(data_size_limit=2000) as server:
        through = sender(server)
        (answer, taken) = [*await send(through, "msg_1", text="x" * 3000), *await send(through, "msg_2")]
        assert answer.verdict == "never"
        assert answer.outcome.endswith("and the server takes 2000")
        assert (taken.verdict, server.greetings) == ("sent", 1)
        await through.close()


async def test_a_server_without_extensions_takes_what_is_ascii(anyio_backend: str) -> None:
    async with serving_mail(enable_SMTPUTF8=False) as server:
        through = sender(server)
        answers = [*await send(through, "msg_1", recipient="grüße@example.com"), *await send(through, "msg_2")]
        assert verdicts(answers) == ["never", "sent"]
        assert answers[0].outcome == "the server cannot do it: it takes no address that is not ASCII"
        assert server.greetings == 1
        await through.close()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("550 5.7.1 not your sender", "later"), ("451 later", "later"), ("552 5.3.4 too large", "never")],
)
async def test_a_refused_sender_says_nothing_of_the_recipient(anyio_backend: str, answer: str, verdict: str) -> None:
    async with serving_mail() as server:
        server.senders = [answer]
        through = sender(server)
        (got,) = await send(through, "msg_1")
        assert (got.verdict, got.bounced, got.outcome) == (verdict, False, answer)
        await through.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """Return the file that vouches for a server's certificate, and the server's side of it."""
    chain, key = certificate(Path(tmp_path_factory.mktemp("tls")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return str(chain), context


async def test_starttls_and_login_come_before_the_first_message_and_once(
    anyio_backend: str, authority: tuple[str, ssl.SSLContext]
) -> None:
    ca, context = authority
    async with serving_mail(starttls=context, login=True, require_starttls=True) as server:
        through = sender(server, tls="required", ca=ca, username=USER[0], password=USER[1])
        assert verdicts(await send(through, "msg_1", "msg_2")) == ["sent", "sent"]
        assert server.sessions == [(True, True)] * 2
        assert server.greetings == 1
        await through.close()


async def test_tls_from_the_first_byte(anyio_backend: str, authority: tuple[str, ssl.SSLContext]) -> None:
    ca, context = authority
    async with serving_mail(tls=context, login=True) as server:
        through = sender(server, tls="implicit", ca=ca, username=USER[0], password=USER[1])
        assert verdicts(await send(through, "msg_1", "msg_2")) == ["sent", "sent"]
        assert server.sessions == [(True, True)] * 2
        await through.close()


async def test_auto_encrypts_where_it_can(anyio_backend: str, authority: tuple[str, ssl.SSLContext]) -> None:
    ca, context = authority
    async with serving_mail(starttls=context) as server:
        through = sender(server, ca=ca)
        assert verdicts(await send(through, "msg_1")) == ["sent"]
        assert server.sessions == [(True, False)]
        await through.close()


@pytest.mark.parametrize("tls", ["required", "implicit", "auto"])
async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    anyio_backend: str, authority: tuple[str, ssl.SSLContext], tls: Any
) -> None:
    _, context = authority
    way = {"tls": context} if tls == "implicit" else {"starttls": context}
    async with serving_mail(**way) as server:
        through = sender(server, tls=tls)
        assert verdicts(await send(through, "msg_1")) == ["later"]
        assert server.mails == []
        await through.close()


async def test_nothing_is_sent_in_the_clear_where_tls_is_required(anyio_backend: str) -> None:
    async with serving_mail(login=False) as server:
        through = sender(server, tls="required", username=USER[0], password=USER[1])
        (answer,) = await send(through, "msg_1")
        assert (answer.verdict, server.mails) == ("later", [])
        assert USER[1] not in answer.outcome
        await through.close()


async def test_a_wrong_password_is_our_fault_and_stays_secret(
    anyio_backend: str, authority: tuple[str, ssl.SSLContext]
) -> None:
    ca, context = authority
    async with serving_mail(starttls=context, login=True) as server:
        through = sender(server, tls="required", ca=ca, username=USER[0], password="wröng")
        (answer,) = await send(through, "msg_1")
        assert (answer.verdict, answer.bounced) == ("later", False)
        assert answer.outcome.startswith("535")
        assert "wr" not in answer.outcome.replace("535 5.7.8 Authentication credentials invalid", "")
        await through.close()


def test_the_address_names_connections_and_authorities() -> None:
    plain = SmtpServer("mail.example", 587)
    assert SmtpServer.of("smtp://mail.example?connections=2&ca=/etc/ca.pem") == replace(
        plain, connections=2, ca="/etc/ca.pem"
    )
    for wrong in ("connections=0", "connections=65", "connections=many", "connections=", "tls=implicit"):
        if wrong == "connections=":  # nothing is said
            assert SmtpServer.of(f"smtp://mail.example?{wrong}") == plain
            continue
        with pytest.raises(ValueError, match="write smtp://"):
            SmtpServer.of(f"smtp://mail.example?{wrong}")
