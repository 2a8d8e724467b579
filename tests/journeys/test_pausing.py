"""What people and agents are asked, and who comes late, when a workflow was paused: through the public surface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from dripstone.v1 import agent_pb2, approval_pb2, webhook_pb2, workflow_pb2
from tests.journeys.following import Story
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

ASKING = """
title: Asking
steps:
  - {id: fork, kind: branch, cases: [{name: human, when: contact.city == 'Bonn'}], exits: {human: vote, else: judge}}
  - {id: vote, kind: approval, title: Go on?, timeout: 2d, exits: {approved: yes, rejected: no, timeout: late}}
  - id: judge
    kind: agent_task
    title: Judge
    output_schema: {type: object}
    timeout: 2d
    exits: {answered: yes, timeout: late}
  - {id: yes, kind: log, message: yes, next: end}
  - {id: no, kind: log, message: no, next: end}
  - {id: late, kind: log, message: late, next: end}
"""
GREETING = """
title: Greeting
steps:
  - {id: hello, kind: webhook, event_type: told.hello}
  - {id: nap, kind: wait, for: 1d}
  - {id: again, kind: webhook, event_type: told.again}
"""


@pytest.fixture
async def story(core: RunningCore) -> AsyncIterator[Story]:
    async with core.client() as client:
        yield Story(client)


async def _pause(story: Story, workflow_id: str) -> None:
    await story.client.workflows.PauseWorkflow(workflow_pb2.PauseWorkflowRequest(workflow_id=workflow_id))


async def _resume(story: Story, workflow_id: str, policy: str) -> None:
    value = workflow_pb2.ResumePolicy.Value(f"RESUME_POLICY_{policy}")
    await story.client.workflows.ResumeWorkflow(
        workflow_pb2.ResumeWorkflowRequest(workflow_id=workflow_id, policy=value)
    )


async def _approval(story: Story) -> tuple[str, str, datetime]:
    (one,) = (await story.client.approvals.ListApprovals(approval_pb2.ListApprovalsRequest())).approvals
    return one.id, approval_pb2.ApprovalState.Name(one.state), one.expire_time.ToDatetime()


async def _task(story: Story) -> tuple[str, str, datetime]:
    (one,) = (await story.client.agents.ListAgentTasks(agent_pb2.ListAgentTasksRequest())).tasks
    return one.id, agent_pb2.AgentTaskState.Name(one.state), one.expire_time.ToDatetime()


async def _asked(core: RunningCore, story: Story) -> tuple[str, str]:
    """Enroll one whom a person decides about and one whom an agent judges; pause for a week, a day later."""
    await story.publish("asking", ASKING)
    (voted,) = await story.enroll("asking", "ada@example.com", city="Bonn")
    (judged,) = await story.enroll("asking", "bob@example.com")
    await core.pass_time(timedelta(days=1))
    await _pause(story, "asking")
    await core.pass_time(timedelta(days=7))
    return voted, judged


async def test_shifting_moves_the_time_to_decide_and_to_answer_with_the_timers(core: RunningCore, story: Story) -> None:
    voted, judged = await _asked(core, story)
    await _resume(story, "asking", "SHIFT")
    until = core.clock.now().replace(tzinfo=None) + timedelta(days=1)
    await core.pass_time(timedelta(hours=12))
    approval, state, expires = await _approval(story)
    assert (state, expires) == ("APPROVAL_STATE_PENDING", until)
    task, state, expires = await _task(story)
    assert (state, expires) == ("AGENT_TASK_STATE_OPEN", until)

    async with core.client(core.approver_api_key) as approver:
        decide = approval_pb2.DecideApprovalRequest(
            approval_id=approval, decision=approval_pb2.APPROVAL_DECISION_APPROVE
        )
        await approver.approvals.DecideApproval(decide)
    await story.client.agents.AnswerAgentTask(agent_pb2.AnswerAgentTaskRequest(task_id=task, output={}))
    await core.settle()
    assert [await story.where(one) for one in (voted, judged)] == [("completed", "yes")] * 2


async def test_shifted_or_not_the_time_ends_together_with_the_wait(core: RunningCore, story: Story) -> None:
    voted, judged = await _asked(core, story)
    assert (await _approval(story))[1] == "APPROVAL_STATE_PENDING", "nobody is late while a workflow is paused"
    await _resume(story, "asking", "RUN_OVERDUE")
    await core.settle()
    assert (await _approval(story))[1] == "APPROVAL_STATE_EXPIRED"
    assert (await _task(story))[1] == "AGENT_TASK_STATE_EXPIRED"
    assert [await story.where(one) for one in (voted, judged)] == [("completed", "late")] * 2


async def test_who_enters_during_a_pause_was_never_overdue(core: RunningCore, story: Story, receiver: Receiver) -> None:
    await story.client.webhooks.CreateEndpoint(
        webhook_pb2.CreateEndpointRequest(url=receiver.url, event_types=["told.hello", "told.again"])
    )
    await story.publish("greeting", GREETING)
    (ada,) = await story.enroll("greeting", "ada@example.com")
    await core.settle()
    await _pause(story, "greeting")
    (bob,) = await story.enroll("greeting", "bob@example.com")
    await core.pass_time(timedelta(days=7))
    await _resume(story, "greeting", "SKIP_OVERDUE")
    await core.settle()
    assert ("again", "skipped") in await story.trace(ada)
    assert ("hello", "skipped") not in await story.trace(bob)
    assert [one.json()["type"] for one in receiver.received] == ["told.hello"] * 2
    assert await story.where(bob) == ("active", "nap")
    await core.pass_time(timedelta(days=1))
    assert await story.where(bob) == ("completed", "again")
