"""What loops and calls send again and again reads few pages, also of tables that PostgreSQL has never counted.

Every day begins with partitions of which it knows nothing, and every installation with tables that are empty when
their statements are planned: what has ended since then must cost nobody anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import Boolean, Float, Integer, Table

from core.store import metadata, postgresql
from core.store.agents import tasks
from core.store.control import approvals, audit_chain, plans
from core.store.database import Database
from core.store.events import events
from core.store.merging import stragglers
from core.store.messages import outgoing_due
from core.store.metadata import Instant, Json, day_of, to_micros, write_json
from core.store.records import named_records
from core.store.transaction import Transaction
from core.store.webhooks import delivery_claims, delivery_readiness
from core.store.workflows import apply, claims, hearing
from tests.conftest import START

pytestmark = pytest.mark.anyio

ENDED, EVENTS, UNSEALED = 3_000, 12_000, 200
"""How many have ended; of events so many that their key, read from end to end, is more than the claim may look at."""
NOW, DAY, SOON = to_micros(START), day_of(START), timedelta(seconds=30)
_LAST = 99_999_999
ID = f"'x_' || ({_LAST} - n)"
ONE = f"x_{_LAST - 1}"
"""The last one, so that whoever comes from the front meets all others before it."""
KEY = ("org_a", ONE)
TODAY = {"id": ID, "day": f"{DAY}"}

_PAGES = (
    "SELECT coalesce(sum(pg_stat_get_xact_blocks_fetched(oid)), 0)::bigint FROM pg_class "
    "WHERE relname NOT LIKE 'pg\\_%' AND relkind IN ('r', 'i')"
)
_WAITING: dict[str, dict[str, str]] = {
    "events": {**TODAY, "contact_id": ID, "match_due_at": f"{NOW}"},
    "audit_entries": {**TODAY, "subject_id": ID},
    "deliveries": {
        **TODAY, "endpoint_id": "'ep_1'", "message_id": ID, "place": "n", "due_at": f"{NOW}", "state": "'pending'",
    },
    "enrollments": {
        "id": ID, "workflow_id": "'flow'", "contact_id": ID, "due_at": f"{NOW}", "state": "'active'",
        "wait_kind": "'event'", "wait_subject": "'paid'", "wait_key": ID, "wait_since": f"{NOW}",
    },
    "outgoing_messages": {
        "id": ID, "contact_id": ID, "enrollment_id": ID, "workflow_id": "'flow'", "due_at": f"{NOW}",
        "state": "'pending'",
    },
    "plans": {"id": ID, "state": "'open'", "expires_at": f"{NOW}"},
    "approvals": {"id": ID, "state": "'pending'", "subject_id": ID},
    "agent_tasks": {"id": ID, "state": "'open'", "enrollment_id": ID},
    "record_identifiers": {"record_type": "'contact'", "kind": "'email'", "value": ID, "record_id": ID},
    "suppressions": {"id": ID, "key": ID, "contact_id": ID, "lifted_at": "1"},
}  # fmt: skip
"""Table to what its rows hold, where that is not nothing."""

_ENDED = {
    "events": f"match_due_at = NULL WHERE id <> '{ONE}'",
    "audit_entries": f"sequence = {_LAST} - right(id, 8)::int WHERE id < 'x_{_LAST - UNSEALED}'",
    "deliveries": f"state = 'delivered', due_at = NULL WHERE id <> '{ONE}'",
    "enrollments": f"state = 'ended', due_at = NULL WHERE id <> '{ONE}'",
    "outgoing_messages": f"state = 'sent', due_at = NULL WHERE id <> '{ONE}'",
    "plans": f"state = 'applied' WHERE id <> '{ONE}'",
    "approvals": "state = 'approved'",
    "agent_tasks": "state = 'answered'",
}
"""What becomes of all but one of them, or but a few."""


async def _settled(tx: Transaction) -> None:
    await claims.settle(tx, await claims.claim_by_id(tx, [KEY]))


async def _stragglers(tx: Transaction) -> None:
    await stragglers._late(tx, cast(Any, [SimpleNamespace(org_id="org_a", merged_id=ONE)]))


async def _named(tx: Transaction) -> None:
    await named_records.hold_named(tx.within("org_a"), "contact", [("email", ONE)], [])


async def _written(tx: Transaction) -> None:
    """Write one that has moved on meanwhile: it is looked up, and left alone."""
    await tx.fetch(apply._UPDATE_POSTGRESQL, write_json([(*[None] * len(apply._MOVING), *KEY, 99)]))


CASES: dict[str, tuple[Callable[[Transaction], Awaitable[Any]], int]] = {
    "the matcher's claim": (lambda tx: hearing.claim(tx, tx.now, 128, around=SOON), 300),
    "what arrived for somebody": (lambda tx: events.received_since(tx, [("org_a", ONE, "", START, None)]), 60),
    "who has entries to seal": (lambda tx: audit_chain.waiting(tx, 0), 60),
    "a seal": (lambda tx: audit_chain.seal(tx, "org_a", 0), 60 + 30 * UNSEALED),
    "for whom deliveries are due": (lambda tx: delivery_readiness.look(tx), 80),
    "the dispatcher's claim": (lambda tx: delivery_claims.claim(tx, limit=9, lease=SOON, token="t"), 200),
    "who has enrollments due": (lambda tx: claims.due_organizations(tx, tx.now), 40),
    "the engine's claim": (lambda tx: claims.claim_due(tx, {"org_a": 0}, tx.now, 9), 40),
    "what the engine decided": (_written, 20),
    "an enrollment put to sleep": (_settled, 60),
    "who waits for an event": (lambda tx: claims.claim_event_waits(tx, [KEY]), 60),
    "who is in a workflow": (lambda tx: claims.claim_active_of_contacts(tx, [(*KEY, "flow")]), 40),
    "the mailer's claim": (lambda tx: outgoing_due.claim(tx, limit=9, lease=SOON, token="t"), 80),
    "plans that expire": (plans.expire_due, 30),
    "approvals that expire": (lambda tx: approvals.expire_due(tx, tx.now), 150),
    "tasks that expire": (tasks.expire, 30),
    "what came late to a merged record": (_stragglers, 400),
    "whose an address is": (_named, 30),
}


async def test_what_has_ended_costs_nobody_anything(postgresql_database: Database) -> None:
    database = postgresql_database
    async with database.system() as tx:
        await postgresql.ensure_partitions(tx, tx.now)
        await _fill(tx, "organizations", 1, org_id="'org_a'")
        await _fill(tx, "endpoints", 1, id="'ep_1'", state="'active'", kind="'push'", verification="'verified'")
    await _pages_of_each(database)  # so plans are made that know of no rows
    async with database.system() as tx:
        for table, values in _WAITING.items():
            await _fill(tx, table, EVENTS if table == "events" else ENDED, **values)
    async with database.system() as tx:
        for table, change in _ENDED.items():
            await tx.fetch(f"UPDATE {table} SET {change}")
    await _pages_of_each(database)  # who comes first clears away
    planned_before = await _pages_of_each(database)
    await database.workers.close_free()
    await _pages_of_each(database)  # who plans looks at pages as well
    planned_now = await _pages_of_each(database)
    too_many = {
        (name, when): pages[name]
        for when, pages in (("planned before", planned_before), ("planned now", planned_now))
        for name, (_, most) in CASES.items()
        if pages[name] > most
    }
    assert too_many == {}


async def _pages_of_each(database: Database) -> dict[str, int]:
    """Return how many pages each case looks at; none of them has done anything in the end."""
    found: dict[str, int] = {}
    for name, (work, _) in CASES.items():
        with suppress(ZeroDivisionError):
            async with database.system() as tx:
                before = (await tx.fetch(_PAGES))[0][0]
                await work(tx)
                found[name] = int((await tx.fetch(_PAGES))[0][0] - before)
                raise ZeroDivisionError
    return found


async def _fill(tx: Transaction, name: str, number: int, **values: str) -> None:
    """Write so many rows of an organization, with nothing in them but these values."""
    table = metadata.metadata.tables[name]
    wanted = {"org_id": "'org_a'"} | _nothing(table) | values
    columns, texts = ", ".join(wanted), ", ".join(wanted.values())
    await tx.fetch(f"INSERT INTO {name} ({columns}) SELECT {texts} FROM generate_series(1, {number}) n")


def _nothing(table: Table) -> dict[str, str]:
    empty: dict[type, str] = {Instant: f"{NOW}", Json: "'{}'", Boolean: "false", Integer: "0", Float: "0"}
    return {
        column.name: next((text for kind, text in empty.items() if isinstance(column.type, kind)), "''")
        for column in table.c
        if not column.nullable and column.server_default is None and column.name != "org_id"
    }
