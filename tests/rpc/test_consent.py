"""Consent and suppressions through the API: stored with who said so and why, listed, lifted with a reason."""

from __future__ import annotations

from datetime import UTC, timedelta

import grpc
import pytest

from core.store.events import refusing
from core.store.events.refusing import Said
from dripstone.v1 import enrollment_pb2, organization_pb2, record_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

NEWS = """
title: News
steps:
  - {id: dm, kind: message, channel: dm, to: "@ada", text: Hello}
  - {id: news, kind: message, purpose: news, subject: News, text: Here they are.}
  - {id: receipt, kind: message, purpose: transactional, subject: Receipt, text: Thank you.}
"""


async def contact(client: Client, email: str = "ada@example.com") -> str:
    request = record_pb2.UpsertRecordRequest(type="contact")
    request.fields.update({"email": email, "phone": "+44 20 7946 0000"})
    return (await client.records.UpsertRecord(request)).record.id


async def refuse(core: RunningCore, contact_id: str, *, bounce: bool = False) -> None:
    """Let the contact unsubscribe from news by their own click, or their address bounce."""
    said = Said("one_click", "message:msg_1", contact_id, "ada@example.com", "email", "news")
    async with core.core.database.write(core.organization.org_id) as tx:
        await (refusing.bounce(tx, said, hard=True) if bounce else refusing.unsubscribe(tx, said))


def answered(found: record_pb2.Consent) -> dict[tuple[str, str], bool]:
    return {(one.channel, one.purpose): one.granted for one in found.entries}


async def test_an_answer_is_stored_with_who_said_so_and_why(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        empty = await client.records.GetConsent(record_pb2.GetConsentRequest(contact_id=contact_id))
        assert (empty.contact_id, list(empty.entries), list(empty.suppressions)) == (contact_id, [], [])
        await client.records.SetConsent(
            record_pb2.SetConsentRequest(
                contact_id=contact_id, channel="email", purpose="news", reason="by phone", granted=False
            )
        )
        core.clock.advance(timedelta(minutes=1))
        found = await client.records.SetConsent(
            record_pb2.SetConsentRequest(contact_id=contact_id, channel="dm", granted=True)
        )
        assert answered(found) == {("dm", "*"): True, ("email", "news"): False}
        refused = found.entries[1]
        assert (refused.reason, refused.actor.split("_")[0]) == ("by phone", "key")
        assert refused.update_time.ToDatetime() < found.entries[0].update_time.ToDatetime()
        assert await client.records.GetConsent(record_pb2.GetConsentRequest(contact_id=contact_id)) == found


async def test_a_trial_run_stores_nothing(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        tried = await client.records.SetConsent(
            record_pb2.SetConsentRequest(contact_id=contact_id, purpose="news", validate_only=True, granted=False)
        )
        assert answered(tried) == {("*", "news"): False}
        there = await client.records.GetConsent(record_pb2.GetConsentRequest(contact_id=contact_id))
        assert answered(there) == {}


async def test_what_a_contact_refused_is_not_written_and_the_trace_says_why(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="news", source=NEWS, publish=True)
        )
        await client.records.SetConsent(
            record_pb2.SetConsentRequest(contact_id=contact_id, channel="email", reason="by phone", granted=False)
        )
        enrolled = await client.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(workflow_id="news", contacts=[{"contact_id": contact_id}])
        )
        trace = await client.enrollments.ListTraceEntries(
            enrollment_pb2.ListTraceEntriesRequest(enrollment_id=enrolled.enrollment_ids[0])
        )
        entries = {one.step_id: one for one in trace.entries if one.kind == "message"}
        assert {step: one.outcome for step, one in entries.items()} == {"dm": "ok", "news": "skipped", "receipt": "ok"}
        assert entries["news"].reason.startswith("The contact refused everything by email on 2026-03-02 (")
        assert dict(entries["news"].inputs)["consent.email.*"] is False


BAD: list[tuple[dict[str, object], list[str]]] = [
    ({"granted": True, "channel": "E-Mail"}, ["channel"]),
    ({"granted": True, "channel": "E-Mail", "purpose": "the news"}, ["channel", "purpose"]),
]


@pytest.mark.parametrize(("given", "fields"), BAD)
async def test_channel_and_purpose_are_words(core: RunningCore, given: dict[str, object], fields: list[str]) -> None:
    async with core.client() as client, core.http() as http:
        contact_id = await contact(client)
        answer = await http.post(f"/api/v1/crm/contacts/{contact_id}/consent", json=given)
        assert answer.status_code == 400
        assert [one["field"] for one in answer.json()["error"]["details"]] == fields


