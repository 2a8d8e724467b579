"""Keys: an end, a new secret beside the old one for a while, and never more than whoever minted them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from core.domain.control.scopes import READ_SCOPES, role_scopes
from dripstone.v1 import agent_pb2, record_pb2, workflow_pb2
from dripstone.v1 import organization_pb2 as pb
from dripstone.v1.client import Client
from tests.rpc.control_calls import member_key, new_key, new_member, refused
from tests.running import RunningCore

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
WHO = pb.GetCallerRequest()


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        yield opened


async def works(core: RunningCore, key: str) -> bool:
    async with core.client(key) as client:
        try:
            await client.organization.GetCaller(WHO)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise
    return True


def at(core: RunningCore, after: timedelta) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(core.clock.now() + after)
    return made


async def test_both_secrets_work_until_the_grace_is_over(core: RunningCore, client: Client) -> None:
    made = await new_key(client)
    turned = await client.organization.RotateApiKey(
        pb.RotateApiKeyRequest(api_key_id=made.api_key.id, grace=Duration(seconds=3600))
    )
    assert turned.api_key.previous_secret_expire_time == at(core, timedelta(hours=1))
    assert turned.secret.startswith(turned.api_key.prefix)
    assert await works(core, made.secret)
    assert await works(core, turned.secret)
    core.clock.advance(timedelta(minutes=59, seconds=50))
    assert await works(core, made.secret)
    core.clock.advance(timedelta(seconds=10))
    assert not await works(core, made.secret), "what is remembered of it ends with it"
    assert await works(core, turned.secret)
    last = await client.organization.RotateApiKey(pb.RotateApiKeyRequest(api_key_id=made.api_key.id, grace=Duration()))
    assert not await works(core, turned.secret)
    assert await works(core, last.secret)
    with refused("INVALID_ARGUMENT"):
        await client.organization.RotateApiKey(
            pb.RotateApiKeyRequest(api_key_id=made.api_key.id, grace=Duration(seconds=8 * 86400))
        )


async def test_a_key_ends_when_it_said_and_when_it_is_revoked(core: RunningCore, client: Client) -> None:
    made = await new_key(client, expire_time=at(core, timedelta(seconds=20)))
    other = await new_key(client)
    assert await works(core, made.secret)
    assert await works(core, other.secret)
    core.clock.advance(timedelta(seconds=20))
    assert not await works(core, made.secret)
    await client.organization.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=other.api_key.id))
    assert not await works(core, other.secret), "at once, not in 30 seconds"
    for over, state in ((made, "expired"), (other, "revoked")):
        with refused("WRONG_STATE") as told:
            await client.organization.RotateApiKey(pb.RotateApiKeyRequest(api_key_id=over.api_key.id))
        assert state in told.error.message
    (key,) = [
        one for one in (await client.organization.ListApiKeys(pb.ListApiKeysRequest())).api_keys
        if one.id == made.api_key.id
    ]  # fmt: skip
    assert key.last_use_time.seconds > 0


@ON_SQLITE
async def test_a_key_is_changed_by_mask_and_version(core: RunningCore, client: Client) -> None:
    made = await new_key(client)

    async def change(etag: str = "", paths: tuple[str, ...] = (), **fields: Any) -> pb.ApiKey:
        request = pb.UpdateApiKeyRequest(
            api_key_id=made.api_key.id, api_key=pb.ApiKey(**fields), update_mask=FieldMask(paths=paths), etag=etag
        )
        return await client.organization.UpdateApiKey(request)

    limits = pb.KeyLimits(record_types=["contact"], methods=["RecordService.GetRecord", "RecordService.ListRecords"])
    changed = await change(made.api_key.etag, limits=limits, expire_time=at(core, timedelta(days=1)))
    assert (changed.limits, changed.display_name, changed.scopes) == (limits, "Key", made.api_key.scopes)
    with refused("ETAG_MISMATCH"):
        await change(made.api_key.etag, display_name="Other")
    async with core.client(made.secret) as limited:
        caller = await limited.organization.GetCaller(WHO)
        assert caller.limits == limits
        with refused("KEY_LIMITED") as told:
            await limited.records.FindRecords(record_pb2.FindRecordsRequest(query="ada"))
        assert "FindRecords is none of them" in told.error.message
    widened = await change(paths=("limits", "expire_time", "scopes"), scopes=["records:read"])
    assert (widened.HasField("limits"), widened.HasField("expire_time"), list(widened.scopes)) == (
        False, False, ["records:read"],
    )  # fmt: skip
    with refused("INVALID_ARGUMENT") as told:
        await change(paths=("limit", "prefix"))
    assert [one.field for one in told.error.violations] == ["update_mask.paths[0]", "update_mask.paths[1]"]
    with refused("INVALID_ARGUMENT"):
        await change(paths=("scopes",))
    with refused("INVALID_ARGUMENT") as told:
        await change(display_name="", paths=("display_name", "expire_time"), expire_time=at(core, timedelta(0)))
    assert len(told.error.violations) == 2


@ON_SQLITE
async def test_names_in_limits_must_name_something(client: Client) -> None:
    limits = pb.KeyLimits(
        methods=["RecordService.UpdateRecords"], record_types=["contct"], hidden_fields=["email"],
        workflow_ids=["nope"], project_ids=["nope"],
    )  # fmt: skip
    with refused("INVALID_ARGUMENT") as told:
        await new_key(client, limits=limits)
    assert [one.field for one in told.error.violations] == [
        "limits.methods[0]", "limits.record_types[0]", "limits.hidden_fields[0]", "limits.workflow_ids[0]",
        "limits.project_ids[0]",
    ]  # fmt: skip
    assert "RecordService.UpdateRecord" in told.error.violations[0].message


@ON_SQLITE
async def test_no_key_makes_changes_or_rotates_one_that_may_do_more(core: RunningCore, client: Client) -> None:
    strong = await new_key(client)
    limits = pb.KeyLimits(record_types=["contact"], hidden_fields=["contact.email"])
    half = await new_key(client, {"keys:admin", "records:read"}, limits=limits)
    async with core.client(half.secret) as limited:
        with refused("PERMISSION_DENIED") as told:
            await new_key(limited, {"keys:admin", "records:write"}, limits=limits)
        assert "records:write" in told.error.message
        for wider in (pb.KeyLimits(), pb.KeyLimits(record_types=["contact"]), pb.KeyLimits(record_types=["lead"])):
            with refused("PERMISSION_DENIED") as told:
                await new_key(limited, {"records:read"}, limits=wider)
            assert "wider" in told.error.message
        with refused("PERMISSION_DENIED"):
            await limited.organization.RotateApiKey(pb.RotateApiKeyRequest(api_key_id=strong.api_key.id))
        with refused("PERMISSION_DENIED"):
            await limited.organization.UpdateApiKey(
                pb.UpdateApiKeyRequest(
                    api_key_id=half.api_key.id, api_key={"limits": {}}, update_mask={"paths": ["limits"]}
                )
            )
        with refused("PERMISSION_DENIED"):
            await limited.organization.SetIdentityProvider(
                pb.SetIdentityProviderRequest(
                    identity_provider={"issuer": "https://evil.example.com", "audience": "me"}
                )
            )
        narrower = pb.KeyLimits(record_types=["contact"], hidden_fields=["contact.*"])
        made = await new_key(limited, {"records:read"}, limits=narrower)
        turned = await limited.organization.RotateApiKey(pb.RotateApiKeyRequest(api_key_id=made.api_key.id))
        assert turned.api_key.limits == narrower
        await limited.organization.RevokeApiKey(pb.RevokeApiKeyRequest(api_key_id=strong.api_key.id))


@ON_SQLITE
async def test_a_members_key_has_no_more_than_the_role(core: RunningCore, client: Client) -> None:
    ada = await new_member(client, "ada", pb.ROLE_VIEWER)
    with refused("PERMISSION_DENIED") as told:
        await member_key(client, ada, READ_SCOPES | {"records:write"})
    assert "viewer does not have records:write" in told.error.message
    key = await member_key(client, ada, role_scopes("viewer"))
    async with core.client(key) as viewer:
        with refused("SCOPE_MISSING"):
            await viewer.records.UpsertRecord(
                record_pb2.UpsertRecordRequest(type="contact", fields={"email": "a@b.example"})
            )
    seen = await client.organization.GetMember(pb.GetMemberRequest(member_id=ada.id))
    assert seen.last_seen_time.seconds == int(core.clock.now().timestamp())


@ON_SQLITE
async def test_an_agents_key_names_an_agent_that_there_is(client: Client) -> None:
    await client.workflows.CreateWorkflow(
        workflow_pb2.CreateWorkflowRequest(
            workflow_id="flow", source="title: F\nsteps: [{id: done, kind: exit, reason: done}]", publish=True
        )
    )
    agent = await client.agents.CreateAgent(
        agent_pb2.CreateAgentRequest(agent_id="scout", display_name="Scout", workflow_id="flow")
    )
    made = await new_key(client, {"records:read"}, principal_kind=pb.PRINCIPAL_KIND_AGENT, agent_id=agent.id)
    assert (made.api_key.agent_id, made.api_key.principal_id) == ("scout", made.api_key.id)
    with refused("NOT_FOUND"):
        await new_key(client, {"records:read"}, principal_kind=pb.PRINCIPAL_KIND_AGENT, agent_id="nobody")
    with refused("INVALID_ARGUMENT"):
        await new_key(client, {"records:read"}, agent_id="scout")
