"""Approvals as the contract has them: rules in and out, votes, and whether the caller may decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from core.domain.control import approval as rules
from core.domain.control import approval_rule
from core.domain.control import policy as policy_rules
from core.domain.control.approval import Approval, ApprovalState, Electors, Party
from core.domain.control.approval_rule import Mode, OnTimeout, Rule
from core.domain.errors import Violation
from core.domain.workflow import durations
from core.rpc.admission import policy_facts
from core.rpc.call import Call
from core.rpc.changes import etag_of
from core.rpc.convert import to_duration, to_struct, to_timestamp
from core.store.control import approval_votes, electors
from core.store.control import approvals as store
from dripstone.v1 import approval_pb2 as pb
from dripstone.v1 import organization_pb2, policy_pb2

DECIDE = "ApprovalService.DecideApproval"

STATES = {state: pb.ApprovalState.Value(f"APPROVAL_STATE_{state.name}") for state in ApprovalState}
_MODES = {mode: policy_pb2.ApprovalMode.Value(f"APPROVAL_MODE_{mode.name}") for mode in Mode}
_TIMEOUTS = {one: policy_pb2.OnTimeout.Value(f"ON_TIMEOUT_{one.name}") for one in OnTimeout}
_ROLES = {role: organization_pb2.Role.Value(f"ROLE_{role.upper()}") for role in approval_rule.ROLES}
_DECISIONS = {"approve": pb.APPROVAL_DECISION_APPROVE, "reject": pb.APPROVAL_DECISION_REJECT}


async def messages(call: Call, rows: Sequence[Row[Any]]) -> list[pb.Approval]:
    """Return approvals as the caller sees them."""
    said = await approval_votes.of(call.tx, [row.id for row in rows])
    pending = [row for row in rows if row.state == ApprovalState.PENDING]
    known = await electors.parties(call.tx, {row.requester_id for row in pending})
    decider = await party(call) if pending else Party(call.caller.principal_id)
    trusted = await _trusted(call, [row.id for row in pending])
    found = []
    for row in rows:
        votes = said[row.id]
        approval = store.to_domain(row, votes)
        asked: Electors = await electors.of(call.tx, approval) if row in pending else None
        message = _message(row, approval, votes)
        if row in pending:
            message.approvals_missing = rules.missing(approval, asked)
            may = replace(decider, trusted=row.id in trusted)
            message.caller_may_decide = _may_decide(call, approval, may, known[row.requester_id], asked)
            message.caller_may_decide_unasked = message.caller_may_decide and may.trusted
        found.append(message)
    return found


async def message(call: Call, row: Row[Any]) -> pb.Approval:
    """Return one approval as the caller sees it."""
    (only,) = await messages(call, [row])
    return only


def _may_decide(call: Call, approval: Approval, decider: Party, requester: Party, asked: Electors) -> bool:
    if "approvals:decide" not in call.caller.scopes or rules.is_overdue(approval, call.now):
        return False
    return not rules.may_decide(approval, decider, requester, asked, call.now)


async def party(call: Call, approval_id: str = "") -> Party:
    """Return the caller with those behind it, and whether it is trusted with an approval.

    Its kind is that of the key it calls with.
    """
    caller = call.caller
    found = await electors.calling(call.tx, caller.principal_id, caller.principal_kind, caller.key_id)
    return replace(found, trusted=approval_id in await _trusted(call, [approval_id])) if approval_id else found


async def _trusted(call: Call, approval_ids: Sequence[str]) -> frozenset[str]:
    """Return those of approvals that a policy lets the caller decide without a person being asked."""
    policies = (await call.parts.rulebook.of(call.parts.database, call.tx)).policies if approval_ids else ()
    if not any(policy.looks_at(DECIDE) for policy in policies):
        return frozenset()
    wanted = policy_rules.reads(policies, DECIDE)
    found = set()
    for approval_id in approval_ids:
        request = pb.DecideApprovalRequest(approval_id=approval_id)
        facts = await policy_facts.facts(call.tx, call.caller, DECIDE, request, wanted, call)
        if policy_rules.grants(policies, DECIDE, facts):
            found.add(approval_id)
    return frozenset(found)


def _message(row: Row[Any], approval: Approval, votes: Sequence[Row[Any]]) -> pb.Approval:
    return pb.Approval(
        id=row.id,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        title=row.title,
        details=to_struct(row.details),
        subject_hash=row.subject_hash,
        state=STATES[approval.state],
        requester_id=row.requester_id,
        decider_id=row.decider_id,
        comment=row.comment,
        create_time=to_timestamp(row.created_at),
        decide_time=to_timestamp(row.decided_at),
        expire_time=to_timestamp(row.expires_at),
        rule=rule_message(approval.rule),
        votes=[_vote(one) for one in votes],
        delegate_ids=sorted(set(row.delegations.values())),
        escalate_time=to_timestamp(row.escalated_at),
        policy_id=row.policy_id,
        etag=etag(row, votes),
    )


def etag(row: Row[Any], votes: Sequence[Row[Any]]) -> str:
    """Return the version of an approval: what was said of it."""
    return etag_of(row.subject_hash, row.state, [(one.principal_id, one.decision) for one in votes])


def _vote(row: Row[Any]) -> pb.ApprovalVote:
    return pb.ApprovalVote(
        principal_id=row.principal_id,
        decision=_DECISIONS.get(row.decision, pb.APPROVAL_DECISION_UNSPECIFIED),
        comment=row.comment,
        on_behalf_of=row.on_behalf_of,
        create_time=to_timestamp(row.created_at),
    )


def rule_message(rule: Rule) -> policy_pb2.ApprovalRule:
    """Return a rule as the contract has it."""
    return policy_pb2.ApprovalRule(
        mode=_MODES[rule.mode],
        required_count=rule.required_count if rule.mode is Mode.QUORUM else 0,
        roles=[_ROLES[role] for role in rule.roles],
        member_ids=rule.member_ids,
        sla=to_duration(rule.sla.total_seconds()),
        on_timeout=_TIMEOUTS[rule.on_timeout],
        escalate_to_member_ids=rule.escalate_to,
    )


def read_rule(given: policy_pb2.ApprovalRule, path: str) -> tuple[Rule, list[Violation]]:
    """Return the rule of a message, and everything that is wrong with it."""
    problems: list[Violation] = []
    roles = tuple(role for role, number in _ROLES.items() if number in given.roles)
    sla = given.sla.ToTimedelta() if given.HasField("sla") else approval_rule.USUAL_SLA
    if not approval_rule.SHORTEST_SLA <= sla <= approval_rule.LONGEST_SLA:
        told = f"{durations.speak(sla)} is no time to decide" if sla > timedelta(0) else "this is no time to decide"
        hint = f"Give from 1 minute to {approval_rule.LONGEST_SLA.days} days."
        problems.append(Violation(f"{path}.sla", "OUT_OF_RANGE", told, hint))
        sla = approval_rule.USUAL_SLA
    rule = Rule(
        next((mode for mode, number in _MODES.items() if number == given.mode), Mode.ANY),
        given.required_count or 1,
        roles,
        tuple(dict.fromkeys(given.member_ids)),
        sla,
        next((one for one, number in _TIMEOUTS.items() if number == given.on_timeout), OnTimeout.FAIL),
        tuple(dict.fromkeys(given.escalate_to_member_ids)),
    )
    return rule, [*problems, *approval_rule.problems(rule, given.required_count, path)]
