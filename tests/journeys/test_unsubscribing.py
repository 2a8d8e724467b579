"""People who want no more: by a click in a real mail, by a provider's report, by a server that knows them not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.clock import ManualClock
from core.store.messages import outgoing
from dripstone.v1 import enrollment_pb2, record_pb2, webhook_pb2
from dripstone.v1.client import Client
from tests.journeys.following import Story
from tests.mail_server import MailServer, serving_mail
from tests.receiver import Receiver
from tests.running import NO_ROOTS, RunningCore, running

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"

NURTURE = """
title: Nurture
exit_on:
  - {name: unsubscribed, event: contact.unsubscribed}
  - {name: complained, event: contact.spam_complaint}
steps:
  - {id: first, kind: message, subject: First, text: "One. Enough? %unsubscribe_url%"}
  - {id: pause, kind: wait, for: 1d}
  - {id: second, kind: message, subject: Second, text: Two.}
  - {id: receipt, kind: message, purpose: transactional, subject: Receipt, text: Three.}
"""

AFTER = """
title: After
steps:
  - {id: second, kind: message, subject: Second, text: Two.}
  - {id: receipt, kind: message, purpose: transactional, subject: Receipt, text: Three.}
"""

BOUNCE = """
title: What to do with a dead address
triggers:
  - {event: message.bounced, when: 'event.fields.kind == "hard"'}
steps:
  - {id: mark, kind: update, set: {lifecycle_stage: unreachable}}
"""


@pytest.fixture
async def mail(anyio_backend: str) -> AsyncIterator[MailServer]:
    async with serving_mail() as server:
        yield server


@pytest.fixture
async def core(database_url: str, tmp_path: Path, clock: ManualClock, mail: MailServer) -> AsyncIterator[RunningCore]:
    """Return a core that sends e-mail through a server of the test's own."""
    settings = {"smtp_url": f"smtp://127.0.0.1:{mail.port}", "mail_from": "Acme <hello@acme.example>"}
    async with running(database_url, tmp_path, clock, public_url="https://mail.acme.example", **settings) as started:
        yield started


@pytest.fixture
async def client(core: RunningCore, receiver: Receiver) -> AsyncIterator[Client]:
    async with core.client() as opened:
        types = ["contact.unsubscribed", "contact.spam_complaint", "message.bounced"]
        await opened.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url=receiver.url, event_types=types))
        yield opened


async def begun(core: RunningCore, client: Client, *emails: str) -> tuple[Story, list[str]]:
    """Enroll people; the first mail has gone out."""
    story = Story(client)
    await story.begin()
    await story.publish("nurture", NURTURE)
    enrolled = await story.enroll("nurture", *emails)
    await core.settle()
    return story, enrolled


def told(receiver: Receiver) -> list[tuple[str, Any]]:
    return [(one.json()["type"], one.json()["data"].get("address")) for one in receiver.received]


async def state(client: Client, enrollment_id: str) -> tuple[int, str]:
    found = await client.enrollments.GetEnrollment(enrollment_pb2.GetEnrollmentRequest(enrollment_id=enrollment_id))
    return found.state, found.end_reason


