"""Handlers of OrganizationService: the tenant, its people, its keys."""

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Row

from core import ids
from core.domain.articles import with_article
from core.domain.control.scopes import check_scopes
from core.domain.errors import AlreadyExists, Invalid, NotFound, PermissionDenied, Violation, invalid
from core.domain.records import values
from core.rpc.call import Call
from core.rpc.convert import from_timestamp, to_timestamp
from core.store import organizations as store
from dripstone.v1 import organization_pb2 as pb

_KINDS = {
    "member": pb.PRINCIPAL_KIND_MEMBER,
    "service": pb.PRINCIPAL_KIND_SERVICE,
    "agent": pb.PRINCIPAL_KIND_AGENT,
}
_ROLES = {"admin": pb.ROLE_ADMIN, "editor": pb.ROLE_EDITOR, "viewer": pb.ROLE_VIEWER, "approver": pb.ROLE_APPROVER}


async def get_caller(request: pb.GetCallerRequest, call: Call) -> pb.Caller:
    """Return who the presented key is."""
    caller = call.caller
    return pb.Caller(
        organization_id=caller.org_id,
        organization_name=caller.organization_name,
        principal_id=caller.principal_id,
        principal_kind=_KINDS[caller.principal_kind],
        display_name=caller.display_name,
        scopes=sorted(caller.scopes),
    )


async def get_organization(request: pb.GetOrganizationRequest, call: Call) -> pb.Organization:
    """Return the caller's organization."""
    row = await store.get(call.tx)
    return pb.Organization(
        id=row.org_id,
        display_name=row.display_name,
        timezone=row.timezone,
        create_time=to_timestamp(row.created_at),
    )


async def create_member(request: pb.CreateMemberRequest, call: Call) -> pb.Member:
    """Add a person. Raises AlreadyExists for a second one with the same e-mail."""
    try:
        email = values.email(request.email).lower()
    except values.BadValue as bad:
        raise invalid("email", bad.reason, bad.message, bad.hint) from bad
    row = {
        "id": ids.mint("mem", call.now),
        "email": email,
        "display_name": request.display_name,
        "role": next(name for name, number in _ROLES.items() if number == request.role),
        "created_at": call.now,
    }
    if not await call.tx.insert(store.members, [row], on_conflict="ignore"):
        raise AlreadyExists(kind="member", id=email)
    member = await store.get_member(call.tx, str(row["id"]))
    assert member is not None
    return _member(member)


async def list_members(request: pb.ListMembersRequest, call: Call) -> pb.ListMembersResponse:
    """Return a page of members."""
    rows, token = await store.list_members(call.tx, request.page_size, request.page_token)
    return pb.ListMembersResponse(members=[_member(row) for row in rows], next_page_token=token)


async def create_api_key(request: pb.CreateApiKeyRequest, call: Call) -> pb.CreateApiKeyResponse:
    """Mint a key with scopes that the caller holds itself."""
    check_scopes(request.scopes)
    if beyond := sorted(set(request.scopes) - call.caller.scopes):
        raise PermissionDenied(principal=call.caller.display_name, why=f"its own key lacks {', '.join(beyond)}")
    kind = next(name for name, number in _KINDS.items() if number == request.principal_kind)
    key_id = ids.mint("key", call.now)
    principal_id = key_id
    if kind == "member":
        if await store.get_member(call.tx, request.member_id) is None:
            raise NotFound(kind="member", id=request.member_id or "(none given)")
        principal_id = request.member_id
    elif request.member_id:
        message = f"{with_article(kind)} key speaks for itself"
        raise Invalid(Violation("member_id", "NOT_ALLOWED", message, "Leave member_id out."))
    expires_at = from_timestamp(request.expire_time) if request.HasField("expire_time") else None
    if expires_at is not None and expires_at <= call.now:
        raise invalid("expire_time", "IN_THE_PAST", "the key would never work", "Give a later instant.")
    secret = ids.new_api_key()
    row = {
        "id": key_id,
        "digest": store.digest(secret),
        "prefix": store.shown_prefix(secret),
        "display_name": request.display_name,
        "principal_kind": kind,
        "principal_id": principal_id,
        "scopes": sorted(set(request.scopes)),
        "created_at": call.now,
        "expires_at": expires_at,
    }
    await call.tx.insert(store.api_keys, [row])
    api_key = pb.ApiKey(
        id=key_id,
        display_name=request.display_name,
        prefix=store.shown_prefix(secret),
        principal_kind=request.principal_kind,
        principal_id=principal_id,
        scopes=sorted(set(request.scopes)),
        create_time=to_timestamp(call.now),
        expire_time=to_timestamp(expires_at),
    )
    return pb.CreateApiKeyResponse(api_key=api_key, secret=secret)


async def list_api_keys(request: pb.ListApiKeysRequest, call: Call) -> pb.ListApiKeysResponse:
    """Return a page of keys without their secrets."""
    rows, token = await store.list_keys(call.tx, request.page_size, request.page_token)
    return pb.ListApiKeysResponse(api_keys=[_api_key(row) for row in rows], next_page_token=token)


async def revoke_api_key(request: pb.RevokeApiKeyRequest, call: Call) -> Empty:
    """Revoke a key; other processes notice within 30 seconds."""
    if not await store.revoke_key(call.tx, request.api_key_id, call.now):
        raise NotFound(kind="api key", id=request.api_key_id)
    return Empty()


def _member(row: Row[Any]) -> pb.Member:
    return pb.Member(
        id=row.id,
        email=row.email,
        display_name=row.display_name,
        role=_ROLES[row.role],
        create_time=to_timestamp(row.created_at),
    )


def _api_key(row: Row[Any]) -> pb.ApiKey:
    return pb.ApiKey(
        id=row.id,
        display_name=row.display_name,
        prefix=row.prefix,
        principal_kind=_KINDS[row.principal_kind],
        principal_id=row.principal_id,
        scopes=row.scopes,
        create_time=to_timestamp(row.created_at),
        expire_time=to_timestamp(row.expires_at),
        revoke_time=to_timestamp(row.revoked_at),
        last_use_time=to_timestamp(row.last_used_at),
    )
