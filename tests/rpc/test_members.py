"""People: what they may do follows their role at once, an admin always stays, and who goes leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

from core.domain.control.scopes import role_scopes
from dripstone.v1 import organization_pb2 as pb
from dripstone.v1 import record_pb2
from dripstone.v1.client import Client
from tests.rpc.control_calls import member_key, new_key, new_member, refused
from tests.running import RunningCore

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        yield opened


async def caller(core: RunningCore, key: str) -> pb.Caller:
    async with core.client(key) as client:
        return await client.organization.GetCaller(pb.GetCallerRequest())


async def test_a_new_role_is_in_force_with_the_next_call(core: RunningCore, client: Client) -> None:
    ada = await new_member(client, "ada", pb.ROLE_EDITOR)
    key = await member_key(client, ada, role_scopes("editor"))
    assert set((await caller(core, key)).scopes) == role_scopes("editor")
    changed = await client.organization.UpdateMember(
        pb.UpdateMemberRequest(member_id=ada.id, role=pb.ROLE_VIEWER, display_name="Ada L", etag=ada.etag)
    )
    assert (changed.role, changed.display_name, changed.etag) == (pb.ROLE_VIEWER, "Ada L", "2")
    now = await caller(core, key)
    assert (set(now.scopes), now.role, now.sign_in) == (role_scopes("viewer"), "viewer", "key")
    await client.organization.UpdateMember(pb.UpdateMemberRequest(member_id=ada.id, role=pb.ROLE_ADMIN))
    assert set((await caller(core, key)).scopes) == role_scopes("editor"), "the key was minted with no more"
    with refused("ETAG_MISMATCH"):
        await client.organization.UpdateMember(
            pb.UpdateMemberRequest(member_id=ada.id, role=pb.ROLE_VIEWER, etag=ada.etag)
        )


async def test_who_is_removed_has_no_key_keeps_the_name_and_hands_over_the_records(
    core: RunningCore, client: Client
) -> None:
    ada, bob = await new_member(client, "ada", pb.ROLE_EDITOR), await new_member(client, "bob", pb.ROLE_EDITOR)
    key = await member_key(client, ada, role_scopes("viewer"))
    await caller(core, key)
    record = (
        await client.records.UpsertRecord(
            record_pb2.UpsertRecordRequest(type="contact", fields={"email": "c@example.com", "owner_id": ada.id})
        )
    ).record
    removed = await client.organization.RemoveMember(
        pb.RemoveMemberRequest(member_id=ada.id, reassign_to_member_id=bob.id)
    )
    assert removed.state == pb.MEMBER_STATE_REMOVED
    with refused("UNAUTHENTICATED"):
        await caller(core, key)
    after = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=record.id))
    assert after.fields["owner_id"] == bob.id
    kept = await client.organization.GetMember(pb.GetMemberRequest(member_id=ada.id))
    assert (kept.display_name, kept.state) == ("Ada", pb.MEMBER_STATE_REMOVED)
    listed = await client.organization.ListMembers(pb.ListMembersRequest())
    assert ada.id not in [member.id for member in listed.members]
    with refused("WRONG_STATE"):
        await client.organization.RemoveMember(pb.RemoveMemberRequest(member_id=ada.id))
    again = await new_member(client, "ada", pb.ROLE_VIEWER)
    assert again.id != ada.id, "who comes back is a new member"
    with refused("ALREADY_EXISTS"):
        await new_member(client, "ada")
    await client.organization.RemoveMember(pb.RemoveMemberRequest(member_id=bob.id))
    after = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=record.id))
    assert "owner_id" not in after.fields


@ON_SQLITE
async def test_many_records_are_handed_over_in_slices(core: RunningCore, client: Client, monkeypatch: object) -> None:
    from core.store.organizations import handing_over

    monkeypatch.setattr(handing_over, "_SLICE", 2)  # type: ignore[attr-defined]
    ada, bob = await new_member(client, "ada", pb.ROLE_EDITOR), await new_member(client, "bob", pb.ROLE_EDITOR)
    for number in range(5):
        await client.records.UpsertRecord(
            record_pb2.UpsertRecordRequest(
                type="contact", fields={"email": f"c{number}@example.com", "owner_id": ada.id}
            )
        )
    await client.organization.RemoveMember(pb.RemoveMemberRequest(member_id=ada.id, reassign_to_member_id=bob.id))

    async def owned(owner: str) -> int:
        request = record_pb2.ListRecordsRequest(type="contact", filter=f'owner_id = "{owner}"')
        return len((await client.records.ListRecords(request)).records)

    assert (await owned(ada.id), await owned(bob.id)) == (3, 2)
    await core.pass_time(timedelta(minutes=1))
    await core.pass_time(timedelta(minutes=1))
    assert (await owned(ada.id), await owned(bob.id)) == (0, 5)


@pytest.mark.both_databases
async def test_the_last_admin_stays_whoever_asks_at_once(core: RunningCore, client: Client) -> None:
    ada, bob = await new_member(client, "ada"), await new_member(client, "bob")

    async def gone(request: pb.RemoveMemberRequest | pb.UpdateMemberRequest) -> str:
        call = client.organization.RemoveMember if isinstance(request, pb.RemoveMemberRequest) else None
        try:
            await (call or client.organization.UpdateMember)(request)
        except grpc.aio.AioRpcError as error:
            return str(error.details())
        return ""

    told = await asyncio.gather(
        gone(pb.RemoveMemberRequest(member_id=ada.id)),
        gone(pb.UpdateMemberRequest(member_id=bob.id, role=pb.ROLE_VIEWER)),
    )
    assert sorted(bool(one) for one in told) == [False, True], told
    assert any("last admin" in one for one in told)


@ON_SQLITE
async def test_nobody_raises_others_above_themselves(core: RunningCore, client: Client) -> None:
    ada = await new_member(client, "ada")
    await new_member(client, "bob")
    half = (await new_key(client, {"organization:write", "organization:read"})).secret
    async with core.client(half) as limited:
        with refused("PERMISSION_DENIED"):
            await new_member(limited, "eve")
        with refused("PERMISSION_DENIED"):
            await limited.organization.RemoveMember(pb.RemoveMemberRequest(member_id=ada.id))
        with refused("PERMISSION_DENIED"):
            await limited.organization.UpdateMember(pb.UpdateMemberRequest(member_id=ada.id, role=pb.ROLE_VIEWER))
        renamed = await limited.organization.UpdateMember(
            pb.UpdateMemberRequest(member_id=ada.id, display_name="Ada Lovelace")
        )
        assert renamed.role == pb.ROLE_ADMIN
    with refused("INVALID_ARGUMENT"):
        await client.organization.RemoveMember(pb.RemoveMemberRequest(member_id=ada.id, reassign_to_member_id=ada.id))
    with refused("NOT_FOUND"):
        await client.organization.GetMember(pb.GetMemberRequest(member_id="mem_none"))


@ON_SQLITE
async def test_the_organization_says_its_zone_and_what_cost_is_counted_in(client: Client) -> None:
    before = await client.organization.GetOrganization(pb.GetOrganizationRequest())
    changed = await client.organization.UpdateOrganization(
        pb.UpdateOrganizationRequest(
            timezone="Asia/Tokyo", cost_currency="EUR", require_default_approval_gate=True, etag=before.etag
        )
    )
    assert (changed.display_name, changed.timezone, changed.cost_currency) == ("Acme", "Asia/Tokyo", "EUR")
    assert changed.require_default_approval_gate
    assert changed.etag != before.etag
    with refused("ETAG_MISMATCH"):
        await client.organization.UpdateOrganization(
            pb.UpdateOrganizationRequest(display_name="Other", etag=before.etag)
        )
    with refused("INVALID_ARGUMENT") as told:
        await client.organization.UpdateOrganization(
            pb.UpdateOrganizationRequest(timezone="Europe/Berlim", cost_currency="€")
        )
    assert [one.field for one in told.error.violations] == ["timezone", "cost_currency"]
