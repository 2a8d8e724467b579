"""Handlers of OrganizationService: who calls, and the tenant itself."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Row

from core.domain.control import key_limits
from core.domain.control.key_limits import KeyLimits
from core.domain.errors import Invalid, Violation
from core.domain.records import values
from core.rpc import changes
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.organizations import organizations as store
from dripstone.v1 import organization_pb2 as pb

KINDS = {
    "member": pb.PRINCIPAL_KIND_MEMBER,
    "service": pb.PRINCIPAL_KIND_SERVICE,
    "agent": pb.PRINCIPAL_KIND_AGENT,
}
"""Kinds of principals by their names in the store."""

_CURRENCY = re.compile(r"[A-Za-z][A-Za-z0-9 _-]{0,9}")


async def get_caller(request: pb.GetCallerRequest, call: Call) -> pb.Caller:
    """Return who the presented key or token is."""
    caller = call.caller
    return pb.Caller(
        organization_id=caller.org_id,
        organization_name=caller.organization_name,
        principal_id=caller.principal_id,
        principal_kind=KINDS[caller.principal_kind],
        display_name=caller.display_name,
        scopes=sorted(caller.scopes),
        limits=limits_message(caller.limits),
        role=caller.role,
        sign_in="key" if caller.key_id else "openid_connect",
    )


def limits_message(limits: KeyLimits) -> pb.KeyLimits:
    """Return what narrows a key as the contract has it."""
    return pb.KeyLimits(**key_limits.to_json(limits))


async def get_organization(request: pb.GetOrganizationRequest, call: Call) -> pb.Organization:
    """Return the caller's organization."""
    return _message(await store.get(call.tx))


async def update_organization(request: pb.UpdateOrganizationRequest, call: Call) -> pb.Organization:
    """Change what is given; what is empty stays."""
    violations = []
    if request.timezone:
        try:
            values.timezone(request.timezone)
        except values.BadValue as bad:
            violations.append(Violation("timezone", bad.reason, bad.message, bad.hint))
    if request.cost_currency and not _CURRENCY.fullmatch(request.cost_currency):
        message = f"`{request.cost_currency}` is no unit of cost"
        violations.append(Violation("cost_currency", "BAD_UNIT", message, "Use letters, such as EUR or credits."))
    if violations:
        raise Invalid(*violations)
    await store.hold(call.tx)
    row = await store.get(call.tx)
    changes.expect("organization", row.org_id, given=request.etag, current=str(row.rev))
    given = {name: getattr(request, name) for name in ("display_name", "timezone", "cost_currency")}
    new: dict[str, Any] = {name: value for name, value in given.items() if value}
    if request.HasField("require_default_approval_gate"):
        new["require_default_approval_gate"] = request.require_default_approval_gate
    return _message(await store.change(call.tx, new) if new else row)


def _message(row: Row[Any]) -> pb.Organization:
    return pb.Organization(
        id=row.org_id,
        display_name=row.display_name,
        timezone=row.timezone,
        create_time=to_timestamp(row.created_at),
        etag=str(row.rev),
        cost_currency=row.cost_currency,
        require_default_approval_gate=row.require_default_approval_gate,
    )
