"""What `qualify-lead` asks and answers: the decision, its exact reasons, its plan and who must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ConfigDict, Field

from dripstone.v1 import qualification_pb2
from dripstone.v1.qualification_pb2 import (
    Contribution,
    Counterfactual,
    Decision,
    QualifyLeadRequest,
    QualifyLeadResponse,
)
from mcp_server.tool import WriteAnswer, lines
from mcp_server.values import (
    clip,
    commit_of,
    compact,
    etag_of,
    from_value,
    instant,
    invocation,
    to_struct,
    to_value,
    word,
)

SHOWN = 12
"""Reasons that one answer lists, the heaviest first; the points of the rest are summed."""


class Claim(BaseModel):
    """Something found out about the lead."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[str, Field(max_length=100, description="such as contact.job_title")]
    value: Annotated[str | int | float | bool | list[str], Field(description="what you found")]
    source: Annotated[str, Field(max_length=500, description="such as a URL")]
    confidence: Annotated[float, Field(ge=0, le=1)]


class Turning(BaseModel):
    """A smallest change of one fact that moves tier or decision."""

    fact: str
    now: Any = None
    would_be: Any
    tier: str = ""
    decision: str = ""
    score: int = 0


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
    counterfactuals: list[Turning] = Field(default_factory=list, description="single facts that would move it")
    claims_used: list[str] = Field(default_factory=list)
    claims_ignored: list[str] = Field(default_factory=list, description="a known fact stands, or too unsure")
    effects: list[str] = Field(default_factory=list, description="what a commit does beside setting fields")
    owner: Owner = Field(default_factory=Owner)
    changes: list[PlannedChange] = Field(default_factory=list)
    applied: bool = False
    plan_id: str = ""
    plan_expires: str = ""
    approval_id: str = ""
    approval_reason: str = ""
    model: str = ""

    def why_approval(self) -> str:
        """Return why somebody else must approve the commit; empty where nobody must."""
        return self.approval_reason

    def text(self) -> str:
        """Return decision, reasons, gaps, owner and changes."""
        after = f", {self.pending_decision} once approved" if self.pending_decision else ""
        what = f"{self.lead_id or self.contact_id or self.email} is {self.decision}{after}, tier {self.tier or '-'}"
        score = f"score {self.score} = fit {self.fit} + engagement {self.engagement}; confidence {self.confidence:.2f}"
        against = [f"disqualified by {r.rule_id}: {r.why}" for r in self.disqualifiers]
        reasons = [f"{r.points:+d} {r.rule_id} ({r.group}): {r.why}" for r in self.contributions]
        missing = [f"? {m.fact} not known, {m.points_at_stake} points at stake" for m in self.missing]
        turns = [
            f"~ {t.fact} {compact(t.now)} -> {compact(t.would_be)} would make it {t.decision}, tier {t.tier or '-'}"
            for t in self.counterfactuals
        ]
        used = f"claims that counted: {', '.join(self.claims_used)}" if self.claims_used else ""
        ignored = f"claims that did not: {', '.join(self.claims_ignored)}" if self.claims_ignored else ""
        effects = [f"* {effect}" for effect in self.effects]
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
        why_not = (*against, *reasons, *missing, *turns, used, ignored)
        return lines(heading, score, *why_not, owner, *changes, *effects, approval, plan)


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of the tool."""

    lead_id: str
    email: str
    fields: dict[str, Any]
    model_id: str
    plan_id: str
    as_of: Timestamp | None
    evidence: list[Claim]
    if_version: str
    mode: Literal["preview", "commit"]
    key: str

    def request(self) -> QualifyLeadRequest:
        """Return the request for them."""
        commit = self.mode == "commit"
        return QualifyLeadRequest(
            lead_id=self.lead_id,
            email=self.email,
            fields=to_struct(self.fields) if self.fields else None,
            model_id=self.model_id,
            plan_id=self.plan_id if commit else "",
            as_of=self.as_of,
            evidence=[
                qualification_pb2.Evidence(
                    path=one.path, value=to_value(one.value), source=one.source, confidence=one.confidence
                )
                for one in self.evidence
            ],
            etag=etag_of(self.if_version),
            mode=qualification_pb2.QUALIFY_MODE_COMMIT if commit else qualification_pb2.QUALIFY_MODE_PREVIEW,
            request_id=self.key,
        )


def answer(
    found: QualifyLeadResponse, mode: Literal["preview", "commit"], replayed: bool, email: str = "", key: str = ""
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
        counterfactuals=[_turning(one) for one in found.counterfactuals[:5]],
        claims_used=[clip(one.path, 80) for one in found.used_claims[:10]],
        claims_ignored=[clip(one.path, 80) for one in found.ignored_claims[:10]],
        effects=[clip(f"{one.kind} {one.subject_id}: {one.summary}", 160) for one in found.planned_effects[:8]],
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
        idempotency_key=key,
        undo=found.cause if found.applied else "",
        next=_next(found, email),
    )


def _decision(decision: Decision.ValueType) -> str:
    return word(Decision.Name(decision), "DECISION_") if decision else ""


def _turning(one: Counterfactual) -> Turning:
    return Turning(
        fact=one.path,
        now=clip(from_value(one.value), 60),
        would_be=clip(from_value(one.would_be), 60),
        tier=one.tier,
        decision=_decision(one.decision),
        score=one.score,
    )


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
    commit = commit_of("qualify-lead", lead_id=found.lead_id, plan_id=found.plan_id)
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
