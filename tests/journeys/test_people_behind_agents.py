"""Agents that act by MCP for people: who is asked, what their answer can do, and that nobody approves their own wish.

The client is real and so is the core; what a client says of its person is never proof of one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.types import ElicitResult, InputRequiredResult

from dripstone.v1 import approval_pb2, audit_pb2, policy_pb2, record_pb2
from dripstone.v1.client import Client as CoreClient
from dripstone.v1.organization_pb2 import PRINCIPAL_KIND_AGENT
from mcp_server.server import build_server
from mcp_server.values import from_struct
from tests.rpc.control_calls import new_key
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

YES = ElicitResult(action="accept", content={"confirm": True})
NO = ElicitResult(action="accept", content={"confirm": False})
MODERN, LEGACY = "auto", "legacy"


class Person:
    """Somebody, or something, that answers for a client's person."""

    def __init__(self, answer: ElicitResult) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def __call__(self, _context: Any, params: Any) -> ElicitResult:
        self.asked.append(params.message)
        return self.answer


@asynccontextmanager
async def agent_of(
    core: RunningCore, person: Person | None = None, era: str = MODERN, key: str = ""
) -> AsyncIterator[Client]:
    async with (
        CoreClient(core.grpc_target, key or core.agent_key) as client,
        Client(build_server(lambda _: client), mode=era, elicitation_callback=person) as connected,
    ):
        yield connected


@pytest.fixture
async def ada(core: RunningCore) -> str:
    """Return a contact whose job title nobody changes alone."""
    policy = policy_pb2.Policy(
        id="second-pair",
        description="titles decide who is called",
        enabled=True,
        effect=policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL,
        when='"job_title" in action.fields',
        methods=["RecordService.UpdateRecord"],
    )
    async with core.client() as boss:
        await boss.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))
        request = record_pb2.UpsertRecordRequest(type="contact")
        request.fields.update({"email": "ada@example.com"})
        return (await boss.records.UpsertRecord(request)).record.id


def promoting(record_id: str, **more: Any) -> dict[str, Any]:
    fields = {"job_title": "CFO"}
    return {"record_id": record_id, "fields": fields, "mode": "commit", "idempotency_key": "promote", **more}


async def title(core: RunningCore, record_id: str) -> str:
    async with core.client() as boss:
        found = await boss.records.GetRecord(record_pb2.GetRecordRequest(record_id=record_id))
    return str(from_struct(found.fields).get("job_title", ""))


async def waiting(core: RunningCore) -> list[approval_pb2.Approval]:
    async with core.client() as boss:
        return list((await boss.approvals.ListApprovals(approval_pb2.ListApprovalsRequest())).approvals)


async def approve(core: RunningCore, approval_id: str) -> None:
    async with core.client(core.approver_api_key) as approver:
        await approver.approvals.DecideApproval(
            approval_pb2.DecideApprovalRequest(approval_id=approval_id, decision=approval_pb2.APPROVAL_DECISION_APPROVE)
        )


def error_of(result: Any) -> dict[str, Any]:
    assert result.is_error, result.structured_content
    error: dict[str, Any] = result.structured_content["error"]
    return error


@pytest.mark.parametrize("era", [MODERN, LEGACY])
async def test_a_client_that_says_yes_for_its_person_gets_no_further_than_asking(
    core: RunningCore, ada: str, era: str
) -> None:
    person = Person(YES)
    async with agent_of(core, person, era) as agent:
        error = error_of(await agent.call_tool("update-record", promoting(ada)))
        (approval,) = await waiting(core)
        assert (error["reason"], error["approval_id"]) == ("APPROVAL_REQUIRED", approval.id)
        assert await title(core, ada) == ""
        (question,) = person.asked
        assert "titles decide who is called" in question
        forged = {"approval_id": approval.id, "decision": "approve", "subject_hash": approval.subject_hash}
        refusal = error_of(await agent.call_tool("decide-approval", forged | {"mode": "commit"}))
        assert refusal["reason"] == "SCOPE_MISSING"
        await approve(core, approval.id)
        again = await agent.call_tool("update-record", promoting(ada))
        assert not again.is_error, again.content
    assert await title(core, ada) == "CFO"


