"""Handlers of OrganizationService: people and their roles."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.errors import AlreadyExists, LastAdmin, NotFound, WrongState, invalid
from core.domain.records import values
from core.rpc import changes
from core.rpc.admission import reach
from core.rpc.admission.granting import refuse_role_beyond
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.control import approvals
from core.store.organizations import api_keys, handing_over, organizations
from core.store.organizations import members as store
from core.store.organizations.members import MemberState
from dripstone.v1 import organization_pb2 as pb

_ROLES = {"admin": pb.ROLE_ADMIN, "editor": pb.ROLE_EDITOR, "viewer": pb.ROLE_VIEWER, "approver": pb.ROLE_APPROVER}
_STATES = {MemberState.ACTIVE: pb.MEMBER_STATE_ACTIVE, MemberState.REMOVED: pb.MEMBER_STATE_REMOVED}


async def create_member(request: pb.CreateMemberRequest, call: Call) -> pb.Member:
    """Add a person. Raises AlreadyExists for a second one with the same e-mail."""
    try:
        email = values.email(request.email).lower()
    except values.BadValue as bad:
        raise invalid("email", bad.reason, bad.message, bad.hint) from bad
    role = _role(request.role)
    refuse_role_beyond(call.caller, role)
    row = {
        "id": ids.mint("mem", call.now),
        "email": email,
        "display_name": request.display_name,
        "role": role,
        "created_at": call.now,
    }
    if not await call.tx.insert(store.members, [row], on_conflict="ignore"):
        raise AlreadyExists(kind="member", id=email)
    return _message(await _get(call, str(row["id"])))


async def get_member(request: pb.GetMemberRequest, call: Call) -> pb.Member:
    """Return one person; also one who was removed, for history names them."""
    return _message(await _get(call, request.member_id))


async def list_members(request: pb.ListMembersRequest, call: Call) -> pb.ListMembersResponse:
    """Return a page of the people who are there."""
    rows, token = await store.listed(call.tx, request.page_size, request.page_token)
    return pb.ListMembersResponse(members=[_message(row) for row in rows], next_page_token=token)


async def update_member(request: pb.UpdateMemberRequest, call: Call) -> pb.Member:
    """Change a person's name or role; what their keys may do follows at once.

    Raises LastAdmin when nobody would be an admin any more.
    """
    row = await _held(call, request.member_id, "a change")
    changes.expect("member", row.id, given=request.etag, current=str(row.rev))
    new: dict[str, Any] = {"display_name": request.display_name} if request.display_name else {}
    if request.role and (role := _role(request.role)) != row.role:
        refuse_role_beyond(call.caller, row.role)
        refuse_role_beyond(call.caller, role)
        await _leave_an_admin(call, row)
        new["role"] = role
        call.tx.wake(api_keys.CHANGED)
    return _message(await store.change(call.tx, row.id, **new) if new else row)


async def remove_member(request: pb.RemoveMemberRequest, call: Call) -> pb.Member:
    """Remove a person: keys end with this call, records go to whom the call names, many of them in the minutes after.

    Raises LastAdmin when nobody would be an admin any more.
    """
    row = await _held(call, request.member_id, "removing them")
    refuse_role_beyond(call.caller, row.role)
    successor = request.reassign_to_member_id
    if successor and (successor == row.id or await store.get_active(call.tx, successor) is None):
        message = f"there is no other member {successor}"
        raise invalid("reassign_to_member_id", "NOT_FOUND", message, "Name a member who stays, or leave it out.")
    await _leave_an_admin(call, row)
    await store.change(call.tx, row.id, state=MemberState.REMOVED, removed_at=call.now, successor_id=successor)
    await api_keys.revoke_of_principal(call.tx, row.id)
    await approvals.hand_over(call.tx, row.id, successor)
    await handing_over.hand_over(call.tx, row.id, successor, actor=call.caller.principal_id)
    return _message(await _get(call, row.id))


async def _reach(call: Call, request: pb.RemoveMemberRequest) -> Reach:
    """Count the records that get another owner; who owns none is one by themselves."""
    return Reach(max(1, await handing_over.count(call.tx, request.member_id)))


reach.register("OrganizationService.RemoveMember", _reach)


def _role(number: pb.Role.ValueType) -> str:
    return next(name for name, known in _ROLES.items() if known == number)


async def _get(call: Call, member_id: str) -> Row[Any]:
    row = await store.get(call.tx, member_id)
    if row is None:
        raise NotFound(kind="member", id=member_id)
    return row


async def _held(call: Call, member_id: str, action: str) -> Row[Any]:
    """Return a member who is there; of two changes at once, the second sees what the first did."""
    await organizations.hold(call.tx)
    row = await store.get(call.tx, member_id, lock=True)
    if row is None:
        raise NotFound(kind="member", id=member_id)
    if row.state != MemberState.ACTIVE:
        raise WrongState(kind="member", id=member_id, state=row.state, action=action)
    return row


async def _leave_an_admin(call: Call, row: Row[Any]) -> None:
    if row.role == "admin" and not await store.other_admins(call.tx, row.id):
        raise LastAdmin(member_id=row.id)


def _message(row: Row[Any]) -> pb.Member:
    return pb.Member(
        id=row.id,
        email=row.email,
        display_name=row.display_name,
        role=_ROLES[row.role],
        create_time=to_timestamp(row.created_at),
        state=_STATES[MemberState(row.state)],
        etag=str(row.rev),
        last_seen_time=to_timestamp(row.last_seen_at),
    )
