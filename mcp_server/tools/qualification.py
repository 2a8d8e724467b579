"""What `qualify-lead` asks and answers: the decision, its exact reasons, its plan and who must agree."""

from __future__ import annotations

from typing import Any, Literal

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, Field

from dripstone.v1 import qualification_pb2
from dripstone.v1.qualification_pb2 import Contribution, Decision, QualifyLeadRequest, QualifyLeadResponse
from mcp_server.tool import WriteAnswer, committing, lines, new_key
from mcp_server.values import clip, compact, from_value, instant, invocation, to_struct, word

SHOWN = 12
"""Reasons that one answer lists, the heaviest first; the points of the rest are summed."""


class Reason(BaseModel):
    """A rule that holds, and on which facts."""

    rule_id: str
    when: str = ""
    inputs: list[str] = Field(default_factory=list, description="path = value (source)")

    @property
    def why(self) -> str:
        """Return the facts, or the condition where it names none."""
        return "; ".join(self.inputs) or self.when


class Contributed(Reason):
    """A rule that gave points."""

    group: str
    points: int
    raw_points: int = Field(default=0, description="before caps, where they cut")


class Missing(BaseModel):
    """A fact that is not known."""

    fact: str
    points_at_stake: int


class PlannedChange(BaseModel):
    """A field that a commit sets, or set."""

    record_id: str
    field: str
    old: Any
    new: Any


class Owner(BaseModel):
    """Who should own the lead."""

    member_id: str = ""
    display_name: str = ""
    method: str = ""
    skipped: list[str] = Field(default_factory=list)


class Qualification(WriteAnswer):
    """The decision and why."""

    lead_id: str
    contact_id: str
    email: str = Field(default="", description="as given; a preview of an unknown one names no records")
    decision: str
    pending_decision: str = Field(default="", description="what applies once approved")
    score: int
    fit: int
    engagement: int
    tier: str = ""
    confidence: float = 0
    contributions: list[Contributed] = Field(default_factory=list, description="their points sum to the score")
    disqualifiers: list[Reason] = Field(default_factory=list, description="rules that hold against the lead")
    missing: list[Missing] = Field(default_factory=list)
    owner: Owner = Field(default_factory=Owner)
    changes: list[PlannedChange] = Field(default_factory=list)
    applied: bool = False
    plan_id: str = ""
    plan_expires: str = ""
    approval_id: str = ""
    approval_reason: str = ""
    model: str = ""

    def text(self) -> str:
        """Return decision, reasons, gaps, owner and changes."""
        after = f", {self.pending_decision} once approved" if self.pending_decision else ""
        what = f"{self.lead_id or self.contact_id or self.email} is {self.decision}{after}, tier {self.tier or '-'}"
        score = f"score {self.score} = fit {self.fit} + engagement {self.engagement}; confidence {self.confidence:.2f}"
        against = [f"disqualified by {r.rule_id}: {r.why}" for r in self.disqualifiers]
        reasons = [f"{r.points:+d} {r.rule_id} ({r.group}): {r.why}" for r in self.contributions]
        missing = [f"? {m.fact} not known, {m.points_at_stake} points at stake" for m in self.missing]
        who = self.owner
        why = "; ".join((who.method, *who.skipped))
        owner = f"owner {who.display_name} {who.member_id} ({why})" if who.member_id else ""
        changes = [f"- {c.record_id} {c.field}: {compact(c.old)} -> {compact(c.new)}" for c in self.changes]
        approval = (
            f"approval {self.approval_id}: {self.approval_reason}".replace(" :", ":") if self.approval_reason else ""
        )
        plan = f"plan {self.plan_id} until {self.plan_expires}" if self.plan_id and not self.applied else ""
        withheld = self.mode == "commit" and not self.applied
        heading = f"NOT APPLIED: {what}" if withheld else self.heading(what, what)
        return lines(heading, score, *against, *reasons, *missing, owner, *changes, approval, plan)


