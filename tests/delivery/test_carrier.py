"""Messages through a connection, against a stateful stand-in: limits, repeats, retries, what waits and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core import ids
from core.clock import ManualClock
from core.delivery.carrier import ConnectionCarrier
from core.delivery.http import WebhookSender
from core.delivery.mail_outcomes import NOBODY_CARRIES, EndedMessage
from core.delivery.mailer import Mailer
from core.domain.connections import call
from core.domain.connections.call import Call
from core.domain.connections.limits import Limits
from core.domain.connections.result import ResultMapping
from core.domain.connections.settings import Settings
from core.domain.effects import SendMessage
from core.domain.webhooks.authentication import Bearer
from core.domain.webhooks.faults import LOCKED_FOR
from core.store.database import Database
from core.store.messages import outgoing
from core.store.messages.outgoing import NewMessage
from core.store.organizations.organizations import organizations
from core.store.systems import connections
from core.store.systems.connections import ConnectionState
from core.store.systems.master_keys import MasterKeys
from core.store.systems.vault import Vault
from tests.announcements import announced, listen
from tests.delivery.direct_messages import TOKEN, Account, direct_messages
from tests.somebody import somebody

pytestmark = pytest.mark.anyio

ORG = "org_a"
SECOND = timedelta(seconds=1)


@pytest.fixture
async def account(clock: ManualClock, anyio_backend: str) -> AsyncIterator[Account]:
    async with direct_messages(clock) as running:
        running.people = {"@ada"}
        yield running


def connection_to(account: Account, **limits: Any) -> Settings:
    return Settings(
        display_name="DMs",
        channel="dm",
        call=call.normal(
            Call(
                "", f"{account.base}/v1/people/{{{{ message.to }}}}/messages", {}, '{"text": "{{ message.text }}"}', ""
            )
        ),
        auth=Bearer(TOKEN),
        result=ResultMapping(message_id="body.id", error="body.error.message"),
        limits=Limits(**limits),
    )


@dataclass
class Post:
    """Messages that are written, and what became of them."""

    database: Database
    clock: ManualClock
    sender: WebhookSender
    ended: list[EndedMessage]
    mailer: Mailer

    def another(self) -> Mailer:
        """Return the mailer of another process."""
        return Mailer(self.database, None, self.clock, carrier=ConnectionCarrier(self.database, self.sender))

    async def connect(self, settings: Settings, state: ConnectionState = ConnectionState.ACTIVE) -> str:
        async with self.database.write(ORG) as tx:
            row = await connections.create(tx, ids.mint("con", tx.now), settings, state)
            assert row is not None
            return str(row.id)

    async def change(self, connection_id: str, **values: Any) -> None:
        async with self.database.write(ORG) as tx:
            await connections.change(tx, connection_id, values)
            await connections.bring_forward(tx, "dm")

    async def write(self, **changed: Any) -> str:
        self.clock.advance(timedelta(milliseconds=5))
        values = {
            "id": ids.mint("msg", self.clock.now()), "channel": "dm", "purpose": "marketing", "contact_id": "cnt_1",
            "to": "@ada", "subject": "", "text": 'Hi "Ada"\n', "html": "",
        }  # fmt: skip
        effect = SendMessage(**{**values, **changed})
        async with self.database.system() as tx:
            await somebody(tx, ORG, effect.contact_id, "enr_1")
            await outgoing.create_many(tx, [NewMessage(ORG, "enr_1", "cold-dm", "first_dm", effect)])
        return effect.id

    async def rows(self) -> list[tuple[str, int, str, str]]:
        async with self.database.read(ORG) as tx:
            found = await tx.all(outgoing.listing(enrollment_id="enr_1").order_by(outgoing.outgoing_messages.c.id))
        return [(row.state, row.attempts, row.outcome, row.provider_id) for row in found]

    async def states(self) -> list[str]:
        return [row[0] for row in await self.rows()]

    async def told(self) -> list[str]:
        return [body["type"] for body in await announced(self.database, ORG)]


@pytest.fixture
async def post(database: Database, clock: ManualClock, sender: WebhookSender) -> AsyncIterator[Post]:
    async with database.system() as tx:
        row = {"org_id": ORG, "display_name": "A", "timezone": "Europe/Berlin", "created_at": clock.now()}
        await tx.insert(organizations, [row])
    ended: list[EndedMessage] = []

    async def on_ended(_tx: Any, found: list[EndedMessage]) -> None:
        ended.extend(found)

    mailer = Mailer(database, None, clock, carrier=ConnectionCarrier(database, sender), on_ended=on_ended)
    yield Post(database, clock, sender, ended, mailer)
    await mailer.stop(0)


async def test_a_message_leaves_once_and_is_told(post: Post, account: Account) -> None:
    await listen(post.database, ORG)
    connection_id = await post.connect(connection_to(account))
    first = await post.write(awaited=True)
    await post.mailer.drain()
    second = await post.write(ordinal=2)
    await post.mailer.drain()
    assert [(one.handle, one.text) for one in account.sent] == [("@ada", 'Hi "Ada"\n')] * 2
    assert await post.rows() == [("sent", 1, "HTTP 201", "dm_1"), ("sent", 1, "HTTP 201", "dm_2")]
    assert account.requests[0].headers["idempotency-key"] == first
    assert [(message.message_id, message.sent) for _, _, message in post.ended] == [(first, True), (second, True)]
    assert sorted(await post.told()) == ["cold_dm.sent", "followup.sent", "message.sent", "message.sent"]
    async with post.database.read(ORG) as tx:
        row = await connections.get(tx, connection_id)
    assert row is not None
    assert (row.sent, row.calls) == (2, {})


async def test_an_answer_that_got_lost_is_asked_for_again_under_the_same_key(post: Post, account: Account) -> None:
    account.loses = 1
    await post.connect(connection_to(account))
    await post.write()
    await post.mailer.drain()
    assert await post.rows() == [("pending", 1, "HTTP 502: lost", "")]
    post.clock.advance(2 * SECOND)
    await post.mailer.drain()
    assert await post.rows() == [("sent", 2, "HTTP 200", "dm_1")]
    assert len(account.sent) == 1


async def test_five_attempts_in_a_quarter_of_a_minute_then_it_has_failed(post: Post, account: Account) -> None:
    account.broken = 9
    await listen(post.database, ORG)
    await post.connect(connection_to(account))
    await post.write()
    for _ in range(30):
        await post.mailer.drain()
        post.clock.advance(SECOND)
    assert await post.rows() == [("failed", 5, "HTTP 500: try again", "")]
    assert len({request.headers["idempotency-key"] for request in account.requests}) == 1
    assert await post.told() == ["message.failed"]


async def test_a_refusal_for_good_is_not_tried_again(post: Post, account: Account) -> None:
    await post.connect(connection_to(account))
    await post.write(to="@nobody")
    await post.mailer.drain()
    assert await post.rows() == [("failed", 1, "HTTP 404: there is no @nobody", "")]


async def test_a_system_that_asks_for_time_gets_it_for_every_message(post: Post, account: Account) -> None:
    account.per_minute = 1
    await post.connect(connection_to(account, max_in_flight=1))
    for _ in range(3):
        await post.write()
    for _ in range(4):
        await post.mailer.drain()
        post.clock.advance(SECOND)
    assert account.refused == [429]
    assert len(account.requests) == 2
    waiting = [row[2] for row in await post.rows() if row[0] == "pending"]
    assert "HTTP 429: slow down" in waiting
    assert any(one.startswith("held: the other system asks to wait until 2026-03-02T09:00:3") for one in waiting)
    post.clock.advance(61 * SECOND)
    for _ in range(3):
        await post.mailer.drain()
        post.clock.advance(61 * SECOND)
    assert await post.states() == ["sent"] * 3


async def test_the_days_limit_holds_across_processes_and_the_rest_goes_the_next_day(
    post: Post, account: Account
) -> None:
    await post.connect(connection_to(account, daily_limit=3))
    for _ in range(8):
        await post.write()
    other = post.another()
    for _ in range(4):
        await asyncio.gather(post.mailer.drain(), other.drain())
        post.clock.advance(SECOND)
    assert len(account.sent) == 3
    held = [row for row in await post.rows() if row[0] == "pending"]
    assert {(attempts, outcome.partition(":")[2].partition(" were")[0]) for _, attempts, outcome, _ in held} == {
        (0, " daily_message_limit_reached: 3")
    }
    post.clock.advance(timedelta(hours=13))  # 23:00 in Berlin
    await post.mailer.drain()
    assert len(account.sent) == 3
    post.clock.advance(timedelta(hours=1))
    for _ in range(4):
        await asyncio.gather(post.mailer.drain(), other.drain())
        post.clock.advance(SECOND)
    assert len(account.sent) == 6
    await other.stop(0)


async def test_the_rate_holds_across_processes(post: Post, account: Account) -> None:
    await post.connect(connection_to(account, rate_per_second=1, max_in_flight=8))
    for _ in range(4):
        await post.write()
    other = post.another()
    for count in range(1, 5):
        await asyncio.gather(post.mailer.drain(), other.drain())
        assert len(account.sent) == count
        post.clock.advance(SECOND)
    assert await post.states() == ["sent"] * 4
    await other.stop(0)


async def test_no_more_calls_are_under_way_than_allowed(post: Post, account: Account) -> None:
    account.hold = asyncio.Event()
    await post.connect(connection_to(account, max_in_flight=2))
    for _ in range(5):
        await post.write()
    other = post.another()
    await asyncio.gather(post.mailer.turn(), other.turn())
    await asyncio.wait_for(account.two.wait(), 5)
    for _ in range(3):
        post.clock.advance(SECOND)
        await asyncio.gather(post.mailer.turn(), other.turn())
    account.hold.set()
    for _ in range(6):
        await asyncio.gather(post.mailer.drain(), other.drain())
        post.clock.advance(SECOND)
    assert await post.states() == ["sent"] * 5
    assert account.most_at_once == 2
    await other.stop(0)


async def test_messages_wait_for_a_paused_connection_and_go_when_it_goes_on(post: Post, account: Account) -> None:
    connection_id = await post.connect(connection_to(account), ConnectionState.PAUSED)
    await post.write()
    await post.mailer.drain()
    assert await post.rows() == [("pending", 0, "held: the connection is paused", "")]
    await post.change(connection_id, state=ConnectionState.ACTIVE)
    await post.mailer.drain()
    assert await post.states() == ["sent"]


async def test_without_a_connection_messages_are_handed_over_as_before(post: Post, account: Account) -> None:
    await post.connect(replace(connection_to(account), channel="sms"))
    await post.write()
    await post.mailer.drain()
    assert await post.rows() == [("failed", 1, NOBODY_CARRIES, "")]
    assert account.requests == []


async def test_a_message_that_cannot_be_put_into_the_call_fails_and_says_why(post: Post, account: Account) -> None:
    await post.connect(connection_to(account))
    await post.write(to="..")
    await post.mailer.drain()
    assert await post.rows() == [("failed", 1, "a part of the URL's path would be . or ..", "")]
    assert account.requests == []


async def test_a_key_that_is_not_here_holds_messages_and_costs_them_no_attempt(
    post: Post, account: Account, tmp_path: Path
) -> None:
    row = await post.connect(connection_to(account))
    right = Vault(MasterKeys(tmp_path / "master.key"))
    sealed = connections.sealed(connection_to(account), right, ORG, row)
    await post.change(row, **connections.setting_columns(sealed, ("call",)))
    await post.write()
    await post.mailer.drain()  # of a process without any key
    ((state, attempts, outcome, _),) = await post.rows()
    assert (state, attempts, "there is no master key here" in outcome) == ("pending", 0, True)
    other = Mailer(post.database, None, post.clock, carrier=ConnectionCarrier(post.database, post.sender, right))
    await other.drain()
    assert await post.states() == ["pending"], "not before its time"
    post.clock.advance(LOCKED_FOR)
    await other.drain()
    await other.stop(0)
    assert await post.rows() == [("sent", 1, "HTTP 201", "dm_1")]


async def test_a_secret_that_comes_back_is_not_stored(post: Post, account: Account) -> None:
    settings = connection_to(account)
    await post.connect(replace(settings, auth=Bearer("wrong-secret"), result=ResultMapping(error='"got wrong-secret"')))
    await post.write()
    await post.mailer.drain()
    assert await post.rows() == [("failed", 1, "HTTP 401: got ***", "")]
    assert "wrong-secret" not in repr(settings.auth)
