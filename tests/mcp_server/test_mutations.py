"""Whatever is wrong with a call, its error names one that is right: it fits the schema, and works when it is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from core.demo.setting import document
from dripstone.v1 import audit_pb2, qualification_pb2, record_pb2, webhook_pb2, workflow_pb2
from tests.mcp_server.by_http import READS, key_of
from tests.mcp_server.conftest import Agent, agreeing, connected
from tests.mcp_server.mutations import Mutation, inside, mutations, suggested
from tests.running import RunningCore
from tests.skills import written

pytestmark = pytest.mark.anyio

ASKING = """
title: Asking
steps:
  - {id: agree, kind: approval, title: "Go on?", timeout: 2d, exits: {rejected: done, timeout: done}}
  - {id: done, kind: exit, reason: asked}
"""
SHORT = """
title: Short
steps:
  - {id: done, kind: exit, reason: over}
"""
THINKING = """
title: Thinking
steps:
  - id: think
    kind: agent_task
    title: "What to say?"
    instructions: Say it in one line.
    output_schema: {type: object, properties: {line: {type: string}}, required: [line]}
    timeout: 20d
"""


DEEPER: dict[str, dict[str, Any]] = {
    "update-record": {"fields": {"job_title": "CEO", "phone": "+493012345"}},
    "qualify-lead": {
        "email": "cy@example.com",
        "fields": {"first_name": "Cy"},
        "evidence": [{"path": "contact.job_title", "value": "CFO", "source": "https://example.com", "confidence": 0.9}],
    },
    "enroll": {
        "workflow_id": "thinking",
        "contacts": [{"email": "cy@example.com", "first_name": "Cy", "timezone": "UTC"}],
    },
    "simulate-workflow": {"workflow_id": "asking", "sample": 5, "events": [{"name": "reply.received", "after": "1d"}]},
}
"""Good calls with objects in them."""


@dataclass
class Tried:
    """What became of the wrong calls."""

    complaints: list[str] = field(default_factory=list)
    made: dict[str, bool] = field(default_factory=dict)
    """The suggested calls that were complete, each made once, and whether it worked."""
    told_in_words: set[str] = field(default_factory=set)


async def goods(core: RunningCore, agent: Agent, person: Agent) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Live through a little; return a good call of each tool, none of which changes anything, and ids that exist."""
    async with core.client() as client:
        for name, source in (("asking", ASKING), ("short", SHORT), ("thinking", THINKING)):
            await client.workflows.CreateWorkflow(
                workflow_pb2.CreateWorkflowRequest(workflow_id=name, source=source, publish=True)
            )
        await client.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url="http://127.0.0.1:9/"))
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id="default", source=document("default-model.yaml"))
        )
    qualified = await agent.ok("qualify-lead", email="ada@example.com", fields={"job_title": "CFO"})
    lead = (await agent.ok("qualify-lead", plan_id=qualified["plan_id"], mode="commit"))["lead_id"]
    ada = (await agent.ok("find-records", email="ada@example.com"))["records"][0]["record_id"]
    run = await agent.ok("execute-workflow", workflow_id="short", input={"contact_id": ada}, mode="commit")
    await agent.ok("enroll", workflow_id="thinking", contacts=[{"contact_id": ada}], mode="commit")
    enrolled = await agent.ok(
        "enroll", workflow_id="asking", contacts=[{"contact_id": ada}, {"email": "bo@example.com"}], mode="commit",
        idempotency_key="first",
    )  # fmt: skip
    await core.settle()
    bo = (await agent.ok("find-records", email="bo@example.com"))["records"][0]["record_id"]
    changed = await agent.ok("update-record", record_id=ada, fields={"first_name": "Ada"}, mode="commit")
    (task,) = (await agent.ok("claim-task"))["tasks"]
    delivery = (await agent.ok("find-deliveries"))["deliveries"][0]["delivery_id"]
    approval = (await person.ok("list-approvals"))["approvals"][0]
    template = (await agent.ok("draft-workflow"))["templates"][0]["id"]
    enrollment = enrolled["enrolled"][0]["enrollment_id"]
    ids = {
        "cnt": ada, "lead": lead, "enr": enrollment, "exe": run["execution_id"], "tsk": task["task_id"],
        "dlv": delivery, "apr": approval["approval_id"],
    }  # fmt: skip
    preview = {"mode": "preview"}
    return {
        "find-records": {"type": "lead", "limit": 5},
        "get-record": {"record_id": ada, "history": 5},
        "list-workflows": {"state": "all"},
        "get-workflow": {"workflow_id": "asking", "version": 1},
        "get-enrollment": {"enrollment_id": enrollment},
        "get-execution": {"execution_id": ids["exe"]},
        "get-call": {"idempotency_key": "first"},
        "find-deliveries": {"delivery_id": delivery},
        "explain-enrollment": {"workflow_id": "asking", "contact_id": ada},
        "qualify-lead": {"lead_id": lead, "model_id": "default", **preview},
        "enroll": {"workflow_id": "thinking", "contacts": [{"email": "cy@example.com"}], **preview},
        "update-record": {"record_id": ada, "fields": {"job_title": "CEO"}, **preview},
        "execute-workflow": {"workflow_id": "asking", "input": {"email": "cy@example.com"}, **preview},
        "claim-task": {"task_id": ids["tsk"], **preview},
        "answer-task": {"task_id": ids["tsk"], "output": {"line": "Hello"}, **preview},
        "redrive-dead-letters": {"workflow_id": "asking", **preview},
        "redeliver": {"delivery_id": delivery, **preview},
        "end-enrollment": {"enrollment_id": enrollment, **preview},
        "merge-records": {"kept_id": ada, "merged_id": bo, **preview},
        "undo-changes": {"undo": changed["undo"], **preview},
        "draft-workflow": {"workflow_id": "new", "template": template, **preview},
        "simulate-workflow": {"workflow_id": "asking", "version": 1, "sample": 5},
        "propose-workflow": {"workflow_id": "asking", **preview},
        "list-approvals": {"approval_id": ids["apr"]},
        "decide-approval": {
            "approval_id": ids["apr"], "decision": "approve", "subject_hash": approval["subject_hash"], **preview,
        },
    }, ids  # fmt: skip


