"""An agent at work on a real core: what it did can be looked up, explained, watched and taken back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.store.merging import duplicates
from dripstone.v1 import audit_pb2, record_pb2, webhook_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.mcp_server.conftest import Agent, agreeing, connected
from tests.mcp_server.test_story import call_in
from tests.mcp_server.whole import guard
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

NURTURE = """
title: Nurture
steps:
  - {id: hello, kind: message, channel: dm, to: "@{{ contact.email }}", text: Hello}
  - {id: pause, kind: wait, for: 2d}
  - {id: again, kind: message, channel: dm, to: "@{{ contact.email }}", text: Still there?}
  - {id: rest, kind: wait, for: 9d}
"""
THINKING = """
title: Thinking
steps:
  - id: think
    kind: agent_task
    title: "What to say to {{ contact.email }}?"
    instructions: Say it in one line.
    output_schema: {type: object, properties: {line: {type: string}}, required: [line]}
    timeout: 20d
  - {id: done, kind: exit, reason: said, result: {line: "{{ steps.think.line }}"}}
"""
FAILING = """
title: Failing
steps:
  - {id: broken, kind: update, set: {employees: "{{ contact.job_title }}"}}
  - {id: rest, kind: wait, for: 9d}
"""
TELLING = """
title: Telling
steps:
  - {id: tell, kind: webhook, event_type: story.told, data: {email: "{{ contact.email }}"}}