def request(
    lead_id: str,
    email: str,
    fields: dict[str, Any],
    model_id: str,
    plan_id: str,
    as_of: Timestamp | None,
    mode: Literal["preview", "commit"],
    idempotency_key: str,
) -> QualifyLeadRequest:
    """Return the request for the arguments of the tool."""
    return QualifyLeadRequest(
        lead_id=lead_id,
        email=email,
        fields=to_struct(fields) if fields else None,
        model_id=model_id,
        plan_id=plan_id if mode == "commit" else "",
        as_of=as_of,
        mode=qualification_pb2.QUALIFY_MODE_COMMIT if mode == "commit" else qualification_pb2.QUALIFY_MODE_PREVIEW,
        request_id=committing(mode, idempotency_key),
    )


def answer(
    found: QualifyLeadResponse, mode: Literal["preview", "commit"], replayed: bool, email: str = ""
) -> Qualification:
    """Return the answer as the tool shows it."""
    owner = found.owner
    return Qualification(
        mode=mode,
        replayed=replayed,
        lead_id=found.lead_id,
        contact_id=found.contact_id,
        email=email,
        decision=_decision(found.decision),
        pending_decision=_decision(found.pending_decision),
        score=found.score,
        fit=found.fit,
        engagement=found.engagement,
        tier=found.tier,
        confidence=round(found.confidence, 4),
        contributions=_contributions(list(found.contributions)),
        disqualifiers=[Reason(**_said(one)) for one in found.disqualifiers[:SHOWN]],
        missing=[Missing(fact=one.path, points_at_stake=one.points_at_stake) for one in found.missing[:8]],
        owner=Owner(
            member_id=owner.member_id,
            display_name=owner.display_name,
            method=owner.method,
            skipped=[f"{one.member_id} skipped: {one.reason}" for one in owner.skipped[:3]],
        ),
        changes=[
            PlannedChange(
                record_id=one.record_id,
                field=one.field,
                old=clip(from_value(one.old_value)),
                new=clip(from_value(one.new_value)),
            )
            for one in found.planned_changes[:20]
        ],
        applied=found.applied,
        plan_id=found.plan_id,
        plan_expires=instant(found.plan_expire_time),
        approval_id=found.approval_id,
        approval_reason=clip(found.approval_reason, 300),
        model=f"{found.model_id} v{found.model_version}",
        next=_next(found, email),
    )


def _decision(decision: Decision.ValueType) -> str:
    return word(Decision.Name(decision), "DECISION_") if decision else ""


def _contributions(contributions: list[Contribution]) -> list[Contributed]:
    heaviest = sorted(contributions, key=lambda one: -abs(one.points))
    reasons = [
        Contributed(
            group=one.group,
            points=one.points,
            raw_points=one.raw_points if one.raw_points != one.points else 0,
            **_said(one),
        )
        for one in heaviest[:SHOWN]
    ]
    if rest := heaviest[SHOWN:]:
        reasons.append(Contributed(rule_id=f"{len(rest)} more rules", group="", points=sum(one.points for one in rest)))
    return reasons


def _said(one: Contribution) -> dict[str, Any]:
    """Return the fields of a `Reason`."""
    inputs = [
        f"{fact.path} = {compact(clip(from_value(fact.value), 80))}"
        + (f" ({clip(fact.source, 40)})" if fact.source else "")
        for fact in one.inputs[:3]
    ]
    return {"rule_id": one.rule_id, "when": clip(one.when, 120), "inputs": inputs}


def _next(found: QualifyLeadResponse, email: str) -> str:
    commit = invocation(
        "qualify-lead",
        lead_id=found.lead_id,
        plan_id=found.plan_id,
        mode="commit",
        idempotency_key=new_key("qualify"),
    )
    if found.applied:
        if found.decision in (Decision.DECISION_QUALIFIED, Decision.DECISION_NURTURE):
            return f"{invocation('list-workflows')} to choose the workflow, then enroll contact {found.contact_id}"
        return "Tell the person; do not enroll."
    if found.approval_id:
        return (
            f"Tell the person that somebody else must decide approval {found.approval_id}, and wait; "
            f"once approved: {commit}"
        )
    if found.decision == Decision.DECISION_NEEDS_APPROVAL:
        return f"Tell the person that this needs an approval by somebody else; to ask for it: {commit}"
    if found.decision == Decision.DECISION_NEEDS_INFO:
        how = "set them with update-record" if found.contact_id else "give them in fields"
        return f"Ask the person for the missing facts, {how}, then preview again."
    about = {"lead_id": found.lead_id} if found.lead_id else {"email": email}
    return commit if found.plan_id else invocation("qualify-lead", **about, mode="preview")
