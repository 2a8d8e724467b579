"""What endpoints are told when a contact answers: whose answer it is, and which message it answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from core.clock import ManualClock
from core.store.database import Database
from core.store.messages.outgoing import outgoing_messages
from tests.announcements import announced
from tests.engine.parts import ORG, Parts

pytestmark = pytest.mark.anyio

DM = "{{id: {id}, kind: message, channel: {channel}, to: '@x', text: Hi}}"
WRITE = f"steps: [{DM.format(id='dm', channel='dm')}, {{id: pause, kind: wait, for: 30d}}]"
TEXT = f"steps: [{DM.format(id='text', channel='sms')}, {{id: pause, kind: wait, for: 30d}}]"
LISTEN = "steps: [{id: reply, kind: wait_for_event, event: reply.received, timeout: 9d, exits: {timeout: end}}]"


@pytest.fixture
async def parts(database: Database, clock: ManualClock) -> Parts:
    made = Parts(database, clock)
    await made.begin()
    for workflow, steps in (("write", WRITE), ("text", TEXT), ("listen", LISTEN)):
        await made.publish(f"triggers: [{{event: {workflow}.begun}}]\n{steps}", workflow)
    return made


async def _begin(parts: Parts, *workflows: str, sent: bool = True) -> None:
    """Let somebody enter workflows, one after the other, and what they send be sent."""
    for workflow in workflows:
        await parts.send(f"{workflow}.begun", "ada@example.com")
        await parts.settle()
        parts.clock.advance(timedelta(minutes=1))
    if sent:
        async with parts.database.write(ORG) as tx:
            c = outgoing_messages.c
            await tx.run(update(outgoing_messages).values(state="sent", provider_id=c.channel + "_1"))


async def _replies(parts: Parts, **fields: Any) -> list[dict[str, Any]]:
    await parts.send("reply.received", "ada@example.com", **fields)
    await parts.settle()
    return [body["data"] for body in await announced(parts.database, ORG) if body["type"] == "reply.received"]


@pytest.mark.parametrize(
    ("begun", "fields", "expected"),
    [
        (["write"], {"channel": "dm"}, ("write", "dm", True)),
        (["write"], {}, ("write", "dm", True)),
        (["write", "text"], {"channel": "dm"}, ("write", "dm", True)),
        (["write", "text"], {}, ("text", "sms", True)),
        (["write", "text"], {"message_id": "dm_1"}, ("write", "dm", True)),
        (["write"], {"channel": "email"}, (None, "email", False)),
        (["write", "listen"], {"channel": "dm"}, ("listen", "dm", False)),
        (["listen"], {}, ("listen", None, False)),
        ([], {"channel": "dm"}, (None, "dm", False)),
    ],
)
async def test_a_reply_is_told_with_what_it_answers(
    parts: Parts, begun: list[str], fields: dict[str, Any], expected: tuple[str | None, str | None, bool]
) -> None:
    await _begin(parts, *begun)
    (told,) = await _replies(parts, **fields)
    workflow, channel, named = expected
    assert (told.get("workflow_id"), told.get("channel"), "message_id" in told) == (workflow, channel, named)
    assert ("enrollment_id" in told) == (workflow is not None)
    assert told["contact_id"].startswith("cnt_")
    assert told["event_id"].startswith("evt_")


async def test_what_was_not_sent_is_not_answered(parts: Parts) -> None:
    await _begin(parts, "write", sent=False)
    (told,) = await _replies(parts)
    assert "message_id" not in told


async def test_a_reply_of_nobody_is_not_told(parts: Parts) -> None:
    await parts.send("reply.received", channel="dm")
    await parts.settle()
    assert await parts.told("reply.received") == 0
