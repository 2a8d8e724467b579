"""Handlers of ApprovalService: policies, and what they would say of a call."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import json_format
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from sqlalchemy import Row

from core.domain.control import policy as rules
from core.domain.control.approval_rule import Rule
from core.domain.control.policy import Effect, Policy, Verdict
from core.domain.errors import Invalid, NotFound, PermissionDenied, ScopeMissing, Violation, invalid
from core.domain.nearest import did_you_mean
from core.rpc.admission import narrowing, permission, policy_facts
from core.rpc.approvals import approval_messages
from core.rpc.call import Call, Caller
from core.rpc.convert import to_timestamp
from core.rpc.methods import Method, table
from core.store.control import policies as store
from core.store.organizations import api_keys, members
from dripstone.v1 import policy_pb2 as pb

_EFFECTS = {effect: pb.PolicyEffect.Value(f"POLICY_EFFECT_{effect.name}") for effect in Effect}


async def put_policy(request: pb.PutPolicyRequest, call: Call) -> pb.Policy:
    """Create a policy or make it new; it is checked whole before it is in force."""
    policy = _read(request.policy, "policy")
    await _check_members(call, policy.rule)
    return _message(await store.put(call.tx, policy, request.policy.etag))


async def get_policy(request: pb.GetPolicyRequest, call: Call) -> pb.Policy:
    """Return one policy."""
    row = await store.get(call.tx, request.policy_id)
    if row is None:
        raise NotFound(kind="policy", id=request.policy_id)
    return _message(row)


async def list_policies(request: pb.ListPoliciesRequest, call: Call) -> pb.ListPoliciesResponse:
    """Return a page of policies in the order in which they are asked."""
    rows, token = await store.listed(call.tx, request.page_size, request.page_token)
    return pb.ListPoliciesResponse(policies=[_message(row) for row in rows], next_page_token=token)


async def delete_policy(request: pb.DeletePolicyRequest, call: Call) -> Empty:
    """Delete a policy."""
    if not await store.remove(call.tx, request.policy_id):
        raise NotFound(kind="policy", id=request.policy_id)
    return Empty()


async def explain_policy(request: pb.ExplainPolicyRequest, call: Call) -> pb.PolicyVerdict:
    """Return what the policies in force, or a draft alone, say of a call."""
    method = _method(request.method)
    asked = _parsed(request, method)
    caller = call.caller
    if request.principal_id and request.principal_id != caller.principal_id:
        caller = await _principal(call, request.principal_id)
    drafted = request.HasField("policy")
    if drafted and call.caller.limits.hidden_fields:
        raise PermissionDenied(
            principal=call.caller.display_name, why="a draft could look at fields that are hidden from its key"
        )
    policies = (_read(request.policy, "policy"),) if drafted else await store.in_force(call.tx)
    if not permission.concerns(method):
        return _verdict(Verdict(Effect.ALLOW, reason="This method only reads, and no policy is asked of it."))
    await narrowing.judge(call.tx, method, asked, call.caller)  # it tells of what the request names
    wanted = rules.reads(policies, method.name)
    if "diff" in wanted and "records:read" not in call.caller.scopes:
        raise ScopeMissing(scope="records:read", method="an explanation that looks at what records hold")
    facts = await policy_facts.facts(call.tx, caller, method.name, asked, wanted, call)
    return _verdict(rules.judge(policies, method.name, facts))


def _read(given: pb.Policy, path: str) -> Policy:
    """Return the policy of a message. Raises Invalid with everything that is wrong."""
    effect = next(effect for effect, number in _EFFECTS.items() if number == given.effect)
    rule, wrong = approval_messages.read_rule(given.approval, f"{path}.approval")
    if effect is not Effect.NEEDS_APPROVAL and given.HasField("approval"):
        hint = "Leave it out, or let the policy answer POLICY_EFFECT_NEEDS_APPROVAL."
        wrong = [Violation(f"{path}.approval", "CONFLICT", "matters only where an approval is needed", hint)]
    policy = Policy(
        id=given.id,
        description=given.description,
        effect=effect,
        methods=tuple(dict.fromkeys(given.methods)),
        condition=given.when.strip(),
        rule=rule,
        priority=given.priority,
        enabled=given.enabled,
    )
    problems = [*rules.problems(policy, _writing_methods(), path), *wrong]
    if problems:
        raise Invalid(*problems)
    return policy


async def _check_members(call: Call, rule: Rule) -> None:
    """Check that those who are named are there."""
    named = {"member_ids": rule.member_ids, "escalate_to_member_ids": rule.escalate_to}
    hint = "ListMembers tells who is there."
    there = await members.active_by_id(call.tx, {one for some in named.values() for one in some})
    wrong = [
        Violation(f"policy.approval.{key}[{index}]", "UNKNOWN_MEMBER", f"there is no member {one[:60]}", hint)
        for key, some in named.items()
        for index, one in enumerate(some)
        if one not in there
    ]
    if wrong:
        raise Invalid(*wrong)


@cache
def _methods() -> dict[str, Method]:
    return {method.name: method for method in table()}


@cache
def _writing_methods() -> tuple[str, ...]:
    return tuple(sorted(name for name, method in _methods().items() if permission.concerns(method)))


def _method(name: str) -> Method:
    found = _methods().get(name)
    if found is None:
        hint = did_you_mean(name, sorted(_methods()), "Write such as RecordService.UpdateRecord.")
        raise invalid("method", "UNKNOWN_METHOD", f"there is no method {name[:80]}", hint)
    return found


def _parsed(request: pb.ExplainPolicyRequest, method: Method) -> Message:
    """Return the request of the call that is asked about. Raises Invalid."""
    given = json_format.MessageToDict(request.request)
    try:
        return json_format.ParseDict(given, method.request_class())
    except json_format.ParseError as error:
        hint = f"Write the fields of {method.descriptor.input_type.name} as JSON."
        raise invalid("request", "NOT_A_REQUEST", str(error)[:300], hint) from error


async def _principal(call: Call, principal_id: str) -> Caller:
    """Return another principal as it would call: with the scopes of all its keys that work."""
    member = await members.get_active(call.tx, principal_id)
    keys = await api_keys.of_principal(call.tx, principal_id)
    if member is None and not keys:
        raise NotFound(kind="principal", id=principal_id)
    return Caller(
        org_id=call.caller.org_id,
        principal_id=principal_id,
        principal_kind="member" if member is not None else keys[0].principal_kind,
        display_name=member.display_name if member is not None else keys[0].display_name,
        scopes=frozenset(scope for key in keys for scope in key.scopes),
        role=member.role if member is not None else "",
    )


def _verdict(verdict: Verdict) -> pb.PolicyVerdict:
    return pb.PolicyVerdict(
        effect=_EFFECTS[verdict.effect],
        policy_id=verdict.policy.id if verdict.policy is not None else "",
        reason=verdict.reason,
        asked_policies=verdict.asked,
    )


def _message(row: Row[Any]) -> pb.Policy:
    policy = store.to_domain(row)
    return pb.Policy(
        id=policy.id,
        description=policy.description,
        priority=policy.priority,
        methods=policy.methods,
        when=policy.condition,
        effect=_EFFECTS[policy.effect],
        approval=approval_messages.rule_message(policy.rule) if policy.effect is Effect.NEEDS_APPROVAL else None,
        enabled=policy.enabled,
        etag=str(row.rev),
        update_time=to_timestamp(row.updated_at),
    )
