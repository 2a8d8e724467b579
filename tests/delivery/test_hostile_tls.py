"""TLS with receivers that show the wrong certificate, or never come to an end with their greeting."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime

import pytest

from core.domain.webhooks.classify import Outcome
from tests.delivery.hostile import EMPTY, answers, fits, hostile, reset, sending
from tests.dns_server import answering
from tests.domain.webhooks.certificates import certificate_pem, key_pem

pytestmark = pytest.mark.anyio


def served(name, signer="authority", until=datetime(2100, 1, 1, tzinfo=UTC), folder=None):
    """Return a server's side of TLS with a certificate for 127.0.0.1 and hooks.example.com."""
    pem = folder / f"{name}.pem"
    pem.write_text(certificate_pem(name, signer, until) + key_pem(name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def trusting():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificate_pem("authority"))
    return context


CERTIFICATES = {
    "good": ("hooks.example.com", {"name": "server"}, Outcome.DELIVERED, ""),
    "for another name": ("other.example.com", {"name": "server"}, Outcome.TLS_FAILED, "Hostname mismatch"),
    "that vouches for itself": (
        "hooks.example.com",
        {"name": "lonely", "signer": "lonely"},
        Outcome.TLS_FAILED,
        "self-signed certificate",
    ),
    "of an unknown authority": (
        "hooks.example.com",
        {"name": "server2", "signer": "unknown"},
        Outcome.TLS_FAILED,
        "unable to get local issuer certificate",
    ),
    "that has ended": (
        "hooks.example.com",
        {"name": "old", "until": datetime(2021, 1, 1, tzinfo=UTC)},
        Outcome.TLS_FAILED,
        "certificate has expired",
    ),
}


@pytest.mark.parametrize("case", CERTIFICATES)
async def test_nothing_is_sent_to_who_shows_no_good_certificate(tmp_path, case):
    host, certificate, outcome, told = CERTIFICATES[case]
    context = served(folder=tmp_path, **certificate)
    async with (
        answering(names={host: ["127.0.0.1"]}) as dns,
        hostile(answers(EMPTY), scheme="https", context=context, host=host) as server,
        sending(deadline=5, resolver=dns.resolver(), ssl_context=trusting()) as sender,
    ):
        result = await sender.send(server.url, {}, b"{}")
    assert result.outcome is outcome
    assert told in result.error
    assert "127.0.0.1" not in result.error
    assert len(server.requests) == (outcome is Outcome.DELIVERED)


async def _say_nothing(server, reader, _writer):
    await reader.read(1)
    server.begun.set()
    await asyncio.Event().wait()


async def _hang_up(_server, reader, _writer):
    await reader.read(1)


async def _reset_the_handshake(_server, reader, writer):
    await reader.read(1)
    reset(writer)


async def _trickle_a_record(server, _reader, writer):
    server.begun.set()
    writer.write(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03")
    while True:
        writer.write(b"\0")
        await writer.drain()
        await asyncio.sleep(0.01)


async def _speak_http(_server, reader, writer):
    await reader.read(1)
    writer.write(EMPTY)
    await writer.drain()


HANDSHAKES = {
    "that never ends": (_say_nothing, "timeout"),
    "in crumbs": (_trickle_a_record, "timeout"),
    "that is hung up on": (_hang_up, "connect_failed tls_failed connection_lost"),
    "that is reset": (_reset_the_handshake, "connect_failed tls_failed connection_lost"),
    "that is answered with HTTP": (_speak_http, "tls_failed"),
}


@pytest.mark.parametrize("case", HANDSHAKES)
async def test_a_handshake_that_goes_wrong_ends_in_time(receiver, case):
    talk, outcomes = HANDSHAKES[case]
    async with hostile(talk, scheme="https") as server, sending() as sender:
        attempt = asyncio.create_task(sender.send(server.url, {}, b"{}"))
        await server.begun.wait()
        healthy = await sender.send(receiver.url, {}, b"{}")
        fits(await attempt, outcomes.split())
    assert healthy.outcome is Outcome.DELIVERED


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
async def test_an_old_tls_is_not_spoken(tmp_path):
    context = served("server", folder=tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with (
        hostile(answers(EMPTY), scheme="https", context=context) as server,
        sending(ssl_context=trusting()) as sender,
    ):
        fits(await sender.send(server.url, {}, b"{}"), [Outcome.TLS_FAILED, Outcome.CONNECT_FAILED])
    assert server.requests == []
