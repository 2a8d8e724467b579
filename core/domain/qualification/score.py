"""Scoring: from a model and the facts to points, tier and decision, each with its reasons.

The points of all contributions sum exactly to the score. Rules are taken in document order: a rule gives at most its
own most, then at most what its group's cap has left, so that a cap cuts the rules further down. A rule left with no
points is no contribution. What is unknown gives no points; it is listed with the points that depend on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

from core.domain.enrollment import EventFacts
from core.domain.qualification.facts import Fact, LeadFacts
from core.domain.qualification.model import Group, GroupName, Rule, ScoringModel
from core.domain.workflow.variables import event_values

TRUSTED_CONFIDENCE = 0.5
"""Below it, a lead is not judged but asked about when what is missing could lift the decision."""

SHOWN_EVENTS = 3
"""Events that a contribution names, the newest first."""


class Decision(StrEnum):
    """What becomes of a lead."""

    QUALIFIED = "qualified"
    NURTURE = "nurture"
    DISQUALIFIED = "disqualified"
    NEEDS_INFO = "needs_info"


@dataclass(frozen=True, slots=True)
class Contribution:
    """One rule's share of the score."""

    rule_id: str
    group: GroupName
    when: str
    raw_points: int
    """By itself."""
    points: int
    """After the caps of rule and group."""
    inputs: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class MissingFact:
    """A fact that is not known and that rules ask for."""

    path: str
    rule_ids: tuple[str, ...]
    points: int
    """What those rules could give; 0 for one that only a disqualify rule asks for."""


