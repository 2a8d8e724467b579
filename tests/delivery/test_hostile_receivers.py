"""Receivers that mean harm, on real sockets: every attempt ends in its time, tells what it met, and holds up nobody."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.delivery.request import MAX_RESPONSE_BYTES
from core.domain.webhooks.classify import Outcome
from tests.delivery.hostile import CHUNKED, OK, answers, fits, hostile, sending

pytestmark = pytest.mark.anyio

HEADERS = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 50) for number in range(1000))
BOMB = gzip.compress(b"\0" * 20_000_000)

CASES = {
    # what never ends
    "a flood of provisional answers": (
        answers(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, then="flood"),
        "bad_response",
    ),
    "a flood of provisional answers with headers": (
        answers(b"HTTP/1.1 103 Early Hints\r\n" + HEADERS[:5000].rsplit(b"\r\n", 1)[0] + b"\r\n\r\n", then="flood"),
        "bad_response",
    ),
    "a trickle of provisional answers": (answers(b"HTTP/1.1 102 Processing\r\n\r\n", then="trickle"), "timeout"),
    "a flood of empty lines": (answers(b"\r\n" * 5000, then="flood"), "bad_response"),
    "a status line without end": (answers(b"HTTP/1.1 200 ", b"O" * 5000, then="flood"), "bad_response"),
    "one header byte at a time": (answers(OK, b"x-y: z\r\n", then="trickle"), "timeout"),
    "headers without end": (answers(OK, HEADERS, then="flood"), "bad_response"),
    "one header without end": (answers(OK + b"x: ", b"y" * 5000, then="flood"), "bad_response"),
    "a header of 200 kB": (answers(OK + b"x: " + b"y" * 200_000 + b"\r\n\r\n"), "bad_response"),
    "a trickled body": (answers(OK + b"content-length: 1000\r\n\r\n", b".", then="trickle"), "body_too_slow"),
    "a trickled chunked body": (answers(CHUNKED, b"1\r\n.\r\n", then="trickle"), "body_too_slow"),
    "a chunk size without end": (answers(CHUNKED, b"0" * 5000, then="flood"), "body_too_slow bad_response"),
    "a chunk extension without end": (
        answers(CHUNKED + b"1;", b"a=b" * 5000, then="flood"),
        "body_too_slow connection_lost bad_response",
    ),
    "trailers without end": (
        answers(CHUNKED + b"1\r\n.\r\n0\r\n", HEADERS, then="flood"),
        "connection_lost bad_response",
    ),
    "20 GB, announced": (
        answers(OK + b"content-length: 20000000000\r\n\r\n", b"." * 65_536, then="flood"),
        "delivered",
    ),
    "a chunked body without end": (answers(CHUNKED, b"ffff\r\n" + b"." * 65_535 + b"\r\n", then="flood"), "delivered"),
    "a chunked body in crumbs": (answers(CHUNKED, b"1\r\n.\r\n" * 3000, then="flood"), "delivered"),
    "a body until the connection ends, which it does not": (
        answers(OK + b"\r\n", b"." * 65_536, then="flood"),
        "delivered",
    ),
    "answers without end": (answers(OK + b"content-length: 0\r\n\r\n" * 1000, then="flood"), "delivered"),
    "a compressed bomb": (
        answers(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(BOMB) + BOMB),
        "delivered",
    ),
    "a bomb in the transfer's coding": (
        answers(OK + b"transfer-encoding: gzip, chunked\r\n\r\n%x\r\n" % len(BOMB) + BOMB + b"\r\n0\r\n\r\n"),
        "delivered bad_response connection_lost",
    ),
    # what stops short
    "no answer": (answers(), "timeout"),
    "a reset instead of an answer": (answers(then="reset"), "connection_lost"),
    "a reset in the status line": (answers(b"HTTP/1.", then="reset"), "connection_lost"),
    "a reset in the headers": (answers(OK + b"content-", then="reset"), "connection_lost"),
    "a reset after the headers": (answers(OK + b"content-length: 9\r\n\r\n", then="reset"), "connection_lost"),
    "a reset in the body": (answers(OK + b"content-length: 9\r\n\r\n", b"abc", then="reset"), "connection_lost"),
    "a close after the headers": (answers(OK + b"content-length: 9\r\n\r\n", then="close"), "connection_lost"),
    "a close in a chunk": (answers(CHUNKED + b"5\r\nab", then="close"), "connection_lost"),
    "a close before the last chunk": (answers(CHUNKED + b"1\r\n.\r\n", then="close"), "connection_lost"),
    "half a connection and no answer": (answers(then="half-close"), "connection_lost"),
    "half a connection after half an answer": (
        answers(OK + b"content-length: 9\r\n\r\nabc", then="half-close"),
        "connection_lost",
    ),
    "half a connection after an answer": (answers(OK + b"\r\nabc", then="half-close"), "delivered"),
    # what is not HTTP
    "an answer of HTTP/0.9": (answers(b"<html>thank you</html>", then="close"), "bad_response"),
    "an answer of HTTP/2": (answers(b"\0\0\x12\4\0\0\0\0\0\0\3\0\0\0\x64" * 10), "bad_response"),
    "an answer of HTTP/3.7": (answers(b"HTTP/3.7 200 OK\r\ncontent-length: 0\r\n\r\n"), "bad_response"),
    "two lengths": (answers(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab"), "bad_response"),
    "a length and chunks": (
        answers(OK + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", then="close"),
        "bad_response",
    ),
    "a length below zero": (answers(OK + b"content-length: -1\r\n\r\n"), "bad_response"),
    "a length of thirty digits": (answers(OK + b"content-length: " + b"9" * 30 + b"\r\n\r\n"), "bad_response"),
    "a zero byte in a header": (answers(OK + b"x: a\0b\r\ncontent-length: 0\r\n\r\n"), "bad_response"),
    "a switch to another protocol": (
        answers(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", b"." * 65_536, then="flood"),
        "http_status",
    ),
    # what is odd, and an answer all the same
    "cookies of nonsense": (
        answers(OK + b'set-cookie: \xff\1=;;;=\r\nset-cookie: a="\\\r\ncontent-length: 0\r\n\r\n'),
        "delivered bad_response",
    ),
    "a body that is no text": (answers(OK + b"content-length: 4\r\n\r\n\0\xff\xfe\x80"), "delivered"),
    "a body in a character set that there is not": (
        answers(OK + b"content-type: text/plain; charset=klingon\r\ncontent-length: 1\r\n\r\nq"),
        "delivered",
    ),
    "a status of 999": (answers(b"HTTP/1.1 999 No\r\ncontent-length: 0\r\n\r\n"), "http_status"),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_hostile_receiver_is_told_apart_in_time_and_holds_up_no_other(receiver, case):
    talk, outcomes = CASES[case]
    async with hostile(talk) as server, sending() as sender:
        attempt = asyncio.create_task(sender.send(server.url, {}, b"{}"))
        await server.begun.wait()
        healthy = await sender.send(receiver.url, {}, b"{}")
        result = await attempt
    fits(result, outcomes.split())
    assert healthy.outcome is Outcome.DELIVERED
    assert (server.connections, len(server.requests)) == (1, 1)  # a fresh connection that fails is a failure


async def test_twenty_floods_at_once_take_neither_time_nor_memory(receiver):
    talk, _ = CASES["a flood of provisional answers"]
    async with hostile(talk) as server, sending() as sender:
        tracemalloc.start()
        try:
            attempts = [asyncio.create_task(sender.send(server.url, {}, b"{}")) for _ in range(20)]
            await server.begun.wait()
            healthy = await sender.send(receiver.url, {}, b"{}")
            results = await asyncio.gather(*attempts)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    for result in results:
        fits(result, ["bad_response"])
    assert healthy.outcome is Outcome.DELIVERED
    assert most < 32_000_000  # what is on its way in and out of 20 sockets, in both directions


async def test_of_an_endless_body_nothing_is_kept_beyond_16_kib():
    for case in ("20 GB, announced", "a chunked body without end"):
        async with hostile(CASES[case][0]) as server, sending() as sender:
            tracemalloc.start()
            try:
                result = await sender.send(server.url, {}, b"{}")
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert result.response_text == "." * MAX_RESPONSE_BYTES
        assert most < 4_000_000


async def test_a_bomb_is_not_unpacked():
    async with hostile(CASES["a compressed bomb"][0]) as server, sending() as sender:
        result = await sender.send(server.url, {}, b"{}")
    assert result.response_text == BOMB[:MAX_RESPONSE_BYTES].decode("utf-8", "replace").replace("\0", "\ufffd")


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 306, 307, 308, 399])
async def test_no_redirect_is_followed_wherever_it_points(receiver, status):
    redirect = b"HTTP/1.1 %d Elsewhere\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n"
    async with hostile(answers(redirect % (status, receiver.url.encode()))) as server, sending() as sender:
        result = await sender.send(server.url, {}, b"{}")
    assert (result.outcome, result.status_code) == (Outcome.REDIRECT, status)
    assert (receiver.received, len(server.requests)) == ([], 1)


@pytest.mark.parametrize("location", [b"http://[::", b"//", b"\xff", b"file:///etc/passwd", b"http://a/" + b"b" * 8000])
async def test_a_redirect_to_nonsense_is_a_redirect(location):
    head = b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: " + location + b"\r\n\r\n"
    async with hostile(answers(head)) as server, sending() as sender:
        fits(await sender.send(server.url, {}, b"{}"), [Outcome.REDIRECT])


@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize("read", [False, True])
async def test_a_receiver_that_does_not_read_is_cut_off_and_one_that_answers_early_is_heard(read):
    body = b"x" * 20_000_000  # more than the sockets of both sides hold

    async def talk(server, reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        server.begun.set()
        if read:
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with hostile(talk) as server, sending() as sender:
        result = await sender.send(server.url, {}, body)
    fits(result, [Outcome.HTTP_STATUS if read else Outcome.TIMEOUT])
    assert result.status_code == (413 if read else 0)


# Anything at all

_pieces = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 103 Hints\r\n",
        b"HTTP/1.1 204 No\r\n",
        b"HTTP/1.1 304 No\r\n",
        b"HTTP/1.0 500 X\r\n",
        b"content-length: 3\r\n",
        b"content-length: 0\r\n",
        b"transfer-encoding: chunked\r\n",
        b"connection: close\r\n",
        b"connection: upgrade\r\nupgrade: h2c\r\n",
        b"content-encoding: br\r\n",
        b"set-cookie: a=b\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
    ]
)


@given(st.lists(st.lists(_pieces | st.binary(max_size=12), min_size=1, max_size=8).map(b"".join), max_size=5))
@settings(max_examples=150)
def test_whatever_bytes_come_an_attempt_ends_with_an_outcome(parts):
    async def attempt():
        async with hostile(answers(*parts, then="close")) as server, sending() as sender:
            for _ in range(2):  # the second meets what the first left behind
                fits(await sender.send(server.url, {}, b"{}"), set(Outcome))

    asyncio.run(attempt())
