"""What tests of people, keys and projects share: calls that are refused, and keys made for one purpose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from core.domain.control.scopes import ALL_SCOPES
from dripstone.v1 import organization_pb2 as pb
from dripstone.v1.client import ApiError, Client


@contextmanager
def refused(reason: str) -> Iterator[SimpleNamespace]:
    """Expect a call to be refused for a reason; what was told is in `.error` afterwards."""
    told = SimpleNamespace(error=None)
    with pytest.raises(grpc.RpcError) as raised:
        yield told
    told.error = ApiError.of(raised.value)
    assert told.error.reason == reason, told.error


async def new_member(client: Client, name: str, role: pb.Role.ValueType = pb.ROLE_ADMIN) -> pb.Member:
    """Add a person."""
    request = pb.CreateMemberRequest(email=f"{name}@example.com", display_name=name.title(), role=role)
    return await client.organization.CreateMember(request)


async def new_key(client: Client, scopes: Any = ALL_SCOPES, **more: Any) -> pb.CreateApiKeyResponse:
    """Mint a service's key, or what `more` says."""
    fields = {"display_name": "Key", "principal_kind": pb.PRINCIPAL_KIND_SERVICE, "scopes": sorted(scopes), **more}
    return await client.organization.CreateApiKey(pb.CreateApiKeyRequest(**fields))


async def member_key(client: Client, member: pb.Member, scopes: Any) -> str:
    """Mint a member's key and return its secret."""
    made = await new_key(client, scopes, principal_kind=pb.PRINCIPAL_KIND_MEMBER, member_id=member.id)
    return made.secret
