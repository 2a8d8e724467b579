"""Handlers of AuditService: what became of a call, and what a person said before it, both by idempotency key."""

from __future__ import annotations

from functools import cache

from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct

from core.domain.errors import KeyLimited, NotFound, ScopeMissing
from core.rpc import methods
from core.rpc.admission import hiding
from core.rpc.call import Call, Caller
from core.rpc.convert import to_struct, to_timestamp
from core.rpc.methods import ANY_KEY, Method
from core.store import idempotency
from core.store.agents.agents import AgentState
from dripstone.v1 import audit_pb2 as pb

OF_OTHERS = "audit:read"
"""The scope that calls of other principals ask for."""


class NothingDone(NotFound):
    """Nothing was done under the idempotency key {id}, or it was longer ago than a week."""

    hint = "Send the call again with the same key: it then acts once, also when the first one is still under way."


async def get_call(request: pb.GetCallRequest, call: Call) -> pb.PastCall:
    """Return what is kept of a call. Raises NotFound, and ScopeMissing for a call of somebody else."""
    whose = request.principal_id or call.caller.principal_id
    if whose != call.caller.principal_id and OF_OTHERS not in call.caller.scopes:
        raise ScopeMissing(scope=OF_OTHERS, method="AuditService.GetCall of others")
    row = await idempotency.find(call.tx, whose, request.key)
    if row is None:
        raise NothingDone(kind="call", id=request.key)
    return pb.PastCall(
        key=row.key,
        principal_id=row.principal_id,
        method=row.method,
        request_hash=row.request_hash,
        create_time=to_timestamp(row.created_at),
        expire_time=to_timestamp(row.created_at + idempotency.KEPT_FOR),
        answer=_answer(row.method, row.reply, call.caller),
        cause=f"call:{row.call_id}",
    )


async def note_answer(request: pb.NoteAnswerRequest, call: Call) -> Empty:
    """Let an answer stand: it is the request that its idempotency key now means, and another one is refused."""
    call.tx.spend("writes", 0)  # the person's, and none that the caller's budget pays for
    return Empty()


def _answer(name: str, reply: bytes | None, caller: Caller) -> Struct | None:
    """Return an answer as its method would show it to the caller today; None where it would show nothing."""
    method = _methods().get(name)
    if method is None or reply is None or not _may(caller, method):
        return None
    try:
        message = hiding.shown(method.response_class.FromString(reply), caller.limits)
    except KeyLimited:
        return None
    return to_struct(json_format.MessageToDict(message, preserving_proto_field_name=True))


def _may(caller: Caller, method: Method) -> bool:
    if method.scope == ANY_KEY:
        return True
    at_work = caller.agent_state in ("", AgentState.ACTIVE)
    return at_work and method.scope in caller.scopes and caller.limits.allow_method(method.name)


@cache
def _methods() -> dict[str, Method]:
    return {method.name: method for method in methods.table()}
