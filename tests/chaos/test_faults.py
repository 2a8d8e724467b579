"""The faults do what they say, and a database survives them: what fails leaves a connection that works."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from core.store.database import Database
from core.store.organizations.organizations import organizations
from core.store.transaction import EVERY_ORGANIZATION
from tests.chaos.faults import Faults, Hiccup, Kind, PowerCut

pytestmark = pytest.mark.anyio

_INSERT, _COMMIT = 0, 1
"""Statements that pass before the one at fault, once the transaction has begun."""


async def _insert(database: Database, faults: Faults, kind: Kind, statements: int) -> None:
    async with database.system() as tx:
        await tx.all(select(organizations.c.org_id))  # it has begun
        faults.arm(kind, statements)
        row = {"org_id": f"org_{statements}", "display_name": "", "timezone": "UTC", "created_at": tx.now}
        await tx.insert(organizations, [row])


async def _count(database: Database) -> int:
    async with database.read(EVERY_ORGANIZATION) as tx:
        ((count,),) = await tx.all(select(func.count()).select_from(organizations))
    return int(count)


@pytest.mark.parametrize(("statements", "name"), [(_INSERT, "a statement"), (_COMMIT, "a commit")])
async def test_what_fails_once_leaves_nothing_behind_and_a_connection_that_works(
    database: Database, statements: int, name: str
) -> None:
    faults = Faults()
    await faults.attach(database)
    with pytest.raises(Hiccup):
        await _insert(database, faults, "hiccup", statements)
    assert await _count(database) == 0, name
    async with database.system() as tx:
        await tx.insert(
            organizations, [{"org_id": "org_9", "display_name": "", "timezone": "UTC", "created_at": tx.now}]
        )
    assert await _count(database) == 1


@pytest.mark.parametrize(
    ("kind", "statements", "left"),
    [("cut before", _INSERT, 0), ("cut after", _INSERT, 0), ("cut before", _COMMIT, 0), ("cut after", _COMMIT, 1)],
)
async def test_only_a_power_cut_after_the_commit_leaves_what_was_written(
    database: Database, kind: Kind, statements: int, left: int
) -> None:
    faults = Faults()
    await faults.attach(database)
    with pytest.raises(PowerCut):
        await _insert(database, faults, kind, statements)
    with pytest.raises(PowerCut):
        await _count(database)
    faults.off = False
    for connections in (database.callers, database.workers):
        await connections.close_free()  # another process opens its own connections
    assert await _count(database) == left
