"""Handlers of OrganizationService: the keys of programs, agents and people."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Row

from core import ids
from core.domain.articles import with_article
from core.domain.control import key_limits
from core.domain.control.key_limits import KeyLimits
from core.domain.control.scopes import check_scopes, role_scopes
from core.domain.errors import Invalid, NotFound, PermissionDenied, Violation, WrongState, invalid
from core.rpc import changes
from core.rpc.admission.granting import refuse_beyond
from core.rpc.admission.limits_in import limits_in
from core.rpc.call import Call
from core.rpc.convert import from_timestamp, to_timestamp
from core.rpc.organizations.organizations import KINDS, limits_message
from core.store.agents import agent_templates, agents
from core.store.agents.agents import AgentState
from core.store.organizations import api_keys as store
from core.store.organizations import members
from dripstone.v1 import organization_pb2 as pb

DEFAULT_GRACE = timedelta(hours=24)
LONGEST_GRACE = timedelta(days=7)
_CHANGEABLE = ("display_name", "expire_time", "scopes", "limits")


async def create_api_key(request: pb.CreateApiKeyRequest, call: Call) -> pb.CreateApiKeyResponse:
    """Mint a key that may do no more than the caller."""
    check_scopes(request.scopes)
    kind = _kind_name(request.principal_kind)
    limits = await limits_in(request.limits, call)
    if request.agent_id:
        if kind != "agent":
            message = f"{with_article(kind)} key speaks for no agent"
            raise Invalid(Violation("agent_id", "NOT_ALLOWED", message, "Leave it out, or mint an agent's key."))
        limits = await _within_template(limits, request.limits, request.agent_id, call, "limits")
    refuse_beyond(call.caller, request.scopes, limits)
    key_id = ids.mint("key", call.now)
    expires_at = from_timestamp(request.expire_time) if request.HasField("expire_time") else None
    if expires_at is not None and expires_at <= call.now:
        raise invalid("expire_time", "IN_THE_PAST", "the key would never work", "Give a later instant.")
    principal_id = await _speaks_for(request, kind, call) or key_id
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
        "limits": key_limits.to_json(limits) or None,
        "agent_id": request.agent_id,
        "created_by": call.caller.principal_id,
        "known_by": await _who_learns(call),
    }
    await call.tx.insert(store.api_keys, [row])
    return pb.CreateApiKeyResponse(api_key=_message(await _get(call, key_id)), secret=secret)


async def list_api_keys(request: pb.ListApiKeysRequest, call: Call) -> pb.ListApiKeysResponse:
    """Return a page of keys without their secrets."""
    rows, token = await store.listed(call.tx, request.page_size, request.page_token)
    return pb.ListApiKeysResponse(api_keys=[_message(row) for row in rows], next_page_token=token)


async def revoke_api_key(request: pb.RevokeApiKeyRequest, call: Call) -> Empty:
    """Revoke a key: at once here, within 30 seconds on every process that hears nothing of it."""
    if not await store.revoke(call.tx, request.api_key_id):
        raise NotFound(kind="api key", id=request.api_key_id)
    return Empty()


async def update_api_key(request: pb.UpdateApiKeyRequest, call: Call) -> pb.ApiKey:
    """Change what the mask names; the key before and after may do no more than the caller."""
    fields = changes.masked(request.update_mask.paths, _CHANGEABLE) or [
        name for name in _CHANGEABLE if _is_set(request.api_key, name)
    ]
    row = await _working(call, request.api_key_id, "a change")
    changes.expect("api key", row.id, given=request.etag or request.api_key.etag, current=str(row.rev))
    new = _plain(request.api_key, fields, call)
    if "scopes" in fields:
        check_scopes(request.api_key.scopes, "api_key.scopes")
        new["scopes"] = sorted(set(request.api_key.scopes))
    if "limits" in fields:
        limits = await limits_in(request.api_key.limits, call, "api_key.limits")
        if row.agent_id:
            limits = await _within_template(limits, request.api_key.limits, row.agent_id, call, "api_key.limits")
        new["limits"] = key_limits.to_json(limits) or None
    if set(fields) - {"display_name"}:
        refuse_beyond(call.caller, row.scopes, key_limits.from_json(row.limits))
        wanted = key_limits.from_json(new.get("limits", row.limits))
        refuse_beyond(call.caller, new.get("scopes", row.scopes), wanted, "api_key.limits")
    if "scopes" in new and row.principal_kind == "member":
        await _within_role(row.principal_id, new["scopes"], call)
    return _message(await store.change(call.tx, row.id, **new) if new else row)


async def rotate_api_key(request: pb.RotateApiKeyRequest, call: Call) -> pb.CreateApiKeyResponse:
    """Give a key a new secret, which the caller learns; so the key may do no more than the caller."""
    grace = request.grace.ToTimedelta() if request.HasField("grace") else DEFAULT_GRACE
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        message = "a grace is from 0 seconds to 7 days"
        raise invalid("grace", "OUT_OF_RANGE", message, "Leave it out for 24 hours, or send 0s to end the old one now.")
    row = await _working(call, request.api_key_id, "a rotation")
    refuse_beyond(call.caller, row.scopes, key_limits.from_json(row.limits))
    secret = ids.new_api_key()
    row = await store.change(
        call.tx,
        row.id,
        digest=store.digest(secret),
        prefix=store.shown_prefix(secret),
        known_by=sorted({*(row.known_by or ()), *await _who_learns(call)}),
        previous_digest=row.digest if grace else None,
        previous_expires_at=call.now + grace if grace else None,
    )
    return pb.CreateApiKeyResponse(api_key=_message(row), secret=secret)


async def _who_learns(call: Call) -> list[str]:
    """Return who learns a secret that the caller is told: the caller, and whoever can act by the key it calls with."""
    return sorted({call.caller.principal_id, *await store.known_by(call.tx, call.caller.key_id)})


def _kind_name(number: pb.PrincipalKind.ValueType) -> str:
    return next(name for name, known in KINDS.items() if known == number)


async def _speaks_for(request: pb.CreateApiKeyRequest, kind: str, call: Call) -> str:
    """Return the member that a key speaks for; empty for a key that speaks for itself."""
    if kind != "member":
        if request.member_id:
            message = f"{with_article(kind)} key speaks for itself"
            raise Invalid(Violation("member_id", "NOT_ALLOWED", message, "Leave member_id out."))
        return ""
    await _within_role(request.member_id, request.scopes, call)
    return request.member_id


async def _within_role(member_id: str, scopes: Collection[str], call: Call) -> None:
    """Refuse scopes that a member's role does not have. Raises NotFound and PermissionDenied."""
    member = await members.get_active(call.tx, member_id)
    if member is None:
        raise NotFound(kind="member", id=member_id or "(none given)")
    if more := sorted(set(scopes) - role_scopes(member.role)):
        raise PermissionDenied(
            principal=member.display_name, why=f"the role {member.role} does not have {', '.join(more)}"
        )