async def test_a_click_in_a_mail_ends_it_for_good(
    core: RunningCore, client: Client, mail: MailServer, receiver: Receiver
) -> None:
    _, (enrollment,) = await begun(core, client, ADA)
    (first,) = mail.mails
    url = str(first["List-Unsubscribe"]).strip("<>")
    assert first["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert url in str(first.get_content())
    async with httpx2.AsyncClient(base_url=core.http_url, verify=NO_ROOTS) as mail_program:  # no key, no cookie
        path = url.removeprefix("https://mail.acme.example")
        assert (await mail_program.get(path)).status_code == 200
        await core.settle()
        assert (await state(client, enrollment))[0] == enrollment_pb2.ENROLLMENT_STATE_ACTIVE
        answer = await mail_program.post(path, data={"List-Unsubscribe": "One-Click"})
        assert answer.status_code == 200
    await core.settle()
    ended, why = await state(client, enrollment)
    assert ended == enrollment_pb2.ENROLLMENT_STATE_EXITED
    assert "contact.unsubscribed came in" in why
    assert told(receiver) == [("contact.unsubscribed", ADA)]
    await Story(client).publish("again", NURTURE.replace("Nurture", "Again"))
    await Story(client).enroll("again", ADA)
    await core.pass_time(timedelta(days=2))
    assert [one["Subject"] for one in mail.mails] == ["First", "Receipt"]


@pytest.mark.parametrize(
    ("event", "fields", "kind", "reached"),
    [
        ("message.complained", {}, "contact.spam_complaint", ["Receipt"]),
        ("message.unsubscribed", {}, "contact.unsubscribed", ["Receipt"]),
        ("message.bounced", {"kind": "hard"}, "message.bounced", []),
        ("message.bounced", {"kind": "soft"}, "message.bounced", ["Receipt", "Second"]),
    ],
)
async def test_what_a_provider_reports_takes_effect_at_once(
    core: RunningCore,
    client: Client,
    mail: MailServer,
    receiver: Receiver,
    event: str,
    fields: dict[str, Any],
    kind: str,
    reached: list[str],
) -> None:
    story, _ = await begun(core, client, ADA, "bob@example.com")
    await story.publish("after", AFTER)
    ada = next(one for one in mail.mails if one["To"] == ADA)
    await story.event(event, ADA, message_id=str(ada["Message-ID"]), **fields)
    await core.settle()
    assert told(receiver) == [(kind, ADA)]
    data = receiver.received[0].json()["data"]
    assert (data["workflow_id"], data["reason"]) == ("nurture", f"reported as {event}")
    await story.enroll("after", ADA)
    mail.mails.clear()
    await core.settle()
    assert sorted(one["Subject"] for one in mail.mails) == reached
    await story.event(event, ADA, message_id=str(ada["Message-ID"]), **fields)  # reported twice
    await core.settle()
    assert len(told(receiver)) == (2 if fields.get("kind") == "soft" else 1)


async def test_an_address_that_its_server_does_not_know_gets_nothing_more(
    core: RunningCore, client: Client, mail: MailServer, receiver: Receiver
) -> None:
    mail.recipients = {ADA: "550 5.1.1 no such user"}
    await Story(client).publish("dead", BOUNCE)
    _, (enrollment,) = await begun(core, client, ADA)
    assert told(receiver) == [("message.bounced", ADA)]
    data = receiver.received[0].json()["data"]
    assert (data["kind"], data["channel"], data["enrollment_id"]) == ("hard", "email", enrollment)
    assert data["reason"] == "550 5.1.1 no such user"
    found = await client.enrollments.GetEnrollment(enrollment_pb2.GetEnrollmentRequest(enrollment_id=enrollment))
    contact = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=found.contact_id))
    assert dict(contact.fields)["lifecycle_stage"] == "unreachable"
    mail.recipients = {}
    await core.pass_time(timedelta(days=1))
    assert mail.mails == []
    (stopped,) = (await client.records.ListSuppressions(record_pb2.ListSuppressionsRequest())).suppressions
    assert (stopped.address, stopped.purpose, stopped.reason) == (ADA, "*", "bounced")
    await client.records.LiftSuppression(
        record_pb2.LiftSuppressionRequest(suppression_id=stopped.id, reason="the mailbox is back")
    )
    await Story(client).publish("again", NURTURE.replace("Nurture", "Again"))
    await Story(client).enroll("again", ADA)
    await core.settle()
    assert [one["Subject"] for one in mail.mails] == ["First"]


@pytest.mark.both_databases
async def test_a_mail_that_waits_for_its_next_try_is_stopped_at_once(
    core: RunningCore, client: Client, mail: MailServer
) -> None:
    mail.answers = ["451 later"] * 5
    _, (enrollment,) = await begun(core, client, ADA)
    found = await client.enrollments.GetEnrollment(enrollment_pb2.GetEnrollmentRequest(enrollment_id=enrollment))
    await client.records.SetConsent(
        record_pb2.SetConsentRequest(contact_id=found.contact_id, channel="email", purpose="marketing", granted=False)
    )
    mail.answers = []
    await core.settle()
    async with core.core.database.read(core.organization.org_id) as tx:
        (row,) = await tx.all(outgoing.listing(enrollment_id=enrollment))
    assert row.outcome.startswith("skipped: the contact refused marketing by email on ")
    await core.pass_time(timedelta(minutes=1))
    assert mail.mails == []
