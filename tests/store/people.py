"""Two contacts with something in every table that a merge touches, and what the database says of an organization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from core import ids
from core.domain import names
from core.store.agents.executions import executions
from core.store.database import Database
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.messages.consent import consents
from core.store.messages.outgoing import outgoing_messages
from core.store.messages.suppressions import suppressions
from core.store.metadata import metadata
from core.store.records import lists, records
from core.store.records.lists import ListChange
from core.store.transaction import EVERY_ORGANIZATION, Transaction
from core.store.workflows.dead_letters import dead_letters
from core.store.workflows.enrollments import enrollments

HISTORY = frozenset(
    (
        *("merges", "merge_moves", "record_changes", "trace_entries", "step_outcomes", "step_statistics"),
        *("messages", "deliveries", "idempotency"),
    )
)
"""What only grows: a merge and its undoing are both remembered."""
VERSIONS = frozenset({"rev", "updated_at", "trace_count", "rowid"})
"""Columns that tell that something happened at all."""


@dataclass(frozen=True, slots=True)
class Life:
    """What a contact has."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    identifiers: Sequence[tuple[str, str]] = ()
    lists: frozenset[str] = frozenset()
    enrollments: Sequence[tuple[str, str, str, str]] = ()
    """Workflow, key, state, and what it waits for."""
    consents: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    leads: int = 0
    events: int = 0
    messages: int = 0


async def live(tx: Transaction, life: Life, number: int = 0) -> str:
    """Write a contact with all it has, and return its id."""
    who = {"actor": "key_1", "cause": "call:1"}
    identifiers = life.identifiers or [("person_id", f"P{number}-{ids.mint('cnt', tx.now)}")]
    contact = (await records.upsert(tx, "contact", life.fields, identifiers, **who)).record.id
    for position in range(life.leads):
        await records.upsert(tx, "lead", {"contact_id": contact, "lead_ref": f"{number}.{position}"}, **who)
    await lists.change(tx, [ListChange(tx.org_id, name, contact, True, "key_1") for name in life.lists])
    for workflow, key, state, wait in life.enrollments:
        await enrolled(tx, contact, workflow, key=key, state=state, wait=wait)
    rows = [
        {
            "contact_id": contact,
            "channel": channel,
            "purpose": purpose,
            "granted": granted,
            "actor": "key_1",
            "reason": "",
            "updated_at": tx.now,
        }
        for (channel, purpose), granted in life.consents.items()
    ]
    await tx.insert(consents, rows, on_conflict="ignore")  # the field `unsubscribed` is an answer, too
    await events.store(tx, [_event(tx, contact, position) for position in range(life.events)])
    await tx.insert(outgoing_messages, [_message(tx, contact) for _ in range(life.messages)])
    if life.messages:
        about = {"key": ids.mint("msg", tx.now), "channel": "email", "address": "", "purpose": "*", "reason": "bounced"}
        rest = {"cause": "", "actor": "", "contact_id": contact, "created_at": tx.now, "lifted_by": ""}
        await tx.insert(suppressions, [{"id": ids.mint("cnt", tx.now), **about, **rest, "lift_reason": ""}])
    return contact


async def enrolled(
    tx: Transaction, contact: str, workflow: str, *, key: str = "", state: str = "active", wait: str = "timer"
) -> str:
    """Write an enrollment with a dead letter and an execution, and return its id."""
    enrollment = ids.mint("enr", tx.now)
    running = state == "active"
    due = tx.now + timedelta(days=1) if running and wait == "timer" else None
    row = {
        "id": enrollment,
        "bucket": names.bucket(tx.org_id),
        "workflow_id": workflow,
        "version": 1,
        "contact_id": contact,
        "key": key,
        "occurrence": 1,
        "actor": "mem_1",
        "state": state,
        "step_id": "pause",
        "rev": 3,
        "trace_count": 1,
        "due_at": due,
        "deadline": due,
        "wait_kind": wait if running else None,
        "wait_subject": "reply.received" if wait == "event" else "",
        "wait_key": {"event": contact, "order": "order_id=7"}.get(wait) if running else None,
        "wait_since": tx.now if running else None,
        "data": {"vars": {"a": 1}, "event": None, "outputs": {}},
        "end_reason": "" if running else "done",
        "entered_at": tx.now,
        "moved_at": tx.now,
        "ended_at": None if running else tx.now,
    }
    await tx.insert(enrollments, [row])
    about = {"enrollment_id": enrollment, "workflow_id": workflow, "version": 1, "contact_id": contact}
    letter = {"step_id": "pause", "kind": "wait", "failure": "F", "reason": "", "attempts": 1, "state": "open"}
    told = {"created_at": tx.now, "redriven_by": "", "message_id": ""}
    await tx.insert(dead_letters, [{"id": ids.mint("dl", tx.now), **about, **letter, **told}])
    carried = {"agent_id": "agt_1", "input": {}, "created_at": tx.now}
    await tx.insert(executions, [{"id": ids.mint("exe", tx.now), **about, **carried}])
    return enrollment


def _event(tx: Transaction, contact: str, position: int) -> NewEvent:
    old = bool(position % 2)
    about = ("web", "action", "page.viewed", {"n": position}, contact, tx.now, "")
    return NewEvent(ids.mint("evt", tx.now), *about, history=old)


def _message(tx: Transaction, contact: str) -> dict[str, Any]:
    texts = dict.fromkeys(("step_id", "subject", "text", "html", "outcome"), "x")
    return {
        "id": ids.mint("msg", tx.now),
        "enrollment_id": "enr_0",
        "workflow_id": "w",
        "contact_id": contact,
        "channel": "email",
        "purpose": "marketing",
        "recipient": "a@example.com",
        "ordinal": 1,
        "awaited": False,
        "terms": {},
        "state": "sent",
        "attempts": 1,
        "created_at": tx.now,
        **texts,
    }


async def standing(database: Database, org: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of an organization, but for history and versions."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    async with database.read(EVERY_ORGANIZATION) as tx:
        for name, table in sorted(metadata.tables.items()):
            if name not in HISTORY and "org_id" in table.c:
                columns = [column for column in table.c if column.name not in VERSIONS]
                rows = await tx.all(select(*columns).where(table.c.org_id == org).order_by(*table.primary_key.columns))
                found[name] = [tuple(row) for row in rows]
    return {name: rows for name, rows in found.items() if rows}