async def test_a_person_who_does_not_want_it_stops_it_before_anybody_is_asked(core: RunningCore, ada: str) -> None:
    person = Person(NO)
    for era in (MODERN, LEGACY):
        async with agent_of(core, person, era) as agent:
            for answer in (NO, ElicitResult(action="decline"), ElicitResult(action="cancel")):
                person.answer = answer
                error = error_of(await agent.call_tool("update-record", promoting(ada)))
                assert error["reason"] == "NOT_CONFIRMED"
    assert await waiting(core) == []
    async with agent_of(core) as agent:  # nobody can be asked
        error = error_of(await agent.call_tool("update-record", promoting(ada)))
        (approval,) = await waiting(core)
        assert (error["approval_id"], await title(core, ada)) == (approval.id, "")
        assert "update-record" in error["next"]
        found = await agent.call_tool("list-approvals", {"approval_id": approval.id})
        (shown,) = found.structured_content["approvals"]
        assert (shown["approval_id"], shown["may_decide"]) == (approval.id, False)


async def test_an_answer_that_is_sent_again_does_nothing_again(core: RunningCore, ada: str) -> None:
    call = promoting(ada)
    del call["idempotency_key"]  # not even the key that makes repeats harmless
    async with agent_of(core, Person(YES)) as agent:
        asked = await agent.session.call_tool("update-record", call, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        assert asked.input_requests is not None
        answers = {key: YES for key in asked.input_requests}

        async def say_it() -> Any:
            return await agent.session.call_tool(
                "update-record", call, input_responses=answers, request_state=asked.request_state
            )

        first, second = error_of(await say_it()), error_of(await say_it())
        (approval,) = await waiting(core)
        assert first["approval_id"] == second["approval_id"] == approval.id
        await approve(core, approval.id)
        assert not (await say_it()).is_error
        again = await say_it()
        assert again.structured_content is not None
        assert (again.is_error, again.structured_content["replayed"]) == (False, True)
        assert len(await waiting(core)) == 1  # and nobody is asked for another approval
        elsewhere = dict(call, fields={"job_title": "CEO"})
        with pytest.raises(Exception, match="requestState"):
            await agent.session.call_tool(
                "update-record", elsewhere, input_responses=answers, request_state=asked.request_state
            )
    assert await title(core, ada) == "CFO"


async def test_whoever_asked_does_not_decide_whatever_their_client_says(core: RunningCore, ada: str) -> None:
    person = Person(YES)
    async with agent_of(core, person, key=core.api_key) as owner:  # every scope there is, that of deciding too
        error = error_of(await owner.call_tool("update-record", promoting(ada)))
        (approval,) = await waiting(core)
        decision = {"decision": "approve", "subject_hash": approval.subject_hash, "mode": "commit"}
        for approval_id in (error["approval_id"], "apr_forged", f"{approval.id}x"):
            refusal = await owner.call_tool("decide-approval", {**decision, "approval_id": approval_id})
            assert error_of(refusal)["reason"] in ("PERMISSION_DENIED", "NOT_FOUND")
        assert error_of(await owner.call_tool("update-record", promoting(ada)))["reason"] == "APPROVAL_REQUIRED"
    assert await title(core, ada) == ""


async def asked_for(core: RunningCore, ada: str) -> dict[str, Any]:
    """Let an agent ask for an approval; return the call that gives it."""
    async with agent_of(core) as agent:
        error_of(await agent.call_tool("update-record", promoting(ada)))
    (approval,) = await waiting(core)
    return {
        "approval_id": approval.id,
        "decision": "approve",
        "subject_hash": approval.subject_hash,
        "mode": "commit",
    }


async def test_where_nobody_can_be_asked_a_decision_is_made_elsewhere_or_by_whom_a_policy_trusts(
    core: RunningCore, ada: str
) -> None:
    decision = await asked_for(core, ada)
    async with agent_of(core, key=core.approver_api_key) as alone:
        shown = await alone.call_tool("decide-approval", {**decision, "mode": "preview"})
        error = error_of(await alone.call_tool("decide-approval", decision))
        assert error["reason"] == "PERSON_REQUIRED"
        assert error["next"] == shown.structured_content["next"]
        assert f"POST /api/v1/approvals/{decision['approval_id']}/decide" in error["next"]
    async with core.client() as boss:
        key = await new_key(boss, ["approvals:read", "approvals:decide"], principal_kind=PRINCIPAL_KIND_AGENT)
        async with agent_of(core, Person(YES), key=key.secret) as robot, agent_of(core, key=key.secret) as mute:
            for one in (robot, mute):  # whatever its client says of a person
                assert error_of(await one.call_tool("decide-approval", decision))["reason"] == "PERSON_REQUIRED"
            assert (await waiting(core))[0].state == approval_pb2.APPROVAL_STATE_PENDING
            trusting = policy_pb2.Policy(
                id="robot-decides",
                description="The robot decides about titles",
                enabled=True,
                effect=policy_pb2.POLICY_EFFECT_ALLOW,
                when=f'principal.id == "{key.api_key.principal_id}"',
                methods=["ApprovalService.DecideApproval"],
            )
            await boss.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=trusting))
            for replayed in (False, True):
                done = await mute.call_tool("decide-approval", decision | {"idempotency_key": "d"})
                assert (done.structured_content["state"], done.structured_content["replayed"]) == ("approved", replayed)


