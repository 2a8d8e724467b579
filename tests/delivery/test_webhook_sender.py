"""The guarded client against receivers that misbehave; real time, with short deadlines."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from contextlib import asynccontextmanager

import pytest

from core.delivery.http import WebhookSender
from core.delivery.request import MAX_RESPONSE_BYTES
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.classify import Outcome

pytestmark = pytest.mark.anyio
LOOPBACK = Destinations.of(["127.0.0.0/8"])
DEADLINE = 0.4


@asynccontextmanager
async def raw_server(talk):
    """Serve bytes as `talk(reader, writer)` says, below HTTP."""
    talks = set()

    async def accepted(reader, writer):
        talks.add(asyncio.current_task())
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def short_sender(**options):
    sender = WebhookSender(LOOPBACK, **({"deadline_seconds": DEADLINE} | options))
    try:
        yield sender
    finally:
        await sender.close()


async def sent(url, **options):
    async with short_sender(**options) as sender:
        started = time.perf_counter()
        result = await sender.send(url, {}, b"{}")
        assert time.perf_counter() - started < DEADLINE + 0.5
        return result


async def test_a_2xx_is_a_delivery_and_the_bytes_arrive_as_given(receiver):
    body = '{"é":1}'.encode()
    async with short_sender() as sender:
        result = await sender.send(receiver.base + "/a%2Fb?x=%20", {"Webhook-Id": "msg_1"}, body)
    assert (result.outcome, result.status_code, result.error) == (Outcome.DELIVERED, 204, "")
    (request,) = receiver.received
    assert request.body == body
    assert request.headers["webhook-id"] == "msg_1"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("Dripstone")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(receiver, status):
    receiver.answers["/"] = (status, {"location": receiver.base + "/next"})
    result = await sent(receiver.base + "/")
    assert (result.outcome, result.status_code) == (Outcome.REDIRECT, status)
    assert [request.path for request in receiver.received] == ["/"]


async def test_cookies_are_not_kept(receiver):
    receiver.answers["/"] = (200, {"set-cookie": "a=b; Path=/"})
    async with short_sender() as sender:
        await sender.send(receiver.base + "/", {}, b"")
        await sender.send(receiver.base + "/", {}, b"")
    assert all("cookie" not in request.headers for request in receiver.received)


async def test_a_proxy_named_in_the_environment_is_not_used(receiver, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert (await sent(receiver.base + "/")).outcome is Outcome.DELIVERED


async def test_a_receiver_that_never_answers_times_out():
    async def silent(reader, writer):
        await reader.read()

    async with raw_server(silent) as url:
        result = await sent(url)
    assert (result.outcome, result.status_code) == (Outcome.TIMEOUT, 0)


async def test_headers_that_trickle_are_cut_off():
    async def trickle(_reader, writer):
        for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(trickle) as url:
        assert (await sent(url)).outcome is Outcome.TIMEOUT


async def test_endless_provisional_answers_are_cut_off():
    async def hints(_reader, writer):
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_server(hints) as url:
        assert (await sent(url)).outcome is Outcome.TIMEOUT


async def test_a_body_that_trickles_is_too_slow_although_the_status_was_fine():
    async def trickle(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(trickle) as url:
        result = await sent(url)
    assert (result.outcome, result.status_code) == (Outcome.BODY_TOO_SLOW, 200)
    assert set(result.response_text) == {"."}


async def test_of_an_endless_body_16_kib_are_read():
    async def endless(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with raw_server(endless) as url:
        result = await sent(url)
    assert (result.outcome, len(result.response_text)) == (Outcome.DELIVERED, MAX_RESPONSE_BYTES)


async def test_a_compressed_bomb_is_kept_as_it_came():
    bomb = gzip.compress(b"\0" * 20_000_000)

    async def send_bomb(_reader, writer):
        head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n"
        writer.write(head.encode() + bomb)
        await writer.drain()

    async with raw_server(send_bomb) as url:
        result = await sent(url)
    assert result.outcome is Outcome.DELIVERED
    assert len(result.response_text) <= MAX_RESPONSE_BYTES
    assert "\0" not in result.response_text


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", Outcome.CONNECTION_LOST),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc", Outcome.CONNECTION_LOST),
        (b"220 mail.example.com ESMTP\r\n\r\n", Outcome.BAD_RESPONSE),
        (b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n", Outcome.BAD_RESPONSE),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", Outcome.BAD_RESPONSE),
    ],
)
async def test_a_broken_answer_is_told_apart(answer, outcome):
    async def talk(_reader, writer):
        writer.write(answer)
        await writer.drain()

    async with raw_server(talk) as url:
        assert (await sent(url)).outcome is outcome


async def test_a_port_where_nobody_listens_is_a_connect_failure():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = await sent(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert (result.outcome, result.error) == (Outcome.CONNECT_FAILED, "the receiver could not be reached")


async def test_plain_http_behind_an_https_url_is_a_tls_failure(receiver):
    result = await sent(receiver.base.replace("http:", "https:") + "/")
    assert result.outcome is Outcome.TLS_FAILED


async def test_an_idle_connection_that_the_receiver_closed_costs_no_attempt():
    served = []

    async def once(_reader, writer):
        served.append(1)
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async with raw_server(once) as url, short_sender() as sender:
        first = await sender.send(url, {}, b"")
        second = await sender.send(url, {}, b"")
    assert (first.outcome, second.outcome, len(served)) == (Outcome.DELIVERED, Outcome.DELIVERED, 2)


async def test_the_answer_s_text_control_and_retry_after_are_handed_on(receiver):
    receiver.answers["/"] = (503, {"Retry-After": "120", "Webhook-Delivery": "disable"})
    result = await sent(receiver.base + "/")
    assert (result.outcome, result.retry_after) == (Outcome.HTTP_STATUS, "120")
    assert result.ruling.disable_reason == "receiver_asked"
    assert result.error == "the receiver answered with a status that is not 2xx (HTTP 503)"