async def _within_template(limits: KeyLimits, given: pb.KeyLimits, agent_id: str, call: Call, path: str) -> KeyLimits:
    """Return the limits of a key that speaks for an agent: never more methods than the agent's template allows.

    Raises NotFound, WrongState for an agent that is over, and Invalid for methods beyond the template.
    """
    agent = await agents.get_agent(call.tx, agent_id, at_work=True)
    if agent is None:
        raise NotFound(kind="agent", id=agent_id)
    if agent.state in (AgentState.STOPPED, AgentState.REJECTED):
        raise WrongState(kind="agent", id=agent.id, state=agent.state, action="keys that speak for it")
    row = await agent_templates.get(call.tx, agent.template_id, agent.template_version) if agent.template_id else None
    allowed = frozenset(row.content.get("allowed_methods", ())) if row is not None else frozenset()
    if not allowed:
        return limits
    beyond = [
        Violation(
            f"{path}.methods[{index}]",
            "BEYOND_TEMPLATE",
            f"the template {agent.template_id} does not allow {method}",
            "Leave it out, or put a new version of the template and deploy an agent from it.",
        )
        for index, method in enumerate(given.methods)
        if method not in allowed
    ]
    if beyond:
        raise Invalid(*beyond)
    return limits if limits.methods else replace(limits, methods=allowed)


def _is_set(api_key: pb.ApiKey, name: str) -> bool:
    if name in ("expire_time", "limits"):
        return api_key.HasField(name)  # type: ignore[arg-type]
    return bool(getattr(api_key, name))


def _plain(wanted: pb.ApiKey, fields: Collection[str], call: Call) -> dict[str, Any]:
    """Return the new name and the new end. Raises Invalid."""
    new: dict[str, Any] = {}
    violations = []
    if "display_name" in fields:
        new["display_name"] = wanted.display_name
        if not 1 <= len(wanted.display_name) <= 200:
            message = "a name has 1 to 200 characters"
            violations.append(Violation("api_key.display_name", "BAD_NAME", message, "Send another one."))
    if "expire_time" in fields:
        ends = from_timestamp(wanted.expire_time) if wanted.HasField("expire_time") else None
        new["expires_at"] = ends
        if ends is not None and ends <= call.now:
            message = "the key would stop working at once"
            violations.append(Violation("api_key.expire_time", "IN_THE_PAST", message, "Revoke it, if that is meant."))
    if violations:
        raise Invalid(*violations)
    return new


async def _get(call: Call, key_id: str, *, lock: bool = False) -> Row[Any]:
    row = await store.get(call.tx, key_id, lock=lock)
    if row is None:
        raise NotFound(kind="api key", id=key_id)
    return row


async def _working(call: Call, key_id: str, action: str) -> Row[Any]:
    """Return a key that still works, held. Raises NotFound, and WrongState for one that is revoked or over."""
    row = await _get(call, key_id, lock=True)
    over = row.expires_at is not None and row.expires_at <= call.now
    if row.revoked_at is not None or over:
        state = "revoked" if row.revoked_at is not None else "expired"
        raise WrongState(kind="api key", id=key_id, state=state, action=action)
    return row


def _message(row: Row[Any]) -> pb.ApiKey:
    return pb.ApiKey(
        id=row.id,
        display_name=row.display_name,
        prefix=row.prefix,
        principal_kind=KINDS[row.principal_kind],
        principal_id=row.principal_id,
        scopes=row.scopes,
        create_time=to_timestamp(row.created_at),
        expire_time=to_timestamp(row.expires_at),
        revoke_time=to_timestamp(row.revoked_at),
        last_use_time=to_timestamp(row.last_used_at),
        limits=limits_message(key_limits.from_json(row.limits)) if row.limits else None,
        etag=str(row.rev),
        previous_secret_expire_time=to_timestamp(row.previous_expires_at),
        agent_id=row.agent_id,
    )
