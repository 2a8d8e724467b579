"""kill -9 while three processes share the work: the table they leave is the one that the pure machine computes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from core.clock import SystemClock
from core.domain.effects import Emit, SendMessage
from core.domain.enrollment import Enrollment, RecordFacts
from core.domain.trace import BESIDE, OUTCOME
from core.store.database import Database
from core.store.messages import outgoing
from core.store.organizations import organizations
from core.store.records import record_rows
from core.store.transaction import EVERY_ORGANIZATION
from core.store.webhooks import outbox
from dripstone.v1 import enrollment_pb2, event_pb2, webhook_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.chaos.audit import Rows, audit, rows
from tests.chaos.ledger import Ledger
from tests.chaos.replay import Replayed, replay
from tests.chaos.server_process import ServerProcess
from tests.receiver import Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

KILLS = int(os.environ.get("DRIPSTONE_KILLS", "2"))
CONTACTS_PER_CALL = 10
PATIENT = "patient"
SOURCE = """
title: Whatever happens
circuit_breaker: off
steps:
  - {id: first, kind: webhook, event_type: chaos.first, data: {email: "{{ contact.email }}"}}
  - {id: mark, kind: update, set: {custom.seen: 1}}
  - {id: pause, kind: wait, for: 1s}
  - {id: way, kind: split, ways: {a: 1, b: 1}, exits: {a: ask, b: who}}
  - id: ask
    kind: webhook
    event_type: chaos.ask
    data: {email: "{{ contact.email }}"}
    await: true
    answer_schema: {type: object, properties: {ok: {const: true}}, required: [ok]}
    retry: {attempts: 3, delay: 1s}
    exits: {delivered: who, failed: who}
  - {id: who, kind: branch, cases: [{name: patient, when: 'contact.job_title == "patient"'}],
     exits: {patient: call, else: brief}}
  - {id: call, kind: webhook, event_type: chaos.call, data: {email: "{{ contact.email }}"}}
  - {id: listen, kind: wait_for_event, event: chaos.reply, timeout: 1h, exits: {matched: second, timeout: late}}
  - {id: brief, kind: wait_for_event, event: chaos.reply, timeout: 1s, exits: {matched: second, timeout: late}}
  - {id: late, kind: message, channel: dm, to: "@{{ contact.email }}", text: Too late}
  - {id: second, kind: webhook, event_type: chaos.second, data: {email: "{{ contact.email }}"}}
  - {id: done, kind: exit, reason: told}
"""
Line = tuple[str, str, str, str]
_TOLD_OF_A_MESSAGE = ("message.requested", "message.sent", "cold_dm.sent")
"""What the mailer tells of a contact's only message."""


class Receiving:
    """What the world outside does: it refuses some questions once, and replies to whoever calls."""

    def __init__(self) -> None:
        self.asked: dict[str, list[str]] = defaultdict(list)
        self.called: asyncio.Queue[str] = asyncio.Queue()

    def answer(self, message_id: str, event_type: str, data: Mapping[str, Any]) -> object:
        """Answer a message; the same message gets the same answer."""
        email = data.get("email", "")
        if event_type == "chaos.call":
            self.called.put_nowait(email)
        if event_type != "chaos.ask":
            return None
        if message_id not in self.asked[email]:
            self.asked[email].append(message_id)
        return verdict(email, self.asked[email].index(message_id) + 1)


def verdict(email: str, time: int) -> object:
    """Return what the receiver answers to a contact's question, the first time it is asked, the second …"""
    return {"ok": time > 1 or not email.startswith("p0")}


async def _until_answered(server: ServerProcess, call: Callable[[Client], Awaitable[Any]]) -> Any:
    """Call again and again under one idempotency key until it is answered: as a careful client does."""
    while True:
        try:
            async with server.client() as client:
                return await call(client)
        except (grpc.aio.AioRpcError, OSError, ValueError):
            await asyncio.sleep(0.05)


async def _prepare(server: ServerProcess, ledger: Ledger) -> None:
    async with server.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="chaos", source=SOURCE, publish=True)
        )
        await client.events.CreateSource(
            event_pb2.CreateSourceRequest(source_id="app", display_name="App", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        )
        endpoint = await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(url=ledger.url, retry_preset=webhook_pb2.RETRY_PRESET_QUICK)
        )
        ledger.secret = endpoint.secret


async def _enroll(server: ServerProcess, number: int) -> None:
    request = enrollment_pb2.EnrollContactsRequest(workflow_id="chaos", request_id=f"batch-{number}")
    for index in range(CONTACTS_PER_CALL):
        contact = request.contacts.add(email=f"p{index % 3}-{number}-{index}@example.com")
        contact.fields.update({"job_title": PATIENT if index % 2 else "brief"})
    answer = await _until_answered(server, lambda client: client.enrollments.EnrollContacts(request, timeout=5))
    assert answer.created_count == CONTACTS_PER_CALL, answer


