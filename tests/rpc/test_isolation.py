"""A second organization sees nothing of the first one and changes nothing of it: every table, every method."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from core import provisioning
from core.clock import ManualClock
from core.domain.errors import DripstoneError
from core.provisioning import Provisioned
from core.rpc.methods import Access
from core.store.database import Database
from core.store.metadata import metadata
from core.store.transaction import EVERY_ORGANIZATION
from tests.contract.filling import filled
from tests.receiver import Receiver
from tests.running import RunningCore, running
from tests.story import Told, tell

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

MARKER = "zebra"
MAY_CHANGE = {"api_keys"}
"""Tables of the first organization that time itself touches: the last use of its keys."""


@pytest.fixture
async def postgresql_core(
    postgresql_url: str, tmp_path: Path, clock: ManualClock, anyio_backend: str
) -> AsyncIterator[RunningCore]:
    async with running(postgresql_url, tmp_path, clock) as started:
        yield started


async def _rows(database: Database, org_id: str) -> dict[str, list[tuple[Any, ...]]]:
    async with database.read(EVERY_ORGANIZATION) as tx:
        return {
            name: [
                tuple(row)
                for row in await tx.all(
                    select(table).where(table.c.org_id == org_id).order_by(*table.primary_key.columns)
                )
            ]
            for name, table in sorted(metadata.tables.items())
        }


async def test_no_table_shows_a_row_to_another_organization(core: RunningCore, receiver: Receiver) -> None:
    await tell(core, receiver.url, MARKER)
    database = core.core.database
    other = await provisioning.create_organization(database, "Other")
    there = await _rows(database, core.organization.org_id)
    assert [name for name, rows in there.items() if not rows] == [], "the story leaves a row in every table"
    for name, table in metadata.tables.items():
        async with database.read(other.org_id) as tx:
            rows = await tx.all(select(table))
            assert all(row.org_id == other.org_id for row in rows), name
            if tx.dialect == "postgresql":  # past our own predicate: row-level security alone
                seen = await tx.fetch(f"SELECT DISTINCT org_id FROM {name}")
                assert {org_id for (org_id,) in seen} <= {other.org_id}, name


async def test_a_session_that_names_no_organization_sees_nothing(
    postgresql_core: RunningCore, receiver: Receiver
) -> None:
    """SQLite has no row-level security: there Transaction alone holds the line, as tested above."""
    await tell(postgresql_core, receiver.url, MARKER)
    async with postgresql_core.core.database.callers.engine.connect() as connection:
        try:  # a fresh session gets an error; one that served a call before has the setting emptied
            rows = (await connection.execute(text("SELECT * FROM records"))).all()
        except DBAPIError as error:
            assert "app.org" in str(error)  # noqa: PT017
        else:
            assert rows == []


async def _alone(request: Message) -> AsyncIterator[Message]:
    yield request


async def _call(core: RunningCore, method: Any, request: Message, key: str) -> str:
    metadata_ = {"authorization": f"Bearer {key}"}
    try:
        if method.streaming:
            pipeline = core.core.outward.pipeline
            if method.client_streaming:
                answers = pipeline.exchange(method, _alone(request), metadata_)
            else:
                answers = pipeline.stream(method, request, metadata_)
            async for message in answers:
                return str(message)
            return ""
        return str((await core.core.outward.pipeline.unary(method, request, metadata_)).message)
    except DripstoneError as error:
        return f"{type(error).__name__} {error.message} {error.violations}"


async def test_no_method_shows_or_changes_anything_of_another_organization(
    core: RunningCore, receiver: Receiver
) -> None:
    told: Told = await tell(core, receiver.url, MARKER)
    other: Provisioned = await provisioning.create_organization(core.core.database, "Other")
    before = await _rows(core.core.database, core.organization.org_id)
    ids = asdict(told)
    given = set(ids.values()) - {"default"}
    # Reads first: what the second organization makes under the same chosen ids is its own.
    for method in sorted(core.core.outward.methods, key=lambda method: method.access is not Access.READ):
        request = filled(method, ids)
        answer = await _call(core, method, request, other.api_key)
        for told_by_the_caller in sorted(given, key=len, reverse=True):
            if told_by_the_caller in str(request):
                answer = answer.replace(told_by_the_caller, "")
        assert MARKER not in answer, f"{method.name} shows {answer}"
        assert not {id_ for id_ in given if id_ in answer}, f"{method.name} shows {answer}"
    await core.settle()
    after = await _rows(core.core.database, core.organization.org_id)
    for name, rows in before.items():
        if name not in MAY_CHANGE:
            assert after[name] == rows, f"{name} of the first organization changed"


async def test_every_method_asks_for_a_key_and_for_its_scope(core: RunningCore) -> None:
    from core import ids as secrets

    powerless = await provisioning.mint_key(
        core.core.database, core.organization.org_id, "Powerless", "service", "", frozenset()
    )
    for method in core.core.outward.methods:
        refused = await _call(core, method, method.request_class(), secrets.new_api_key())
        assert refused.startswith("Unauthenticated"), method.name
        answer = await _call(core, method, method.request_class(), powerless)
        if method.scope != "caller":
            assert answer.startswith("ScopeMissing"), f"{method.name}: {answer}"
