"""Who learnt the secret of another's key does not approve by it what it asked for itself."""

from __future__ import annotations

import pytest

from core.domain.control.scopes import ALL_SCOPES
from dripstone.v1 import approval_pb2, policy_pb2, record_pb2
from dripstone.v1 import organization_pb2 as pb
from dripstone.v1.client import Client
from tests.rpc.control_calls import member_key, new_key, new_member, refused
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

APPROVE = approval_pb2.APPROVAL_DECISION_APPROVE


def _upsert() -> record_pb2.UpsertRecordRequest:
    request = record_pb2.UpsertRecordRequest(type="contact")
    request.fields.update({"email": "ada@example.com"})
    return request


async def _ask(client: Client) -> str:
    policy = policy_pb2.Policy(
        id="pair",
        description="Two look at it",
        effect=policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL,
        enabled=True,
        methods=["RecordService.UpsertRecord"],
    )
    await client.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))
    with refused("APPROVAL_REQUIRED") as told:
        await client.records.UpsertRecord(_upsert())
    return str(told.error.variables["approval_id"])


async def _rotated(client: Client, key_id: str) -> str:
    made = await client.organization.RotateApiKey(pb.RotateApiKeyRequest(api_key_id=key_id))
    return made.secret


async def test_a_borrowed_key_does_not_approve_what_the_borrower_asks(core: RunningCore) -> None:
    async with core.client() as boss:
        ada, bob, eve = [await new_member(boss, name) for name in ("ada", "bob", "eve")]
        adas = await member_key(boss, ada, ALL_SCOPES)
        bobs = await new_key(boss, ALL_SCOPES, principal_kind=pb.PRINCIPAL_KIND_MEMBER, member_id=bob.id)
        async with core.client(adas) as asking:
            approval_id = await _ask(asking)
            decide = approval_pb2.DecideApprovalRequest(approval_id=approval_id, decision=APPROVE)
            minted = await member_key(asking, eve, ALL_SCOPES)
            async with core.client(minted) as borrowed:
                again = await member_key(borrowed, eve, ALL_SCOPES)
            program = (await new_key(asking)).secret
            by_program = await new_key(boss)
            taken = [await _rotated(asking, one) for one in (bobs.api_key.id, by_program.api_key.id)]
        for secret in (minted, again, program, *taken):
            async with core.client(secret) as borrowed:
                seen = await borrowed.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=approval_id))
                assert not seen.caller_may_decide
                with refused("PERMISSION_DENIED"):
                    await borrowed.approvals.DecideApproval(decide)
        async with core.client(await member_key(boss, eve, ALL_SCOPES)) as own:
            assert (await own.approvals.DecideApproval(decide)).state == approval_pb2.APPROVAL_STATE_APPROVED
