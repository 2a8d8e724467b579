"""Messages that leave, or do not: what became of each is told, counted, kept, and can be let go once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import ManualClock
from dripstone.v1 import enrollment_pb2 as pb
from dripstone.v1 import record_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.journeys.following import Story
from tests.mail_server import MailServer, serving_mail
from tests.running import RunningCore, running

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
NIGHT = """
title: Never at night
timezone: UTC
quiet_hours: 20:00-08:00
steps:
  - {id: hi, kind: message, subject: Hi, text: "Hi {{ contact.first_name }}"}
"""
CAREFUL = """
title: Stops early
circuit_breaker: {percent: 50, of_last: 10}
steps:
  - {id: hi, kind: message, subject: Hi, text: Hi}
"""


@pytest.fixture
async def mail(anyio_backend: str) -> AsyncIterator[MailServer]:
    async with serving_mail() as server:
        yield server


@pytest.fixture
async def core(database_url: str, tmp_path: Path, clock: ManualClock, mail: MailServer) -> AsyncIterator[RunningCore]:
    settings = {"smtp_url": f"smtp://127.0.0.1:{mail.port}?tls=off", "mail_from": "Acme <hello@acme.example>"}
    async with running(database_url, tmp_path, clock, **settings) as started:
        yield started


async def explained(client: Client, enrollment: str) -> tuple[str, str]:
    answer = await client.enrollments.ExplainEnrollment(pb.ExplainEnrollmentRequest(enrollment_id=enrollment))
    return answer.why, answer.next


async def messages(client: Client, **asked: Any) -> list[tuple[str, str, int]]:
    answer = await client.enrollments.ListOutgoingMessages(pb.ListOutgoingMessagesRequest(**asked))
    return [(one.state, one.outcome, one.attempts) for one in answer.messages]


async def step(client: Client, workflow: str) -> workflow_pb2.StepStatistics:
    request = workflow_pb2.GetWorkflowStatisticsRequest(workflow_id=workflow)
    return (await client.workflows.GetWorkflowStatistics(request)).steps[0]


async def test_a_mail_that_a_pause_or_a_slow_server_keeps_until_the_night_leaves_in_the_morning(
    core: RunningCore, mail: MailServer
) -> None:
    async with core.client() as client:
        story = Story(client)
        await story.publish("night", NIGHT)
        mail.answers = ["451 4.3.0 later"]
        (enrollment,) = await story.enroll("night", "ada@example.com")
        await core.settle()
        assert (await explained(client, enrollment))[1].endswith("(451 4.3.0 later).")
        await client.workflows.PauseWorkflow(workflow_pb2.PauseWorkflowRequest(workflow_id="night"))
        await core.pass_time(14 * HOUR)
        resume = workflow_pb2.ResumeWorkflowRequest(
            workflow_id="night", policy=workflow_pb2.ResumePolicy.RESUME_POLICY_RUN_OVERDUE
        )
        await client.workflows.ResumeWorkflow(resume)
        await core.pass_time(HOUR)
        told = "held: quiet hours, until 2026-03-03 08:00 (UTC, the workflow's zone)"
        assert (await messages(client, enrollment_id=enrollment), len(mail.mails)) == ([("pending", told, 1)], 0)
        assert (await explained(client, enrollment))[1] == (
            "Nothing more will happen. Message 1 on email was tried once and is to be sent at "
            f"2026-03-03 08:00 UTC ({told})."
        )
        await core.pass_time(8 * HOUR)
        assert (len(mail.mails), (await step(client, "night")).messages) == (1, {"sent": 1})
        assert (await step(client, "night")).gaps_count == 1
        assert await messages(client, workflow_id="night", filter='state = "sent"') == [("sent", "2.0.0 queued", 2)]
        assert (await story.trace(enrollment))[-1] == ("hi", "ok")


async def test_a_mail_that_fails_is_told_and_counted_opens_the_breaker_and_can_be_let_go_again(
    core: RunningCore, mail: MailServer
) -> None:
    async with core.client() as client:
        story = Story(client)
        await story.publish("careful", CAREFUL)
        mail.answers = ["554 5.7.1 policy"] * 5
        emails = [f"{name}@example.com" for name in ("ada", "bob", "cy", "di", "eve")]
        enrollments = await story.enroll("careful", *emails)
        await core.settle()
        refused = "Message 1 on email to ada@example.com was not sent: 554 5.7.1 policy."
        assert (await explained(client, enrollments[0]))[0].endswith(refused)
        why = await client.enrollments.WhyNot(pb.WhyNotRequest(workflow_id="careful", email="ada@example.com"))
        assert why.why.endswith("Message 1 of hi on email was not sent: 554 5.7.1 policy.")
        assert [one.rule for one in why.reasons if not one.holds and one.rule == "message"] == ["message"]
        figures = await step(client, "careful")
        assert (figures.outcomes, figures.messages, figures.failure_rate) == ({"failed": 5}, {"undelivered": 5}, 1.0)
        workflow = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id="careful"))
        assert workflow.state == workflow_pb2.WORKFLOW_STATE_PAUSED
        await client.workflows.ResumeWorkflow(
            workflow_pb2.ResumeWorkflowRequest(
                workflow_id="careful", policy=workflow_pb2.ResumePolicy.RESUME_POLICY_RUN_OVERDUE
            )
        )
        letters = (await client.enrollments.ListDeadLetters(pb.ListDeadLettersRequest())).dead_letters
        assert {(one.failure, one.state, one.step_id, one.attempts) for one in letters} == {
            ("NOT_SENT", "open", "hi", 1)
        }
        redriven = await client.enrollments.RedriveDeadLetters(
            pb.RedriveDeadLettersRequest(workflow_id="careful", filter='failure = "NOT_SENT"')
        )
        assert (redriven.redriven_count, redriven.remaining_count) == (5, 0)
        await core.settle()
        assert {one["To"] for one in mail.mails} == set(emails)
        assert {one[0] for one in await messages(client, workflow_id="careful")} == {"sent"}
        again = pb.RedriveDeadLettersRequest(dead_letter_ids=[letters[0].id])
        (result,) = (await client.enrollments.RedriveDeadLetters(again)).results
        assert result.reason == "ALREADY_REDRIVEN"
        outcomes = [outcome for _, outcome in await story.trace(enrollments[0])]
        assert outcomes == ["entered", "ok", "ended", "failed", "ok"]


PASSED = """
title: Goes on
circuit_breaker: off
steps:
  - {id: note, kind: update, set: {employees: "{{ contact.job_title }}"}, on_error: continue}
  - {id: pause, kind: wait, for: 9d}
