"""Messages on other channels: sent by a carrier, held by it, or handed over; and addresses that turn out to be dead."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from core.delivery.handover import Answer
from core.delivery.mail_outcomes import NOBODY_CARRIES
from core.delivery.mailer import HANDED_OVER
from core.domain.webhooks.retry import Preset
from core.store.messages import outgoing, suppressions
from core.store.messages.outgoing import ClaimedMessage
from tests.announcements import announced, listen
from tests.conftest import START
from tests.delivery.mailing import ORG, Start
from tests.mail_server import MailServer

pytestmark = pytest.mark.anyio


async def test_another_channel_is_handed_over_as_an_event(start: Start) -> None:
    mail = await start(None)
    await listen(mail.database, ORG)
    first = await mail.write(channel="dm", to="@ada", text="hi", awaited=True)
    await mail.write(channel="dm", to="@ada", text="hi again", ordinal=2)
    await mail.write(channel="sms", to="+44 20 7946 0000")
    await mail.mailer.drain()
    assert await mail.rows() == [("sent", 1, HANDED_OVER)] * 3
    assert (first, True, HANDED_OVER, 1) in mail.outcomes()
    assert len(mail.outcomes()) == 3
    assert await mail.told() == sorted(["message.requested", "message.sent"] * 3 + ["cold_dm.sent", "followup.sent"])
    requested = {
        body["data"]["text"]: body["data"]["to"]
        for body in await announced(mail.database, ORG)
        if body["type"] == "message.requested"
    }
    assert requested == {"hi": "@ada", "hi again": "@ada", "Dear Ada,\n\nhello.\n": "+44 20 7946 0000"}


async def test_a_channel_that_nobody_carries_fails_and_says_so(start: Start) -> None:
    mail = await start()
    message_id = await mail.write(channel="dm", to="@ada", awaited=True)
    await mail.mailer.drain()
    assert await mail.rows() == [("failed", 1, NOBODY_CARRIES)]
    assert mail.outcomes() == [(message_id, False, NOBODY_CARRIES, 1)]


@dataclass
class Bearer:
    """A carrier that answers as told, in turn."""

    answers: list[Answer | None]
    asked: list[str] = field(default_factory=list)

    async def send(self, message: ClaimedMessage, now: datetime) -> Answer | None:
        self.asked.append(message.id)
        return self.answers.pop(0)


async def test_a_carrier_sends_what_goes_by_another_channel(start: Start) -> None:
    bearer = Bearer([Answer("sent", "queued", provider_id="dm-7")])
    mail = await start(None, carrier=bearer)
    await listen(mail.database, ORG)
    message_id = await mail.write(channel="dm", to="@ada", awaited=True)
    await mail.mailer.drain()
    assert await mail.rows() == [("sent", 1, "queued")]
    assert await mail.told() == ["cold_dm.sent", "message.sent"]
    assert mail.outcomes() == [(message_id, True, "queued", 1)]
    async with mail.database.read(ORG) as tx:
        found = await outgoing.about(tx, "dm-7")
        assert await outgoing.about(tx, "dm-8") is await outgoing.about(tx, "") is None
    assert found is not None
    assert found.id == message_id


async def test_what_no_carrier_takes_is_handed_over_as_an_event(start: Start) -> None:
    mail = await start(None, carrier=Bearer([None]))
    await listen(mail.database, ORG)
    await mail.write(channel="dm", to="@ada")
    await mail.mailer.drain()
    assert await mail.rows() == [("sent", 1, HANDED_OVER)]
    assert await mail.told() == ["cold_dm.sent", "message.requested", "message.sent"]


async def test_what_a_carrier_holds_costs_no_attempt_and_is_asked_again_in_time(start: Start) -> None:
    now = START
    bearer = Bearer(
        [
            Answer("held", "daily limit reached", now + timedelta(hours=3)),
            Answer("held", "at once, it says", now),
            Answer("later", "429", now + timedelta(hours=9), preset=Preset.QUICK),
            Answer("sent", "ok"),
        ]
    )
    mail = await start(None, carrier=bearer)
    await mail.write(channel="dm", to="@ada")
    for passed, expected in (
        (timedelta(hours=3), ("pending", 0, "daily limit reached")),
        (timedelta(seconds=1), ("pending", 0, "at once, it says")),
        (timedelta(hours=9), ("pending", 1, "429")),
        (timedelta(), ("sent", 2, "ok")),
    ):
        await mail.mailer.drain()
        assert await mail.rows() == [expected]
        mail.clock.advance(passed)
    assert len(bearer.asked) == 4


async def test_quick_retries_of_a_carrier_end_after_five_tries(start: Start) -> None:
    mail = await start(None, carrier=Bearer([Answer("later", "503", preset=Preset.QUICK)] * 5))
    await mail.write(channel="dm", to="@ada")
    for _ in range(5):
        await mail.mailer.drain()
        mail.clock.advance(timedelta(minutes=1))
    assert await mail.rows() == [("failed", 5, "503")]


@pytest.mark.parametrize(
    ("channel", "to", "dead"), [("dm", "@ada", True), ("email", "ada@example.com", True), ("email", "x@y.zz", False)]
)
async def test_an_address_that_is_dead_is_suppressed_on_its_channel(
    start: Start, server: MailServer, channel: str, to: str, dead: bool
) -> None:
    server.recipients = {"ada@example.com": "550 5.1.1 unknown", "x@y.zz": "550 5.7.1 relaying denied"}
    mail = await start(carrier=Bearer([Answer("never", "no such handle", bounced=True)]))
    await listen(mail.database, ORG)
    await mail.write(channel=channel, to=to)
    await mail.mailer.drain()
    async with mail.database.read(ORG) as tx:
        rows, _ = await suppressions.page(tx, 10, "")
    assert [(row.channel, row.address, row.purpose) for row in rows] == ([(channel, to, "*")] if dead else [])
    assert await mail.told() == (["message.bounced", "message.failed"] if dead else ["message.failed"])
    if dead:
        await mail.write(channel=channel, to=to, purpose="transactional")
        await mail.mailer.drain()
        assert ("skipped", 1, "skipped: the address is suppressed: it bounced") in await mail.rows()