@dataclass(frozen=True, slots=True)
class Score:
    """The result, with its reasons."""

    decision: Decision
    score: int
    fit: int
    engagement: int
    tier: str
    """Empty for a lead that a rule disqualified: its score does not count."""
    contributions: tuple[Contribution, ...]
    disqualifiers: tuple[Contribution, ...]
    """Disqualify rules that hold, without points."""
    missing: tuple[MissingFact, ...]
    """The most points first."""
    confidence: float
    """Share of the reachable points whose inputs are known, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    rule: Rule
    raw: int
    inputs: tuple[Fact, ...]
    missing: tuple[str, ...] = ()

    @property
    def capped(self) -> int:
        return min(self.raw, self.rule.most)

    @property
    def at_stake(self) -> int:
        return self.rule.most - self.capped if self.missing else 0


def score(model: ScoringModel, facts: LeadFacts) -> Score:
    """Return what the model makes of the facts."""
    values = facts.values()
    fit = [_fit(rule, facts, values) for rule in model.fit.rules]
    engagement = [_engagement(rule, facts, values, model) for rule in model.engagement.rules]
    against = [_fit(rule, facts, values) for rule in model.disqualify]
    contributions = (*_contributions(model.fit, fit), *_contributions(model.engagement, engagement))
    fit_points = sum(one.points for one in contributions if one.group == "fit")
    engagement_points = sum(one.points for one in contributions if one.group == "engagement")
    total = fit_points + engagement_points
    confidence = _confidence((model.fit, fit), (model.engagement, engagement))
    disqualifiers = tuple(
        Contribution(one.rule.id, "disqualify", one.rule.text, 0, 0, one.inputs) for one in against if one.raw
    )
    best = _best(model.fit, fit) + _best(model.engagement, engagement)
    return Score(
        decision=Decision.DISQUALIFIED if disqualifiers else _decide(model, total, best, confidence),
        score=total,
        fit=fit_points,
        engagement=engagement_points,
        tier="" if disqualifiers else next(tier.name for tier in model.tiers if total >= tier.start),
        contributions=contributions,
        disqualifiers=disqualifiers,
        missing=_missing([*fit, *engagement, *against]),
        confidence=confidence,
    )


def demand(model: ScoringModel, facts: LeadFacts, result: Score) -> str:
    """Return why a person must agree before this is applied; empty when nobody must.

    A demand that cannot be told for want of facts is made: what guards a decision must not fall silent.
    """
    if model.approval is None:
        return ""
    came_out: Mapping[str, Any] = {
        "score": result.score,
        "fit": result.fit,
        "engagement": result.engagement,
        "tier": result.tier,
        "decision": result.decision.value,
    }
    verdict = model.approval.when.judge({**facts.values(), **came_out})
    if verdict.value is None:
        return f"{model.approval.reason} (asked for to be safe: {', '.join(verdict.missing)} is not known)"
    return model.approval.reason if verdict.value else ""


def _fit(rule: Rule, facts: LeadFacts, values: Mapping[str, Any]) -> _Outcome:
    assert rule.when is not None
    verdict = rule.when.judge(values)
    inputs = tuple(facts.fact(path, value) for path, value in verdict.inputs.items())
    given = rule.points if rule.group == "fit" else 1
    return _Outcome(rule, given if verdict.value else 0, inputs, verdict.missing)


def _engagement(rule: Rule, facts: LeadFacts, values: Mapping[str, Any], model: ScoringModel) -> _Outcome:
    since = facts.as_of - model.window
    inputs: dict[str, Fact] = {}
    missing: list[str] = []
    matching: list[EventFacts] = []
    for event in reversed(facts.events):
        if matching and not rule.each:
            break
        if event.name != rule.event or event.occurred_at <= since or event.received_at > facts.as_of:
            continue
        if rule.when is None:
            matching.append(event)
            continue
        about = {f"event.{name}": value for name, value in event_values(event).items()}
        verdict = rule.when.judge({**values, **about})
        if verdict.value:
            matching.append(event)
            inputs = inputs or {path: facts.fact(path, value, event) for path, value in verdict.inputs.items()}
        elif verdict.value is None:
            # An event is complete: a field it lacks will not turn up. A fact about the contact may.
            missing += [path for path in verdict.missing if not path.startswith("event.")]
    raw = rule.points * (len(matching) if rule.each else min(1, len(matching)))
    if raw >= rule.most:
        missing = []
    seen = [Fact("event.name", event.name, f"event:{event.id}", event.received_at) for event in matching]
    return _Outcome(rule, raw, (*seen[:SHOWN_EVENTS], *inputs.values()), tuple(dict.fromkeys(missing)))


def _contributions(group: Group, outcomes: Iterable[_Outcome]) -> Iterable[Contribution]:
    left = group.cap
    for one in outcomes:
        points = min(one.capped, left)
        left -= points
        if points:
            yield Contribution(one.rule.id, one.rule.group, one.rule.text, one.raw, points, one.inputs)


def _best(group: Group, outcomes: Sequence[_Outcome]) -> int:
    """Return the points the group gives if every missing fact turns out well."""
    return min(group.cap, sum(one.capped + one.at_stake for one in outcomes))


def _confidence(*groups: tuple[Group, Sequence[_Outcome]]) -> float:
    """Weigh each group's share of known points by the points the group can give."""
    known = Fraction(0)
    reachable = sum(group.reachable for group, _ in groups)
    for group, outcomes in groups:
        if most := sum(one.rule.most for one in outcomes):
            unknown = sum(one.at_stake for one in outcomes)
            known += Fraction(group.reachable * (most - unknown), most)
    return float(known / reachable) if reachable else 1.0


def _decide(model: ScoringModel, total: int, best: int, confidence: float) -> Decision:
    judged = _judged(model, total)
    if judged is not _judged(model, best) and confidence < TRUSTED_CONFIDENCE:
        return Decision.NEEDS_INFO
    return judged


def _judged(model: ScoringModel, total: int) -> Decision:
    if total >= model.qualified_at:
        return Decision.QUALIFIED
    return Decision.NURTURE if total >= model.nurture_at else Decision.DISQUALIFIED


def _missing(outcomes: Iterable[_Outcome]) -> tuple[MissingFact, ...]:
    asking: dict[str, list[_Outcome]] = {}
    for one in outcomes:
        for path in one.missing:
            asking.setdefault(path, []).append(one)
    found = [
        MissingFact(path, tuple(one.rule.id for one in by), sum(one.at_stake for one in by))
        for path, by in asking.items()
    ]
    return tuple(sorted(found, key=lambda missing: (-missing.points, missing.path)))