"""


DM = "{id: dm, kind: message, channel: dm, to: '@ada', text: Hi}"


async def test_a_channel_that_nobody_carries_is_told_when_a_document_is_checked(core: RunningCore) -> None:
    async with core.client() as client:
        request = workflow_pb2.ValidateWorkflowRequest(source=f"title: Dm\nsteps:\n  - {DM}\n")
        checked = await client.workflows.ValidateWorkflow(request)
        assert checked.valid
        assert [(one.path, one.reason, one.line) for one in checked.warnings] == [("steps[0]", "NOBODY_CARRIES", 3)]


async def test_a_step_that_on_error_passed_is_carried_out_again_and_nothing_after_it(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        await story.publish("goes-on", PASSED)
        (enrollment,) = await story.enroll("goes-on", "ada@example.com", job_title="many")
        (letter,) = (await client.enrollments.ListDeadLetters(pb.ListDeadLettersRequest())).dead_letters
        bulk = pb.RedriveDeadLettersRequest(workflow_id="goes-on")
        assert (letter.state, (await client.enrollments.RedriveDeadLetters(bulk)).redriven_count) == ("passed", 0)
        again = pb.RedriveDeadLettersRequest(workflow_id="goes-on", filter='state = "passed"')
        (result,) = (await client.enrollments.RedriveDeadLetters(again)).results
        assert (result.redriven, result.failure, result.state) == (True, letter.reason, pb.ENROLLMENT_STATE_ACTIVE)
        one = await client.enrollments.GetEnrollment(pb.GetEnrollmentRequest(enrollment_id=enrollment))
        request = record_pb2.UpdateRecordRequest(record_id=one.contact_id, update_mask={"paths": ["job_title"]})
        request.fields.update({"job_title": "120"})
        await client.records.UpdateRecord(request)
        mended = pb.RedriveDeadLettersRequest(dead_letter_ids=[result.new_dead_letter_id])
        (result,) = (await client.enrollments.RedriveDeadLetters(mended)).results
        assert (result.redriven, result.new_dead_letter_id) == (True, "")
        contact = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=one.contact_id))
        assert (contact.fields["employees"], await story.where(enrollment)) == (120, ("active", "pause"))
        assert (await story.trace(enrollment))[-2:] == [("note", "failed"), ("note", "ok")]
