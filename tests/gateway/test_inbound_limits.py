"""What the inbound door does with too much: limits before work, and nobody starved by strangers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from core.domain.inbound import verifiers
from core.domain.inbound.request import Arrived
from core.domain.inbound.verifiers import Verifier
from core.gateway import inbound
from core.store.events import sources
from core.store.transaction import Transaction
from tests.databases import Databases
from tests.posting import Poster

pytestmark = pytest.mark.anyio


@pytest.fixture
def database_url(tmp_path: Path, databases: Databases) -> str:
    """Return the address of one database that a whole core starts on: tests/rpc/test_quarantine.py uses both."""
    return databases.on_sqlite(tmp_path / "dripstone.db", "migrated")


async def test_too_much_at_once_is_refused_before_it_is_looked_at(
    shop: Poster, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.begin(verifier=None)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    async def of_a_trickle() -> bytes:
        reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
        writer.write(f"POST {shop.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{".encode())
        line = await reader.readline()
        writer.close()
        return line

    async def status(**request: Any) -> int:
        try:
            return (await http.post(shop.path, **request)).status_code
        except httpx2.WriteError:  # it answered and hung up while we were sending
            return 413

    monkeypatch.setattr(inbound, "_BODY_SECONDS", 0.2)
    assert await status(content=b"x" * (1024 * 1024 + 1)) == 413
    assert await status(content=endless()) == 413
    assert await status(content=b"{}", headers={"x-large": "x" * 17_000}) == 431
    assert await status(content=b"{}", headers=[(f"x-{number}", "1") for number in range(101)]) == 431
    assert await status(content=b"{}", params={"x": "x" * 8_200}) == 431
    assert await of_a_trickle() == b"HTTP/1.1 408 Request Timeout\r\n"
    assert await shop.quarantined() == []


async def test_a_source_s_rate_is_limited_and_forgers_use_up_nothing_of_it(shop: Poster) -> None:
    await shop.begin()
    forged = await asyncio.gather(*(shop.post(b"{}", {}) for _ in range(210)))
    assert Counter(answer.status_code for answer in forged) == {401: 200, 429: 10}
    assert (await shop.send({"type": "a"})).status_code == 200
    many = [json.dumps({"type": "a"}).encode()] * 210
    answers = await asyncio.gather(*(shop.send(body, f"m{number}") for number, body in enumerate(many)))
    limited = [answer for answer in answers if answer.status_code == 429]
    assert 0 < len(limited) <= 12
    assert {answer.headers["retry-after"] for answer in limited} == {"1"}
    assert limited[0].json()["error"]["reason"] == "RATE_LIMITED"


LARGE = b" " * inbound.SMALL_BODY + b"{}"


async def test_what_is_too_much_is_refused_before_its_bytes_are_looked_at(
    shop: Poster, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.begin()
    looked_at: list[int] = []

    def verified(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
        looked_at.append(len(arrived.body))
        return verifiers.verified(verifier, arrived, now)

    monkeypatch.setattr(inbound, "verifiers", SimpleNamespace(verified=verified))
    forged = await asyncio.gather(*(shop.post(LARGE, {}) for _ in range(210)))
    assert Counter(answer.status_code for answer in forged) == {401: 200, 429: 10}
    assert Counter(looked_at) == {len(LARGE): 200}

    async def in_pieces() -> AsyncIterator[bytes]:
        yield LARGE

    assert (await http.post(shop.path, content=in_pieces())).status_code == 429
    assert (await shop.send(LARGE)).status_code == 429  # from the forgers' address
    assert Counter(looked_at) == {len(LARGE): 200}
    assert (await shop.send({"type": "a"})).status_code == 200  # no more work than reading its head
    shop.core.clock.advance(timedelta(seconds=1))
    assert (await shop.send(LARGE)).status_code == 202


async def test_a_source_at_its_limit_costs_no_more_work(shop: Poster, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.begin(verifier=None)
    answers = await asyncio.gather(*(shop.post(b'{"type": "a"}', {}) for _ in range(200)))
    assert {answer.status_code for answer in answers} == {200}
    monkeypatch.setattr(inbound, "verifiers", None)  # whoever asked it would fail
    assert (await shop.post(b'{"type": "a"}', {})).status_code == 429


async def test_made_up_addresses_keep_nobody_from_theirs(shop: Poster, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.begin()
    asked: list[int] = []
    by_tokens = sources.by_tokens

    async def counted(tx: Transaction, tokens: Iterable[str]) -> dict[str, Any]:
        asked.append(len(list(tokens)))
        return await by_tokens(tx, tokens)

    monkeypatch.setattr(sources, "by_tokens", counted)
    made_up = [f"/in/{number:032d}" for number in range(300)]
    *strangers, genuine = await asyncio.gather(
        *(shop.post(b"{}", {}, path=path) for path in made_up), shop.send({"type": "a"})
    )
    assert {answer.status_code for answer in strangers} == {404}
    assert genuine.status_code == 200
    assert sum(asked) == 301
