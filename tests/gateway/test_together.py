"""Questions that several ask at once: one goes out at a time, everybody gets their own answer, a failure is shared."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from core.gateway.peers import peer_of
from core.gateway.together import MOST_AT_ONCE, Together

pytestmark = pytest.mark.anyio


class Store:
    """Answers when it is let, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[frozenset[int]] = []
        self.open = asyncio.Event()
        self.failing = False

    async def ask(self, keys: frozenset[int]) -> dict[int, str]:
        self.asked.append(keys)
        await self.open.wait()
        if self.failing:
            raise ConnectionError("away")
        return {key: str(key) for key in keys if key % 2 == 0}


async def _started() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_who_comes_while_one_question_is_out_shares_the_next() -> None:
    store = Store()
    together = Together(store.ask)
    first = asyncio.create_task(together.find(0))
    await _started()
    waiting = [asyncio.create_task(together.find(number)) for number in (1, 2, 3, 2)]
    await _started()
    store.open.set()
    assert await first == "0"
    assert await asyncio.gather(*waiting) == [None, "2", None, "2"]
    assert store.asked == [{0}, {1, 2, 3}]


async def test_a_question_has_a_limit_and_nobody_is_turned_away() -> None:
    store = Store()
    together = Together(store.ask)
    count = 2 * MOST_AT_ONCE + 2
    asking = [asyncio.create_task(together.find(2 * number)) for number in range(count)]
    await _started()
    store.open.set()
    assert await asyncio.gather(*asking) == [str(2 * number) for number in range(count)]
    assert max(map(len, store.asked)) <= MOST_AT_ONCE
    assert len(store.asked) <= 4


async def test_a_failure_is_told_to_all_who_asked_and_to_nobody_later() -> None:
    store = Store()
    store.failing = True
    together = Together(store.ask)
    waiting = [asyncio.create_task(together.find(number)) for number in (0, 2)]
    await _started()
    store.open.set()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told] == [ConnectionError, ConnectionError]
    store.failing = False
    assert await together.find(2) == "2"


async def test_who_goes_away_takes_nobody_s_answer_along() -> None:
    store = Store()
    together = Together(store.ask)
    first = asyncio.create_task(together.find(0))
    second = asyncio.create_task(together.find(2))
    await _started()
    first.cancel()
    store.open.set()
    assert await second == "2"
    assert first.cancelled()


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002/64"),
        ("2001:db8:1:2::1", "20010db800010002/64"),
        ("fe80::1%eth0", "fe80000000000000/64"),
        ("a-socket", "a-socket"),
    ],
)
def test_a_peer_is_an_address_or_a_network(host: str, peer: str) -> None:
    assert peer_of(Request({"type": "http", "client": (host, 1)})) == peer


def test_who_has_no_address_is_nobody() -> None:
    assert peer_of(Request({"type": "http", "client": None})) == ""