async def test_only_a_contact_has_consent(core: RunningCore) -> None:
    async with core.client() as client:
        for call in (
            client.records.GetConsent(record_pb2.GetConsentRequest(contact_id="cnt_nobody")),
            client.records.SetConsent(record_pb2.SetConsentRequest(contact_id="cnt_nobody", granted=False)),
            client.records.ListConsentChanges(record_pb2.ListConsentChangesRequest(contact_id="cnt_nobody")),
            client.records.LiftSuppression(
                record_pb2.LiftSuppressionRequest(suppression_id="sup_none", reason="because")
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_what_a_contact_said_themself_is_overridden_only_with_a_reason(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        await refuse(core, contact_id)
        core.clock.advance(timedelta(minutes=1))
        grant = record_pb2.SetConsentRequest(contact_id=contact_id, channel="email", purpose="news", granted=True)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.records.SetConsent(grant)
        assert "the contact refused news by email (one_click)" in (refused.value.details() or "")
        other = record_pb2.SetConsentRequest(contact_id=contact_id, channel="dm", purpose="news", granted=True)
        await client.records.SetConsent(other)
        grant.reason = "signed up again at the fair"
        found = await client.records.SetConsent(grant)
        assert answered(found)["email", "news"] is True
        # The address itself stays suppressed until somebody lifts that, too.
        assert [(one.address, one.purpose, one.reason) for one in found.suppressions] == [
            ("ada@example.com", "news", "unsubscribed")
        ]


@pytest.mark.both_databases
async def test_everything_that_was_said_is_listed_with_who_when_and_why(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        await refuse(core, contact_id)
        core.clock.advance(timedelta(minutes=1))
        grant = record_pb2.SetConsentRequest(
            contact_id=contact_id, channel="email", purpose="news", granted=True, reason="at the fair"
        )
        await client.records.SetConsent(grant)

        async def listed(size: int = 0, token: str = "") -> record_pb2.ListConsentChangesResponse:
            request = record_pb2.ListConsentChangesRequest(contact_id=contact_id, page_size=size, page_token=token)
            return await client.records.ListConsentChanges(request)

        newest, oldest = (await listed()).changes
        assert (newest.channel, newest.purpose, newest.granted, newest.reason) == ("email", "news", True, "at the fair")
        assert (newest.actor.split("_")[0], newest.create_time.ToDatetime(UTC)) == ("key", core.clock.now())
        assert (oldest.granted, oldest.actor, oldest.cause) == (False, "one_click", "message:msg_1")
        assert newest.id.startswith("cch_")
        assert oldest.create_time.ToDatetime(UTC) == core.clock.now() - timedelta(minutes=1)
        first = await listed(1)
        second = await listed(1, first.next_page_token)
        assert [*first.changes, *second.changes] == [newest, oldest]
        assert second.next_page_token == ""


async def test_what_was_said_of_a_merged_contact_is_listed_with_the_kept_one_s(core: RunningCore) -> None:
    async with core.client() as client:
        kept, middle, merged = [await contact(client, f"{name}@example.com") for name in ("ada", "bob", "cleo")]
        await refuse(core, merged)
        for into, goes in ((middle, merged), (kept, middle)):
            await client.records.MergeRecords(record_pb2.MergeRecordsRequest(kept_id=into, merged_id=goes))
        told = await client.records.ListConsentChanges(record_pb2.ListConsentChangesRequest(contact_id=kept))
        assert [(one.contact_id, one.actor) for one in told.changes] == [(merged, "one_click")]
        for call in (
            client.records.ListConsentChanges(record_pb2.ListConsentChangesRequest(contact_id=merged)),
            client.records.GetConsent(record_pb2.GetConsentRequest(contact_id=merged)),
            client.records.SetConsent(record_pb2.SetConsentRequest(contact_id=merged, granted=False)),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=f"{merged} is part of {kept} now"):
                await call


@pytest.mark.both_databases
async def test_suppressions_are_listed_filtered_and_lifted(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        await refuse(core, contact_id)
        core.clock.advance(timedelta(minutes=1))
        await refuse(core, contact_id, bounce=True)

        async def listed(text: str = "", size: int = 0, token: str = "") -> record_pb2.ListSuppressionsResponse:
            request = record_pb2.ListSuppressionsRequest(filter=text, page_size=size, page_token=token)
            return await client.records.ListSuppressions(request)

        assert [one.reason for one in (await listed()).suppressions] == ["bounced", "unsubscribed"]
        for text, count in (
            ('address = "Ada@Example.com"', 2),
            ("reason = bounced AND channel = email", 1),
            ('purpose = "*"', 1),
            ('address = "bob@example.com" OR channel = dm', 0),
        ):
            assert len((await listed(text)).suppressions) == count, text
        first = await listed(size=1)
        second = await listed(size=1, token=first.next_page_token)
        assert [one.reason for page in (first, second) for one in page.suppressions] == ["bounced", "unsubscribed"]
        bounced = first.suppressions[0]
        lift = record_pb2.LiftSuppressionRequest(suppression_id=bounced.id, reason="the mailbox is back")
        tried = await client.records.LiftSuppression(
            record_pb2.LiftSuppressionRequest(suppression_id=bounced.id, reason="a try", validate_only=True)
        )
        assert tried.HasField("lift_time")
        lifted = await client.records.LiftSuppression(lift)
        assert (lifted.id, lifted.HasField("lift_time")) == (bounced.id, True)
        with pytest.raises(grpc.aio.AioRpcError) as again:
            await client.records.LiftSuppression(lift)
        assert again.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert [one.reason for one in (await listed()).suppressions] == ["unsubscribed"]


async def test_a_key_that_only_reads_changes_no_consent(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        made = await client.organization.CreateApiKey(
            organization_pb2.CreateApiKeyRequest(
                display_name="reader",
                principal_kind=organization_pb2.PRINCIPAL_KIND_SERVICE,
                scopes=["records:read"],
            )
        )
        async with core.client(made.secret) as reader:
            await reader.records.GetConsent(record_pb2.GetConsentRequest(contact_id=contact_id))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await reader.records.SetConsent(record_pb2.SetConsentRequest(contact_id=contact_id, granted=False))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_answer_has_to_be_said(core: RunningCore) -> None:
    async with core.client() as client:
        contact_id = await contact(client)
        with pytest.raises(grpc.aio.AioRpcError, match="granted: is required and missing"):
            await client.records.SetConsent(record_pb2.SetConsentRequest(contact_id=contact_id))
        assert not (await client.records.GetConsent(record_pb2.GetConsentRequest(contact_id=contact_id))).entries