def deeper(tool: str, good: Mapping[str, Any]) -> dict[str, Any]:
    """Return a good call with objects in it; an empty one of a tool that takes none."""
    more = DEEPER.get(tool, {})
    return {**{name: good[name] for name in ("record_id",) if name in good}, **more} if more else {}


async def test_every_wrong_call_is_answered_with_a_right_one(core: RunningCore) -> None:
    async with (
        connected(core.grpc_target, core.api_key, "auto") as agent,
        connected(core.grpc_target, core.approver_api_key, "auto", agreeing) as person,
    ):
        good, ids = await goods(core, agent, person)
        assert good.keys() == written.tools().keys()
        before, tried, count = await written_state(core, ids["cnt"]), Tried(), 0
        met: set[str] = set()
        items = {"kinds": "wait", "contacts": ids["cnt"], "dead_letter_ids": f"dl_{'0' * 26}"}
        items |= {
            name: value[0] for one in DEEPER.values() for name, value in one.items() if name in ("evidence", "events")
        }
        for tool, arguments in good.items():
            who = person if tool == "decide-approval" else agent
            await who.ok(tool, **arguments)
            schema = written.taken(tool)
            wrongs = [*mutations(tool, schema, arguments, ids, met, items), *inside(tool, deeper(tool, arguments))]
            if "reason" in schema["properties"]:
                wrongs += [wrong.at_length() for wrong in wrongs if wrong.meant and wrong.argument != "reason"][-1:]
            for wrong in wrongs:
                count += 1
                await look_at(who, wrong, tried)
        assert tried.complaints == [], "\n".join(tried.complaints)
        assert count > 250
        assert sum(tried.made.values()) > 80
        assert await written_state(core, ids["cnt"]) == before, (
            "neither wrong calls nor what they lead to change anything"
        )


PLANNING = {"QualificationService.QualifyLead", "RecordService.RevertChanges"}
"""Their previews keep a plan, and the audit log says so."""


async def written_state(core: RunningCore, contact_id: str) -> tuple[int, str]:
    """Return how much was written, and the version of a record that plans are about."""
    async with core.client() as client:
        found = await client.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(page_size=500))
        record = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=contact_id))
    return sum(entry.method not in PLANNING for entry in found.entries), record.etag


async def look_at(agent: Agent, wrong: Mutation, tried: Tried) -> None:
    """Make a wrong call and what its error suggests; note what is not as it should be."""
    result = await agent.call(wrong.tool, **wrong.arguments)
    if not result.is_error:
        tried.complaints.append(f"{wrong}: taken without a word")
        return
    error: Mapping[str, Any] = (result.structured_content or {})["error"]
    call = suggested(error["next"], wrong.arguments, "|".join(sorted(written.tools(), key=len, reverse=True)))
    if not (error["reason"] and error["message"] and call):
        tried.complaints.append(f"{wrong}: no call in {error}")
        return
    tool, arguments = call
    told = f"{tool} {json.dumps(arguments)}"
    if complaint := misfit(tool, arguments):
        tried.complaints.append(f"{wrong}: {error['next']}: {complaint}")
    elif arguments.get("mode") == "commit":
        tried.complaints.append(f"{wrong}: suggests to commit what was guessed: {error['next']}")
    elif "<" in told:
        if wrong.meant:
            tried.complaints.append(f"{wrong}: leaves open what is plain: {error['next']}")
    elif told not in tried.made:
        made = await agent.call(tool, **arguments)
        tried.made[told] = not made.is_error
        if made.is_error:
            tried.complaints.append(f"{wrong}: {error['next']} is refused: {made.content}")


def misfit(tool: str, arguments: Mapping[str, Any]) -> str:
    """Return what does not fit the schema of a suggested call; a choice that is left open names all choices."""
    schema = written.taken(tool)
    for found in Draft202012Validator(schema).iter_errors(dict(arguments)):
        if not _left_open(found):
            return found.message
    return ""


def _left_open(found: ValidationError) -> bool:
    return found.validator == "enum" and found.instance == f"<{'|'.join(found.validator_value)}>"


async def test_a_missing_scope_is_named_and_nothing_else_is_suggested(core: RunningCore) -> None:
    async with connected(core.grpc_target, await key_of(core, *READS), "auto") as agent:
        for name, tool in written.tools().items():
            if missing := set(tool.scopes).difference(READS):
                error = await agent.refused(name)
                assert error["reason"] == "SCOPE_MISSING"
                assert error["next"] == (
                    f"Stop and tell the person: ask for an API key with {', '.join(sorted(missing))}."
                )