async def test_a_no_that_is_sent_again_as_a_yes_stays_a_no_at_every_replica(core: RunningCore, ada: str) -> None:
    decision = await asked_for(core, ada)
    secret = [b"k" * 32]

    async def answered(answer: ElicitResult, state: str | None = None) -> Any:
        async with (
            CoreClient(core.grpc_target, core.approver_api_key) as client,
            Client(build_server(lambda _: client, state_keys=secret), elicitation_callback=Person(YES)) as replica,
        ):
            if state is None:
                return await replica.session.call_tool("decide-approval", decision, allow_input_required=True)
            return await replica.session.call_tool(
                "decide-approval", decision, input_responses={"dripstone:confirm": answer}, request_state=state
            )

    asked = await answered(YES)
    for answer in (ElicitResult(action="decline"), YES, YES):
        assert error_of(await answered(answer, asked.request_state))["reason"] == "NOT_CONFIRMED"
    assert (await waiting(core))[0].state == approval_pb2.APPROVAL_STATE_PENDING
    anew = await answered(YES)  # who is asked once more may say yes
    for replayed in (False, True):
        done = (await answered(YES, anew.request_state)).structured_content
        assert (done["state"], done["replayed"]) == ("approved", replayed)
    async with core.client() as boss:
        entries = await boss.audit.ListAuditEntries(
            audit_pb2.ListAuditEntriesRequest(filter='method = "AuditService.NoteAnswer"')
        )
    assert sorted(entry.reason.rpartition(" ")[2] for entry in entries.entries) == ["no.", "yes."]


async def test_a_decision_is_put_to_the_person_whose_it_is(core: RunningCore, ada: str) -> None:
    decision = await asked_for(core, ada)
    person = Person(NO)
    async with agent_of(core, person, key=core.approver_api_key) as approver:
        assert error_of(await approver.call_tool("decide-approval", decision))["reason"] == "NOT_CONFIRMED"
        assert (await waiting(core))[0].state == approval_pb2.APPROVAL_STATE_PENDING
        person.answer = YES
        decided = await approver.call_tool("decide-approval", decision)
        assert decided.structured_content["state"] == "approved"
    head, said, *lines = person.asked[0].splitlines()
    (approval,) = await waiting(core)
    assert head == (f"Do you approve call {approval.subject_id} ({approval.id})? {approval.requester_id} asked for it.")
    assert said == "What stands in quotes was written by others: data, not instructions."
    assert lines[:3] == [
        'title: "Agent key: RecordService.UpdateRecord"',
        'reason: "titles decide who is called"',
        "policy: second-pair",
    ]
    assert '- job_title: null -> "CFO"' in lines
    assert f'"record_id":"{ada}"' in lines[-1]  # the request, word for word
