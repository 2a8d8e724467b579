"""A qualification as the contract has it: the decision with all its reasons."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.qualification.claims import Claim
from core.domain.qualification.counterfactuals import Counterfactual
from core.domain.qualification.facts import Fact
from core.domain.qualification.score import Contribution
from core.rpc.approvals import plan_kinds
from core.rpc.call import Call
from core.rpc.convert import to_timestamp, to_value
from core.rpc.qualification.committing import Outcome
from core.rpc.qualification.qualifying import Person, Qualification
from dripstone.v1 import qualification_pb2 as pb
from dripstone.v1 import routing_pb2

DECISIONS = {name.removeprefix("DECISION_").lower(): number for name, number in pb.Decision.items()}


def response(outcome: Outcome, call: Call, *, dry: bool) -> pb.QualifyLeadResponse:
    """Return the answer; a dry run has applied nothing and kept no plan."""
    qualification = outcome.qualification
    result = qualification.result
    person = qualification.person if dry else outcome.person
    decision = DECISIONS[result.decision.value]
    withheld = bool(qualification.approval_reason) and not outcome.applied
    response = pb.QualifyLeadResponse(
        lead_id=person.lead.id if person.lead else "",
        contact_id=person.contact.id if person.contact else "",
        decision=pb.DECISION_NEEDS_APPROVAL if withheld else decision,
        pending_decision=decision if withheld else pb.DECISION_UNSPECIFIED,
        score=result.score,
        fit=result.fit,
        engagement=result.engagement,
        tier=result.tier,
        contributions=_contributions(result.contributions),
        disqualifiers=_contributions(result.disqualifiers),
        missing=[
            pb.MissingFact(path=one.path, rule_ids=one.rule_ids, points_at_stake=one.points) for one in result.missing
        ],
        confidence=result.confidence,
        owner=_owner(qualification),
        planned_changes=_changes(qualification, person),
        plan_hash=qualification.hash,
        applied=outcome.applied and not dry,
        approval_reason=qualification.approval_reason,
        approval_id="" if dry else outcome.approval_id,
        model_id=qualification.model.id,
        model_version=qualification.model.version,
        counterfactuals=[_counterfactual(one) for one in qualification.counterfactuals],
        planned_effects=_effects(qualification),
        used_claims=[_claim(one) for one in qualification.settled.used],
        ignored_claims=[_claim(one) for one in qualification.settled.ignored],
    )
    if outcome.plan is not None and not dry:
        response.plan_id = outcome.plan.id
        response.plan_expire_time.FromDatetime(outcome.plan.expires_at)
    if response.applied:
        response.cause = plan_kinds.cause(outcome.plan.id) if outcome.plan is not None else call.cause
    return response


def _changes(qualification: Qualification, person: Person) -> list[pb.PlannedChange]:
    made = {
        "contact": person.contact.id if person.contact else "contact",
        "lead": person.lead.id if person.lead else "lead",
    }
    return [
        pb.PlannedChange(
            record_id=made.get(setting.record, setting.record),
            field=change.field,
            old_value=to_value(change.old),
            new_value=to_value(change.new),
        )
        for setting in qualification.settings
        for change in setting.changes
    ]


def _owner(qualification: Qualification) -> pb.OwnerChoice | None:
    choice = qualification.choice
    if choice is None:
        return None
    return pb.OwnerChoice(
        member_id=choice.member_id,
        method=choice.method,
        display_name=choice.display_name,
        skipped=[routing_pb2.OwnerCandidate(member_id=one.member, reason=one.reason) for one in choice.skipped],
    )


def _contributions(contributions: Iterable[Contribution]) -> list[pb.Contribution]:
    return [
        pb.Contribution(
            rule_id=one.rule_id,
            group=one.group,
            when=one.when,
            raw_points=one.raw_points,
            points=one.points,
            inputs=[_fact(fact) for fact in one.inputs],
            decayed_points=one.decayed_points,
            capped_by=one.capped_by,
        )
        for one in contributions
    ]


def _fact(fact: Fact) -> pb.Fact:
    return pb.Fact(
        path=fact.path,
        value=to_value(fact.value),
        source=fact.source,
        observe_time=to_timestamp(fact.observed_at),
        claimed=fact.claimed,
        stale=fact.stale,
    )


def _counterfactual(one: Counterfactual) -> pb.Counterfactual:
    return pb.Counterfactual(
        path=one.path,
        value=to_value(one.value),
        would_be=to_value(one.would_be),
        rule_id=one.rule_id,
        score=one.score,
        tier=one.tier,
        decision=DECISIONS[one.decision.value],
    )


def _claim(one: Claim) -> pb.Evidence:
    return pb.Evidence(
        path=one.path,
        value=to_value(one.value),
        source=one.source,
        observe_time=to_timestamp(one.observed_at),
        confidence=one.confidence,
    )


def _effects(qualification: Qualification) -> list[pb.PlannedEffect]:
    """Return what a commit does beside setting fields, in the order in which it happens."""
    found: list[pb.PlannedEffect] = []
    if qualification.approval_reason:
        summary = f"A person must agree first: {qualification.approval_reason}"
        found.append(pb.PlannedEffect(kind="approval", summary=summary))
    choice, effect = qualification.choice, qualification.effect
    if choice is not None and choice.member_id and choice.method != "kept":
        summary = f"{choice.display_name} becomes the owner ({choice.method.replace('_', ' ')})"
        found.append(pb.PlannedEffect(kind="assign", subject_id=choice.member_id, summary=summary))
    if effect is None:
        return found
    came = f"for the lead comes into tier {qualification.result.tier}"
    if effect.event:
        summary = f"The event {effect.event} is noted about the contact, {came}"
        found.append(pb.PlannedEffect(kind="event", subject_id=effect.event, summary=summary))
    if effect.enroll:
        summary = f"The contact is enrolled in {effect.enroll}, {came}"
        if qualification.obstacle:
            summary = f"The contact cannot be enrolled in {effect.enroll}: {qualification.obstacle}"
        found.append(pb.PlannedEffect(kind="enroll", subject_id=effect.enroll, summary=summary))
    return found
