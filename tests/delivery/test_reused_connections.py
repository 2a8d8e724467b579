"""Connections that are used again: what closes or talks between two requests costs no attempt and answers none."""

from __future__ import annotations

import asyncio

import pytest

from core.domain.webhooks.classify import Outcome
from tests.delivery.hostile import EMPTY, OK, answers, hostile, request, reset, sending

pytestmark = pytest.mark.anyio


def first_then(first, later):
    """Talk the first way on a connection's first request, the other way on those after it."""

    async def talk(server, reader, writer):
        await request(server, reader)
        writer.write(first)
        await writer.drain()
        await request(server, reader)
        await later(server, reader, writer)

    return talk


async def _reset_now(_server, _reader, writer):
    reset(writer)


async def _close_now(_server, _reader, _writer):
    return


async def _half_an_answer(_server, _reader, writer):
    writer.write(b"HTTP/1.1 500 Oh\r\ncontent-length: 5\r\n\r\nab")
    await writer.drain()


@pytest.mark.parametrize("later", [_reset_now, _close_now])
async def test_an_idle_connection_that_ends_as_it_is_used_again_costs_no_attempt(later):
    async with hostile(first_then(EMPTY, later)) as server, sending() as sender:
        results = [await sender.send(server.url, {}, body) for body in (b"1", b"2")]
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 2
    assert server.connections == 2
    assert [got[-1:] for got in server.requests] == [b"1", b"2", b"2"]  # the one that was lost, and its repetition


async def test_an_answer_that_has_begun_is_not_asked_for_again():
    async with hostile(first_then(EMPTY, _half_an_answer)) as server, sending() as sender:
        await sender.send(server.url, {}, b"1")
        second = await sender.send(server.url, {}, b"2")
    assert (second.outcome, second.status_code) == (Outcome.CONNECTION_LOST, 500)
    assert (server.connections, len(server.requests)) == (1, 2)


async def test_what_closes_every_connection_is_asked_twice_and_no_more():
    async def talk(server, reader, writer):
        await request(server, reader)
        if server.connections == 1:
            writer.write(EMPTY)
            await writer.drain()
            await request(server, reader)

    async with hostile(talk) as server, sending() as sender:
        await sender.send(server.url, {}, b"1")
        second = await sender.send(server.url, {}, b"2")
    assert second.outcome is Outcome.CONNECTION_LOST
    assert (server.connections, len(server.requests)) == (2, 3)


BODIES_OF_204 = {
    "in one packet": [b"HTTP/1.1 204 No Content\r\n\r\n{}"],
    "with its length": [b"HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n{}"],
    "in chunks": [b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
    "later": [b"HTTP/1.1 204 No Content\r\n\r\n", b"{}"],
    "with a head in parts": [b"HTTP/1.1 204 No Content\r\n", b"\r", b"\n{}"],
    "with hints before it": [b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n{}"],
}


@pytest.mark.parametrize("case", BODIES_OF_204)
async def test_a_204_with_a_body_is_a_delivery_and_the_body_is_no_answer_to_what_comes_next(case):
    async with hostile(answers(*BODIES_OF_204[case])) as server, sending() as sender:
        results = [await sender.send(server.url, {}, b"{}") for _ in range(3)]
    for result in results:
        assert (result.outcome, result.status_code, result.response_text) == (Outcome.DELIVERED, 204, "")


@pytest.mark.parametrize("pause", [False, True])
async def test_an_answer_given_before_it_is_asked_for_answers_nothing(pause):
    """A second answer behind the first, at once or while the connection rests, is not the next request's."""
    sent = asyncio.Event()

    async def talk(server, reader, writer):
        await request(server, reader)
        if server.connections > 1:
            writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
            return
        writer.write(EMPTY)
        if pause:
            await writer.drain()
            await answered.wait()
        writer.write(OK + b"x-forged: yes\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        sent.set()
        await reader.read()

    answered = asyncio.Event()
    async with hostile(talk) as server, sending() as sender:
        first = await sender.send(server.url, {}, b"1")
        answered.set()
        await sent.wait()
        for _ in range(5):  # rounds of the loop in which the client's side hears of it
            await asyncio.sleep(0)
        second = await sender.send(server.url, {}, b"2")
    assert (first.outcome, first.status_code) == (Outcome.DELIVERED, 200)
    assert (second.outcome, second.status_code, second.headers.get("x-forged")) == (Outcome.HTTP_STATUS, 503, None)


async def test_an_answer_that_comes_too_late_is_not_the_next_request_s():
    late = asyncio.Event()

    async def talk(server, reader, writer):
        await request(server, reader)
        if server.connections == 1:
            await late.wait()
            writer.write(EMPTY)
        else:
            writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with hostile(talk) as server, sending() as sender:
        first = await sender.send(server.url, {}, b"1")
        late.set()
        second = await sender.send(server.url, {}, b"2")
    assert (first.outcome, second.outcome, second.status_code) == (Outcome.TIMEOUT, Outcome.HTTP_STATUS, 503)


async def test_a_connection_is_kept_where_every_answer_is_whole():
    async def talk(server, reader, writer):
        while True:
            await request(server, reader)
            for part in (b"HTTP/1.1 103 Early Hints\r\n\r", b"\n" + OK + b"content-length: 2\r", b"\n\r\nh", b"i"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)

    async with hostile(talk) as server, sending() as sender:
        results = [await sender.send(server.url, {}, b"{}") for _ in range(5)]
    assert [(result.outcome, result.response_text) for result in results] == [(Outcome.DELIVERED, "hi")] * 5
    assert server.connections == 1