"""


@pytest.fixture
def era() -> str:
    """Run in one era alone: what is said is composed before the protocol."""
    return "auto"


async def workflow(client: Client, name: str, source: str) -> None:
    await client.workflows.CreateWorkflow(
        workflow_pb2.CreateWorkflowRequest(workflow_id=name, source=source, publish=True)
    )


async def contact(client: Client, email: str, **fields: Any) -> str:
    request = record_pb2.UpsertRecordRequest(type="contact", fields={"email": email, **fields})
    return (await client.records.UpsertRecord(request)).record.id


async def following(agent: Agent, answer: dict[str, Any]) -> dict[str, Any]:
    """Make the call that an answer names as the next one."""
    tool, arguments = call_in(answer["next"])
    return await agent.ok(tool, **arguments)


async def shown_again(agent: Agent, preview: dict[str, Any], reason: str) -> dict[str, Any]:
    """Make the commit of a preview that something has made stale, and return the preview to which its error leads."""
    tool, arguments = call_in(preview["next"])
    assert arguments["if_version"] == preview["version"]
    error = await agent.refused(tool, **arguments)
    assert error["reason"] == reason
    again = await following(agent, error)
    assert again["mode"] == "preview"
    assert again["version"] != preview["version"]
    return again


async def test_a_change_is_looked_up_by_its_key_and_taken_back_by_its_handle(core: RunningCore, agent: Agent) -> None:
    async with core.client() as client:
        ada = await contact(client, "ada@example.com", first_name="Ada")
        change = {"record_id": ada, "fields": {"first_name": "Augusta"}}
        preview = await agent.ok("update-record", **change, reason="Ada möchte es so")
        assert "undo" not in preview
        seen = preview["version"]
        assert seen == (await agent.ok("get-record", record_id=ada))["version"] == "1"
        for written_so in (1, '"1"', "v1"):
            assert (await agent.ok("update-record", **change, if_version=written_so))["version"] == seen
        assert not (await agent.ok("get-call", idempotency_key="name-1"))["known"]
        commit = {**change, "if_version": preview["version"], "reason": "Ada möchte es so", "mode": "commit"}
        done = await agent.ok("update-record", **commit, idempotency_key="name-1")

        past = await agent.ok("get-call", idempotency_key="name-1")
        assert (past["known"], past["state"], past["method"]) == (True, "done", "RecordService.UpdateRecord")
        assert past["answer"]["changes"][0]["new_value"] == "Augusta"
        other = await agent.refused("update-record", record_id=ada, fields={"first_name": "A"}, mode="commit",
                                    idempotency_key="name-1")  # fmt: skip
        assert (other["reason"], call_in(other["next"])) == (
            "IDEMPOTENCY_CONFLICT", ("get-call", {"idempotency_key": "name-1"}),
        )  # fmt: skip
        assert past["request_hash"][:16] in other["message"]
        assert past["time"] in other["message"]
        async with connected(core.grpc_target, core.agent_key, "auto") as somebody_else:
            assert not (await somebody_else.ok("get-call", idempotency_key="name-1"))["known"]

        await agent.ok("update-record", record_id=ada, fields={"job_title": "Countess"}, mode="commit")
        shown = await agent.ok("undo-changes", undo=done["undo"], reason="a mistake")
        assert [(one["old"], one["new"]) for one in shown["changes"]] == [("Augusta", "Ada")]
        undone = await following(agent, shown)
        assert (undone["applied"], undone["change_count"], undone["conflicts"]) == (True, 1, [])
        fields = (await agent.ok("get-record", record_id=ada))["fields"]
        assert (fields["first_name"], fields["job_title"]) == ("Ada", "Countess")
        again = await agent.ok("undo-changes", undo=done["undo"])
        assert (again["change_count"], again["conflicts"][0]["reason"]) == (0, "ALREADY_REVERTED")

        entries = await client.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest())
        assert {entry.reason for entry in entries.entries} >= {"Ada möchte es so", "a mistake"}


async def test_duplicates_are_listed_merged_and_parted_again(core: RunningCore, agent: Agent) -> None:
    async with core.client() as client:
        for email in ("ada.lovelace@example.com", "ada.lovelace@example.org"):
            await contact(client, email, first_name="Ada", last_name="Lovelace", phone="+4930123456")
    await duplicates.upkeep(core.core.database)
    listed = await agent.ok("merge-records")
    assert len(listed["duplicates"][0]["record_ids"]) == 2
    preview = await following(agent, listed)
    assert [record["record_id"] for record in preview["records"]] == listed["duplicates"][0]["record_ids"]
    assert ("email" in preview["differing_fields"], preview["version"]) == (True, "1/1")
    kept, goes = listed["duplicates"][0]["record_ids"]
    await agent.ok("update-record", record_id=goes, fields={"city": "Rome"}, mode="commit")
    preview = await shown_again(agent, preview, "ETAG_MISMATCH")
    assert (preview["filled_fields"], preview["version"]) == (["city"], "1/2")
    merged = await following(agent, preview)
    gone = await agent.refused("get-record", record_id=goes)
    assert (gone["reason"], call_in(gone["next"])[1]) == ("MERGED", {"record_id": kept})
    shown = await agent.ok("undo-changes", undo=merged["undo"])
    await agent.ok("update-record", record_id=kept, fields={"city": "Paris"}, mode="commit")
    parted = await following(agent, await shown_again(agent, shown, "PREVIEW_STALE"))
    assert (parted["applied"], parted["conflict_count"]) == (True, 1)
    half = await agent.refused("merge-records", kept_id=kept, merged_id=goes, if_version="2", mode="commit")
    assert (half["field"], (await following(agent, half))["mode"]) == ("if_version", "preview")
    assert (await agent.refused("merge-records", kept_id="cnt_1", mode="commit"))["field"] == "merged_id"


async def test_enrolling_is_foreseen_explained_and_taken_back(core: RunningCore, agent: Agent) -> None:
    async with core.client() as client:
        for name in ("nurture", "other"):
            await workflow(client, name, NURTURE)
        ada = await contact(client, "ada@example.com")
    await agent.ok("enroll", workflow_id="other", contacts=[{"contact_id": ada}], mode="commit")
    await core.settle()
    preview = await agent.ok("enroll", workflow_id="nurture", contacts=[{"contact_id": ada}, {"email": "b@x.test"}])
    assert [(one["contact"], one["workflow_id"]) for one in preview["collisions"]] == [(ada, "other")]
    both = ("ada@example.com", "b@x.test")
    sends = [(who, step) for step in ("hello", "again") for who in both]
    assert [(one["contact"], one["step_id"]) for one in preview["sends"]] == sends
    new = await agent.ok("enroll", workflow_id="nurture", contacts=[{"email": "b@x.test"}])
    assert {one["contact"] for one in new["sends"]} == {"b@x.test"}

    out = await agent.ok("explain-enrollment", workflow_id="nurture", contact_id=ada)
    assert not out["enrolled"]
    assert out["reasons"]
    enrolled = await following(agent, preview)
    await core.settle()
    inside = await agent.ok("explain-enrollment", workflow_id="nurture", email="ada@example.com")
    assert inside["enrolled"]
    assert inside["what_next"]

    first, second = (one["enrollment_id"] for one in enrolled["enrolled"])
    shown = await agent.ok("end-enrollment", enrollment_id=first, reason="moved away")
    await core.pass_time(timedelta(days=3))
    ended = await following(agent, await shown_again(agent, shown, "ETAG_MISMATCH"))
    assert ended["changes"] == [{"field": "state", "old": "active at rest", "new": "cancelled"}]
    undone = await following(agent, await agent.ok("undo-changes", undo=enrolled["undo"]))
    assert [one["subject"] for one in undone["changes"]] == [second]
    assert [(one["subject"], one["reason"]) for one in undone["conflicts"]] == [(first, "WRONG_STATE")]


async def test_a_commit_does_nothing_that_its_preview_did_not_show(core: RunningCore, agent: Agent) -> None:
    async with core.client() as client:
        await workflow(client, "telling", TELLING)
        ada = await contact(client, "ada@example.com")
        cy = await contact(client, "cy@example.com", unsubscribed=True)
        lead = record_pb2.UpsertRecordRequest(type="lead", fields={"contact_id": ada, "decision": "disqualified"})
        await client.records.UpsertRecord(lead)
    wanted = {"workflow_id": "telling", "contacts": [{"email": f"{name}@example.com"} for name in ("ada", "bo", "cy")]}
    preview = await agent.ok("enroll", **wanted)
    assert [one["contact"] for one in preview["disqualified"]] == ["ada@example.com"]
    assert preview["also_leaves"] == [f"webhook story.told (tell) {core.clock.now():%Y-%m-%dT%H:%M:%SZ}"]
    assert preview["next"].startswith("Somebody decided against these leads: only if")
    held = {"if_version": preview["version"], "mode": "commit"}
    other = await agent.refused("enroll", workflow_id="telling", contacts=[{"contact_id": ada}], **held)
    assert (other["reason"], call_in(other["next"])[1]["mode"]) == ("PREVIEW_STALE", "preview")

    run = {"workflow_id": "telling", "input": {"email": "di@example.com"}}
    ready = await agent.ok("execute-workflow", **run)
    await agent.ok("update-record", record_id=cy, fields={"unsubscribed": False}, mode="commit")
    done = await agent.ok("enroll", **wanted, **held)
    assert (done["enrolled_count"], [one["reason"] for one in done["left_out"]]) == (2, ["LEFT_OUT_OF_PREVIEW"])

    async with core.client() as client:
        publish = workflow_pb2.PublishWorkflowRequest(workflow_id="telling")
        await client.workflows.PublishWorkflow(publish)
    for tool, arguments, seen in (("enroll", wanted, preview), ("execute-workflow", run, ready)):
        stale = await agent.refused(tool, **arguments, if_version=seen["version"], mode="commit", idempotency_key=tool)
        assert (stale["reason"], "version 2 by now" in stale["message"]) == ("PREVIEW_STALE", True)
        again = call_in(stale["next"])
        assert again[1].keys() == {*arguments, "mode"}
        assert (await agent.ok(again[0], **again[1]))["version"].startswith("v2.")

    by_hand = await agent.ok("explain-enrollment", workflow_id="telling", contact_id=cy)
    assert (await agent.ok("enroll", **call_in(by_hand["next"])[1]))["enrolled_count"] == 1
    wrong = await agent.refused("enroll", workflow_id="telling", contacts=[{"email": "x"}], mode="commit")
    assert (wrong["field"], call_in(wrong["next"])[1]["contacts"]) == ("contacts[0].email", [{"email": "<e-mail>"}])


async def test_nobody_takes_back_what_another_did_without_being_told(core: RunningCore, agent: Agent) -> None:
    async with core.client() as client:
        ada, bob = [await contact(client, f"{name}@example.com") for name in ("ada", "bob")]
    fields = dict.fromkeys(("first_name", "last_name", "job_title", "country", "city"), "Rome")
    commit = {"fields": fields, "mode": "commit", "idempotency_key": "import"}
    async with connected(core.grpc_target, core.agent_key, "auto") as other:
        theirs = await other.ok("update-record", record_id=bob, **commit)
        await agent.ok("update-record", record_id=ada, **commit)
        mine = await following(agent, await agent.ok("undo-changes", undo="call:import"))
        assert {one["subject"] for one in mine["changes"]} == {ada}
        shown = await agent.call("undo-changes", undo=theirs["undo"])
        (whose,) = (shown.structured_content or {})["whose"]
        assert (whose["change_count"], whose.get("is_caller", False)) == (5, False)
        assert f"! not yours: 5 of {whose['actor']}" in shown.content[0].text
        assert (await other.ok("get-call", idempotency_key="import"))["undo"] == theirs["undo"]
    unknown = await agent.refused("undo-changes", undo="call:never")
    assert (unknown["reason"], call_in(unknown["next"])[0]) == ("NOT_FOUND", "get-record")


async def test_work_handed_to_agents_is_found_claimed_and_answered(core: RunningCore, agent: Agent) -> None:
    async with core.client() as client:
        await workflow(client, "thinking", THINKING)
    run = {"workflow_id": "thinking", "input": {"email": "ada@example.com"}}
    started = await agent.ok("execute-workflow", **run, mode="commit", idempotency_key="run-1")
    await core.settle()
    waiting = await agent.ok("get-execution", execution_id=started["execution_id"])
    assert (waiting["state"], waiting["waiting_for"].split()[0]) == ("running", "task")
    assert waiting["waiting_until"]

    claimed = await following(agent, await following(agent, await agent.ok("claim-task")))
    assert (await agent.ok("claim-task"))["tasks"] == []
    await core.pass_time(timedelta(minutes=16))
    assert len((await agent.ok("claim-task"))["tasks"]) == 1  # its claim has lapsed
    await agent.ok("claim-task", task_id=claimed["undo"], mode="commit")
    assert claimed["task"]["instructions"] == "Say it in one line."
    task = claimed["undo"]
    released = await following(agent, await agent.ok("undo-changes", undo=task))
    assert released["applied"]
    shown = await agent.ok("claim-task", task_id=task)
    await agent.ok("claim-task", task_id=task, mode="commit")
    await shown_again(agent, shown, "ETAG_MISMATCH")
    wrong = await agent.refused("answer-task", task_id=task, output={"lines": "Hello"})
    assert wrong["field"].startswith("output")
    shown = await agent.ok("answer-task", task_id=task, output={"line": "Hello"})
    assert shown["changes"] == [{"field": "state", "old": "claimed", "new": "answered"}]
    await following(agent, await agent.ok("undo-changes", undo=task))
    answered = await following(agent, await shown_again(agent, shown, "ETAG_MISMATCH"))
    assert answered["changes"] == [{"field": "state", "old": "open", "new": "answered"}]
    await core.settle()
    over = await agent.ok("get-execution", execution_id=started["execution_id"])
    assert (over["state"], over["steps"][0]["step_id"]) == ("succeeded", "think")

    second = await agent.ok("execute-workflow", **run, mode="commit", idempotency_key="run-2")
    await following(agent, await agent.ok("undo-changes", undo=second["undo"], reason="not needed"))
    assert (await agent.ok("get-execution", execution_id=second["execution_id"]))["state"] == "cancelled"


async def test_what_failed_is_shown_and_tried_again(core: RunningCore, agent: Agent, receiver: Receiver) -> None:
    async with core.client() as client:
        for name, source in (("failing", FAILING), ("telling", TELLING)):
            await workflow(client, name, source)
        await client.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url=receiver.url))
        ada = await contact(client, "ada@example.com", job_title="Countess")
        receiver.answers["/"] = 500
        for name in ("failing", "telling"):
            await agent.ok("enroll", workflow_id=name, contacts=[{"contact_id": ada}], mode="commit")
        await core.settle()
        found = await agent.ok("find-deliveries", event_type="story.told")
        (delivery,) = found["deliveries"]
        told = await following(agent, found)
        assert told["attempts"][0]["status_code"] == 500
        assert told["summary"]
        receiver.answers["/"] = 204
        shown = await agent.ok("redeliver", delivery_id=delivery["delivery_id"])
        await client.webhooks.Redeliver(webhook_pb2.RedeliverRequest(delivery_id=delivery["delivery_id"]))
        again = await following(agent, await shown_again(agent, shown, "ETAG_MISMATCH"))
        assert again["changes"][0]["field"] == "state"
        await core.settle()
        assert (await agent.ok("find-deliveries", delivery_id=delivery["delivery_id"]))["deliveries"][0]["state"] == (
            "delivered"
        )

        listed = await agent.ok("redrive-dead-letters")
        (letter,) = listed["dead_letters"]
        assert (letter["step_id"], letter["contact_id"]) == ("broken", ada)
        preview = await following(agent, listed)
        assert "failed again" in preview["results"][0]["reason"]
        shown = await agent.ok("redrive-dead-letters", workflow_id="failing", reason="mended")
        eve, bob = [
            await contact(client, f"{name}@example.com", job_title=job) for name, job in (("eve", "?"), ("bob", "3"))
        ]
        both = await agent.ok("enroll", workflow_id="failing", contacts=[{"contact_id": eve}, {"contact_id": bob}],
                              mode="commit")  # fmt: skip
        await core.settle()
        shown = await shown_again(agent, shown, "PREVIEW_STALE")
        to_end = await agent.ok("undo-changes", undo=both["undo"])
        for one in (ada, eve):
            await agent.ok("update-record", record_id=one, fields={"job_title": "7"}, mode="commit")
        assert (await following(agent, shown))["redriven_count"] == 2
        ended = await following(agent, to_end)  # bob's alone: eve's, which had failed, was not shown to end
        assert ([one["reason"] for one in ended["conflicts"]], ended["change_count"]) == (["LEFT_OUT_OF_PREVIEW"], 1)


async def test_policies_see_the_tool_and_those_who_decide_see_the_reason(core: RunningCore, era: str) -> None:
    async with core.client() as client:
        ada = await contact(client, "ada@example.com")
        await guard(core, "RecordService.UpdateRecord", when='action.tool == "update-record"')
        request = record_pb2.UpdateRecordRequest(record_id=ada, fields={"job_title": "Countess"})
        await client.records.UpdateRecord(request)  # by no tool: the policy does not look at it
    async with (
        connected(core.grpc_target, core.agent_key, era) as agent,
        connected(core.grpc_target, core.approver_api_key, era, agreeing) as person,
    ):
        change = {"record_id": ada, "fields": {"job_title": "Queen"}, "reason": "She said so", "mode": "commit"}
        refused = await agent.refused("update-record", **change, idempotency_key="title-1")
        assert refused["reason"] == "APPROVAL_REQUIRED"
        assert not (await agent.ok("get-call", idempotency_key="title-1"))["known"]
        (approval,) = (await person.ok("list-approvals"))["approvals"]
        assert approval["details"]["said"] == "She said so"