async def _reply(server: ServerProcess, outside: Receiving) -> None:
    """Reply to everybody who calls; who calls is waiting already, because both were one transaction."""
    while True:
        email = await outside.called.get()
        event = event_pb2.EventInput(
            event_type="action", event_name="chaos.reply", source_id="app", message_id=f"reply to {email}"
        )
        event.fields.update({"email": email})
        request = event_pb2.IngestEventRequest(event=event)
        await _until_answered(server, lambda client: client.events.IngestEvent(request, timeout=5))  # noqa: B023


async def _finished(database: Database, org_id: str, expected: int, ledger: Ledger) -> Rows:
    """Wait until everybody is through and everything has arrived; the leases of the dead run out early."""
    async with asyncio.timeout(120):
        while True:
            async with database.system() as tx:
                await outbox.release_all(tx)
                await outgoing.release_all(tx)
            found = await rows(database, org_id)
            over = [row for row in found.enrollments if row.ended_at is not None]
            sent = all(row.state == "sent" for row in found.outgoing)
            delivered = all(row.state == "delivered" for row in found.deliveries)
            if len(over) == expected and sent and delivered and {row.id for row in found.messages} <= set(ledger.types):
                return found
            await asyncio.sleep(0.5)


def _lines(entries: Any) -> list[Line]:
    return [(entry.step_id, entry.kind, entry.outcome, entry.exit) for entry in entries if entry.kind not in BESIDE]


def _replayed(found: Rows, row: Any, contact: RecordFacts) -> Replayed:
    email = contact.fields["email"]

    def replies(enrollment: Enrollment) -> str:
        return "chaos.reply" if enrollment.step_id == "listen" else ""

    return replay(found.versions["chaos", 1], row.id, contact, lambda time: verdict(email, time), replies)


def _is_what_the_machine_computes(found: Rows, contacts: Mapping[str, RecordFacts]) -> None:
    for row in found.enrollments:
        must = _replayed(found, row, contacts[row.contact_id])
        assert _lines(found.traces[row.id]) == _lines(must.trace)
        assert (row.state, row.step_id, row.end_reason, row.version) == (
            must.enrollment.state.value,
            must.enrollment.step_id,
            must.enrollment.end_reason,
            1,
        )
        assert row.data.get("outputs", {}).keys() == must.enrollment.outputs.keys()
        assert contacts[row.contact_id].fields["custom"]["seen"] == 1
        sent = sum(isinstance(one, SendMessage) for one in must.effects)
        told = [(one.outcome, one.effects) for one in found.traces[row.id] if one.kind == OUTCOME]
        assert told == [("ok", [one.id]) for one in found.outgoing if one.enrollment_id == row.id], "once, and no more"
        assert sum(one.enrollment_id == row.id for one in found.outgoing) == sent
        emitted = Counter(one.event_type for one in must.effects if isinstance(one, Emit))
        emitted.update(_TOLD_OF_A_MESSAGE * sent)
        assert Counter(one.event_type for one in found.messages if one.enrollment_id == row.id) == emitted


async def test_three_processes_that_are_killed_leave_the_table_that_the_machine_computes(
    tmp_path: Path, postgresql_url: str, receiver: Receiver
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    outside = Receiving()
    ledger = Ledger(receiver, outside.answer)
    roles = ("grpc,engine,dispatcher,scheduler", "engine,dispatcher", "engine,dispatcher")
    servers = [ServerProcess(tmp_path / f"p{n}", postgresql_url, roles=some) for n, some in enumerate(roles)]
    await asyncio.gather(*(server.start() for server in servers))
    await _prepare(servers[0], ledger)
    replying = asyncio.create_task(_reply(servers[0], outside))
    calls = []
    for number in range(KILLS):
        calls.append(asyncio.create_task(_enroll(servers[0], number)))
        await asyncio.sleep(chance.uniform(0.0, 1.2))
        victim = chance.choice(servers)
        await victim.kill()
        await victim.start()
    await asyncio.gather(*calls)
    database = await Database.open(postgresql_url, SystemClock())
    try:
        async with database.read(EVERY_ORGANIZATION) as tx:
            (organization,) = await tx.all(select(organizations.organizations.c.org_id))
        found = await _finished(database, organization.org_id, KILLS * CONTACTS_PER_CALL, ledger)
        async with database.system() as tx:
            held = await record_rows.hold(tx, [(organization.org_id, row.contact_id) for row in found.enrollments])
    finally:
        await database.close()
        replying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await replying
    assert audit(found) == []
    assert len({row.contact_id for row in found.enrollments}) == len(found.enrollments) == KILLS * CONTACTS_PER_CALL
    _is_what_the_machine_computes(found, {record.facts.id: record.facts for record in held.values()})
    assert set(ledger.types) == {row.id for row in found.messages}, "a message that nobody wrote down arrived"
    assert [await server.terminate() for server in servers] == [0, 0, 0]
