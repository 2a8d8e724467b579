"""Scoring models, plans and turns as rows, on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.store.database import Database
from core.store.qualification import qualification

pytestmark = pytest.mark.anyio

ORG = "org_a"


async def publish(database: Database, model_id: str, title: str = "Inbound") -> int:
    async with database.write(ORG) as tx:
        row = await qualification.publish(
            tx, model_id, title=title, source=f"title: {title}", document={"title": title}, published_by="key_1"
        )
    return int(row.version)


async def test_each_publication_is_the_next_version_and_versions_stay(database: Database) -> None:
    assert [await publish(database, "default", "One"), await publish(database, "default", "Two")] == [1, 2]
    async with database.read(ORG) as tx:
        first = await qualification.get_version(tx, "default", 1)
        newest = await qualification.get_version(tx, "default")
        assert await qualification.get_version(tx, "default", 3) is None
        assert await qualification.model_ids(tx) == ["default"]
    assert first is not None
    assert newest is not None
    assert (first.title, first.source, newest.version, newest.document) == ("One", "title: One", 2, {"title": "Two"})


async def test_publications_at_once_get_a_version_each(database: Database) -> None:
    assert sorted(await asyncio.gather(*(publish(database, "default") for _ in range(5)))) == [1, 2, 3, 4, 5]


async def test_models_are_listed_by_their_newest_publication(database: Database, clock: ManualClock) -> None:
    for model_id in ("alpha", "beta", "gamma", "alpha"):
        await publish(database, model_id)
        clock.advance(timedelta(seconds=1))
    async with database.read(ORG) as tx:
        rows, token = await qualification.list_newest(tx, 2, "")
        rest, end = await qualification.list_newest(tx, 2, token)
    assert ([row.id for row in rows], [row.id for row in rest], end) == (["alpha", "gamma"], ["beta"], "")


async def test_concurrent_turns_are_all_different(database: Database) -> None:
    async def take() -> int:
        async with database.write(ORG) as tx:
            position = await qualification.cursor(tx, "default", lock=True)
            await qualification.move_cursor(tx, "default", position + 1)
        return position

    assert sorted(await asyncio.gather(*(take() for _ in range(20)))) == list(range(20))
    async with database.read(ORG) as tx:
        assert await qualification.cursor(tx, "default") == 20
        assert await qualification.cursor(tx, "other") == 0
