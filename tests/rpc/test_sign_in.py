"""Members sign in with tokens of the organization's provider: a real one, over HTTP, with real signatures."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.domain.control.scopes import role_scopes
from dripstone.v1 import organization_pb2 as pb
from dripstone.v1.client import Client
from tests.identity_provider import AUDIENCE, Provider
from tests.receiver import Receiver
from tests.rpc.control_calls import new_member, refused
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]
WHO = pb.GetCallerRequest()


@pytest.fixture
async def provider(core: RunningCore, receiver: Receiver) -> Provider:
    made = Provider(receiver)
    made.serve()
    made.rotate("first")
    async with core.client() as client:
        await client.organization.SetIdentityProvider(
            pb.SetIdentityProviderRequest(identity_provider={"issuer": made.issuer, "audience": AUDIENCE})
        )
    return made


async def caller(core: RunningCore, token: str) -> pb.Caller:
    async with core.client(token) as client:
        return await client.organization.GetCaller(WHO)


async def ada(core: RunningCore, role: pb.Role.ValueType = pb.ROLE_EDITOR) -> pb.Member:
    async with core.client() as client:
        return await new_member(client, "ada", role)


async def test_a_member_is_who_the_provider_vouches_for(core: RunningCore, provider: Provider) -> None:
    member = await ada(core)
    token = provider.token(core.clock.now(), "first")
    found = await caller(core, token)
    assert (found.principal_id, found.role, found.sign_in) == (member.id, "editor", "openid_connect")
    assert set(found.scopes) == role_scopes("editor")
    await caller(core, token)
    assert provider.asked == ["/acme/.well-known/openid-configuration", "/keys"]
    async with core.http(token) as http:
        assert (await http.get("/api/v1/caller")).json()["principal_id"] == member.id
    async with core.client() as client:
        seen = await client.organization.GetMember(pb.GetMemberRequest(member_id=member.id))
    assert seen.last_seen_time.seconds == int(core.clock.now().timestamp())


async def test_a_token_does_no_more_than_it_was_granted_and_opens_mcp_only_if_made_for_it(
    core: RunningCore, provider: Provider
) -> None:
    await ada(core)
    now = core.clock.now()
    for granted, scopes in (
        ({"scope": "openid records:read keys:admin"}, {"records:read"}),
        ({"scp": ["workflows:read", 1]}, {"workflows:read"}),
        ({"scope": "openid email"}, role_scopes("editor")),
    ):
        assert set((await caller(core, provider.token(now, "first", **granted))).scopes) == scopes
    for audience, status in ((AUDIENCE, 401), ([AUDIENCE, core.mcp_url], 400)):
        async with core.http(provider.token(now, "first", aud=audience)) as http:
            answer = await http.post("/mcp", json={}, headers={"accept": "application/json, text/event-stream"})
        assert answer.status_code == status
        if status == 401:
            async with core.http() as http:
                told = await http.get(answer.headers["www-authenticate"].split('resource_metadata="')[1][:-1])
            assert told.json()["authorization_servers"] == [provider.issuer]
            assert told.json()["resource"] == core.mcp_url


async def test_a_role_and_a_removal_count_at_once_and_the_token_ends_when_it_says(
    core: RunningCore, provider: Provider
) -> None:
    member = await ada(core)
    token = provider.token(core.clock.now(), "first")
    assert (await caller(core, token)).role == "editor"
    async with core.client() as client:
        await client.organization.UpdateMember(pb.UpdateMemberRequest(member_id=member.id, role=pb.ROLE_VIEWER))
        assert (await caller(core, token)).role == "viewer"
        short = provider.token(core.clock.now(), "first", exp=int(core.clock.now().timestamp()) + 5)
        await caller(core, short)
        core.clock.advance(timedelta(seconds=66))
        with refused("UNAUTHENTICATED"):
            await caller(core, short)
        await client.organization.RemoveMember(pb.RemoveMemberRequest(member_id=member.id))
    with refused("UNAUTHENTICATED"):
        await caller(core, token)


async def test_everything_that_is_wrong_is_told_in_the_same_words(core: RunningCore, provider: Provider) -> None:
    await ada(core)
    now = core.clock.now()
    other = Provider(provider.receiver)
    other.rotate("first")
    wrong = [
        provider.token(now, "first", email="nobody@example.com"),
        provider.token(now, "first", email_verified=False),
        provider.token(now, "first", aud="another"),
        provider.token(now, "first", iss="https://other.example.com"),
        provider.token(now, "first", exp=int(now.timestamp()) - 61),
        provider.token(now, "first", header={"kid": "second"}),
        other.token(now, "first"),
        "a.b.c",
        provider.token(now, "first")[:-4],
    ]
    told = set()
    for token in wrong:
        with refused("UNAUTHENTICATED") as refusal:
            await caller(core, token)
        told.add((refusal.error.message, refusal.error.hint))
    assert len(told) == 1


async def test_a_new_key_is_found_once_a_minute_at_most(core: RunningCore, provider: Provider) -> None:
    await ada(core)
    await caller(core, provider.token(core.clock.now(), "first"))
    provider.rotate("second", "RS256")
    token = provider.token(core.clock.now(), "second")
    for _ in range(3):
        with refused("UNAUTHENTICATED"):
            await caller(core, token)
    assert provider.asked.count("/keys") == 1, "it was asked just now"
    core.clock.advance(timedelta(minutes=1))
    assert (await caller(core, token)).role == "editor"
    assert provider.asked.count("/keys") == 2


async def test_a_provider_that_is_down_is_believed_for_a_day(core: RunningCore, provider: Provider) -> None:
    await ada(core)
    await caller(core, provider.token(core.clock.now(), "first"))
    provider.is_down = True
    core.clock.advance(timedelta(hours=2))
    assert (await caller(core, provider.token(core.clock.now(), "first"))).role == "editor"
    core.clock.advance(timedelta(hours=23))
    with refused("UNAUTHENTICATED"):
        await caller(core, provider.token(core.clock.now(), "first"))
    provider.is_down = False
    core.clock.advance(timedelta(minutes=1))
    assert (await caller(core, provider.token(core.clock.now(), "first"))).role == "editor"


async def test_discovery_that_names_another_issuer_is_not_believed(core: RunningCore, provider: Provider) -> None:
    await ada(core)
    provider.issuer_it_says = "https://other.example.com"
    with refused("UNAUTHENTICATED"):
        await caller(core, provider.token(core.clock.now(), "first"))
    assert "/keys" not in provider.asked


async def test_a_provider_is_set_whole_read_and_taken_back(core: RunningCore, provider: Provider) -> None:
    await ada(core)
    token = provider.token(core.clock.now(), "first", upn="ada@example.com", email=None)
    with refused("UNAUTHENTICATED"):
        await caller(core, token)
    async with core.client() as client:
        wanted = {
            "issuer": provider.issuer,
            "audience": AUDIENCE,
            "jwks_uri": f"{provider.receiver.base}/keys",
            "email_claim": "upn",
        }
        await _set(client, **wanted)
        assert (await caller(core, token)).role == "editor"
        read = await client.organization.GetIdentityProvider(pb.GetIdentityProviderRequest())
        assert (read.email_claim, read.jwks_uri) == ("upn", wanted["jwks_uri"])
        with refused("INVALID_ARGUMENT") as told:
            await _set(client, issuer="http://login.example.com", audience="a", jwks_uri="ftp://x", email_claim="?")
        assert [one.field for one in told.error.violations] == [
            f"identity_provider.{name}" for name in ("issuer", "jwks_uri", "email_claim")
        ]
        resource = f"{core.mcp_url}/o/{(await client.organization.GetCaller(WHO)).organization_id}"
        with refused("INVALID_ARGUMENT") as told:
            await _set(client, **{**wanted, "audience": f"{resource}x"})
        assert [one.reason for one in told.error.violations] == ["NOT_YOUR_RESOURCE"]
        await _set(client, **{**wanted, "audience": resource})
        await client.organization.DeleteIdentityProvider(pb.DeleteIdentityProviderRequest())
        with refused("NOT_FOUND"):
            await client.organization.GetIdentityProvider(pb.GetIdentityProviderRequest())
    with refused("UNAUTHENTICATED"):
        await caller(core, token)


async def _set(client: Client, **provider: str) -> None:
    await client.organization.SetIdentityProvider(pb.SetIdentityProviderRequest(identity_provider=provider))
