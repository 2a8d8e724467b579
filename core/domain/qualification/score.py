"""Scoring: from a model and the facts to points, tier and decision, each with its reasons.

The points of all contributions sum exactly to the score. Rules are taken in document order: a rule gives at most its
own most, then at most what its group's cap has left, so that a cap cuts the rules further down. A rule left with no
points is no contribution. What is unknown gives no points; it is listed with the points that depend on it.

Points that fade with age are summed exactly and rounded once, before any cap; from there on everything is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from operator import attrgetter
from typing import Any, Literal

from core.domain.enrollment import EventFacts
from core.domain.frozen import frozen
from core.domain.qualification.decay import remaining
from core.domain.qualification.facts import Fact, LeadFacts
from core.domain.qualification.model import Group, GroupName, Rule, ScoringModel
from core.domain.workflow.variables import event_values

TRUSTED_CONFIDENCE = 0.5
"""Below it, a lead is not judged but asked about when what is missing could lift the decision."""

SHOWN_EVENTS = 3
"""Events that a contribution names, the newest first."""


CappedBy = Literal["", "rule", "group", "total"]

_HAPPENED = attrgetter("occurred_at", "id")


class Decision(StrEnum):
    """What becomes of a lead."""

    QUALIFIED = "qualified"
    NURTURE = "nurture"
    DISQUALIFIED = "disqualified"
    NEEDS_INFO = "needs_info"


@frozen
class Contribution:
    """One rule's share of the score."""

    rule_id: str
    group: GroupName
    when: str
    raw_points: int
    """By itself."""
    points: int
    """After the caps of rule, group and model."""
    inputs: tuple[Fact, ...]
    decayed_points: int = 0
    """After fading with age, before any cap."""
    capped_by: CappedBy = ""
    """The last cap that took points."""


@frozen
class MissingFact:
    """A fact that is not known and that rules ask for."""

    path: str
    rule_ids: tuple[str, ...]
    points: int
    """What those rules could give; 0 for one that only a disqualify rule asks for."""


@frozen
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
    """Share of the reachable points whose inputs are known and fresh, 0 to 1."""


@frozen
class Outcome:
    """What one rule came to, before any cap."""

    rule: Rule
    raw: int
    decayed: int
    inputs: tuple[Fact, ...]
    missing: tuple[str, ...] = ()

    @property
    def capped(self) -> int:
        """Return its points after its own cap."""
        return min(self.decayed, self.rule.most)

    @property
    def at_stake(self) -> int:
        """Return the points it could still give if what is missing turned out well."""
        return self.rule.most - self.capped if self.missing else 0

    @property
    def unsure(self) -> int:
        """Return the points whose inputs are not known, or too old to be relied upon."""
        return self.rule.most if any(fact.stale for fact in self.inputs) else self.at_stake


@frozen
class Outcomes:
    """What every rule came to."""

    fit: tuple[Outcome, ...]
    engagement: tuple[Outcome, ...]
    against: tuple[Outcome, ...]


def score(model: ScoringModel, facts: LeadFacts) -> Score:
    """Return what the model makes of the facts."""
    return judge(model, weigh(model, facts))


def weigh(model: ScoringModel, facts: LeadFacts, known: Outcomes | None = None, changed: str = "") -> Outcomes:
    """Return what every rule comes to.

    With `known`, rules that do not look at the changed path, or count the changed event, keep what they came to.
    """
    values = facts.values(model.own)
    events = _by_name(facts)
    before = known or Outcomes((), (), ())

    def outcomes(rules: Sequence[Rule], earlier: Sequence[Outcome]) -> tuple[Outcome, ...]:
        return tuple(
            earlier[index]
            if earlier and not _concerns(rule, changed)
            else _engagement(rule, facts, values, model, events.get(rule.event, ()))
            if rule.event
            else _fit(rule, facts, values, model)
            for index, rule in enumerate(rules)
        )

    return Outcomes(
        outcomes(model.fit.rules, before.fit),
        outcomes(model.engagement.rules, before.engagement),
        outcomes(model.disqualify, before.against),
    )


def _concerns(rule: Rule, changed: str) -> bool:
    return rule.event == changed.removeprefix("event:") or (rule.when is not None and changed in rule.when.paths)


def judge(model: ScoringModel, outcomes: Outcomes) -> Score:
    """Return points, tier and decision of what the rules came to."""
    contributions = _contributions(model, outcomes)
    fit_points = sum(one.points for one in contributions if one.group == "fit")
    engagement_points = sum(one.points for one in contributions if one.group == "engagement")
    confidence = _confidence((model.fit, outcomes.fit), (model.engagement, outcomes.engagement))
    disqualifiers = tuple(
        Contribution(one.rule.id, "disqualify", one.rule.text, 0, 0, one.inputs) for one in outcomes.against if one.raw
    )
    return Score(
        decision=Decision.DISQUALIFIED
        if disqualifiers
        else _decide(model, outcomes, (fit_points, engagement_points), confidence),
        score=fit_points + engagement_points,
        fit=fit_points,
        engagement=engagement_points,
        tier="" if disqualifiers else model.tier(fit_points, engagement_points),
        contributions=contributions,
        disqualifiers=disqualifiers,
        missing=_missing([*outcomes.fit, *outcomes.engagement, *outcomes.against]),
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
    verdict = model.approval.when.judge({**facts.values(model.own), **came_out})
    if verdict.value is None:
        return f"{model.approval.reason} (asked for to be safe: {', '.join(verdict.missing)} is not known)"
    return model.approval.reason if verdict.value else ""


def _by_name(facts: LeadFacts) -> Mapping[str, Sequence[EventFacts]]:
    """Return what had happened and was heard of, by name, the newest first."""
    heard = [one for one in facts.events if one.received_at <= facts.as_of and one.occurred_at <= facts.as_of]
    found: dict[str, list[EventFacts]] = {}
    for event in sorted(heard, key=_HAPPENED, reverse=True):
        found.setdefault(event.name, []).append(event)
    return found


def _fit(rule: Rule, facts: LeadFacts, values: Mapping[str, Any], model: ScoringModel) -> Outcome:
    assert rule.when is not None
    verdict = rule.when.judge(values)
    inputs = tuple(facts.fact(path, value, None, model.freshness) for path, value in verdict.inputs.items())
    if not verdict.value:
        return Outcome(rule, 0, 0, inputs, verdict.missing)
    raw = rule.points if rule.group == "fit" else 1
    if rule.half_life is None:
        return Outcome(rule, raw, raw, inputs)
    ages = [facts.as_of - fact.observed_at for fact in inputs if fact.observed_at is not None]
    return Outcome(rule, raw, remaining(raw, [max(ages)], rule.half_life) if ages else raw, inputs)


def _engagement(
    rule: Rule, facts: LeadFacts, values: Mapping[str, Any], model: ScoringModel, events: Sequence[EventFacts]
) -> Outcome:
    since = facts.as_of - rule.window
    inputs: dict[str, Fact] = {}
    missing: list[str] = []
    matching: list[EventFacts] = []
    for event in events:
        if event.occurred_at <= since or (len(matching) >= rule.at_least and not rule.each):
            break
        if rule.when is None:
            matching.append(event)
            continue
        about = {f"event.{name}": value for name, value in event_values(event).items()}
        verdict = rule.when.judge({**values, **about})
        if verdict.value:
            matching.append(event)
            inputs = inputs or {
                path: facts.fact(path, value, event, model.freshness) for path, value in verdict.inputs.items()
            }
        elif verdict.value is None:
            # An event is complete: a field it lacks will not turn up. A fact about the contact may.
            missing += [path for path in verdict.missing if not path.startswith("event.")]
    counted = _counted(rule, matching)
    raw = rule.points * len(counted)
    decayed = remaining(rule.points, [facts.as_of - event.occurred_at for event in counted], rule.half_life)
    if decayed >= rule.most:
        missing = []  # nothing that turns out would add to it
    seen = [Fact("event.name", event.name, f"event:{event.id}", event.received_at) for event in matching]
    return Outcome(rule, raw, decayed, (*seen[:SHOWN_EVENTS], *inputs.values()), tuple(dict.fromkeys(missing)))


def _counted(rule: Rule, matching: Sequence[EventFacts]) -> Sequence[EventFacts]:
    """Return the events that give points, each once: all, the newest, or none where there are too few."""
    if rule.each:
        return matching
    return matching[:1] if len(matching) >= rule.at_least else ()


def _contributions(model: ScoringModel, outcomes: Outcomes) -> tuple[Contribution, ...]:
    found: list[Contribution] = []
    left = model.reachable
    for group, some in ((model.fit, outcomes.fit), (model.engagement, outcomes.engagement)):
        left_of_group = group.cap
        for one in some:
            capped_by: CappedBy = "rule" if one.capped < one.decayed else ""
            points = one.capped
            if points > left_of_group:
                points, capped_by = left_of_group, "group"
            if points > left:
                points, capped_by = left, "total"
            left_of_group -= points
            left -= points
            if points:
                rule = one.rule
                found.append(
                    Contribution(rule.id, rule.group, rule.text, one.raw, points, one.inputs, one.decayed, capped_by)
                )
    return tuple(found)


def _confidence(*groups: tuple[Group, Sequence[Outcome]]) -> float:
    """Weigh each group's share of points that are known by the points the group can give."""
    known = Fraction(0)
    reachable = sum(group.reachable for group, _ in groups)
    for group, outcomes in groups:
        if most := sum(one.rule.most for one in outcomes):
            unsure = sum(one.unsure for one in outcomes)
            known += Fraction(group.reachable * (most - unsure), most)
    return float(known / reachable) if reachable else 1.0


def _decide(model: ScoringModel, outcomes: Outcomes, points: tuple[int, int], confidence: float) -> Decision:
    judged = model.judge(*points)
    if confidence < TRUSTED_CONFIDENCE and judged != model.judge(*_best(model, outcomes)):
        return Decision.NEEDS_INFO
    return Decision(judged)


def _best(model: ScoringModel, outcomes: Outcomes) -> tuple[int, int]:
    """Return the points for fit and engagement if every missing fact turns out well."""
    fit = min(model.fit.cap, sum(one.capped + one.at_stake for one in outcomes.fit))
    engagement = min(model.engagement.cap, sum(one.capped + one.at_stake for one in outcomes.engagement))
    return fit, min(engagement, max(0, model.reachable - fit))


def _missing(outcomes: Iterable[Outcome]) -> tuple[MissingFact, ...]:
    asking: dict[str, list[Outcome]] = {}
    for one in outcomes:
        for path in one.missing:
            asking.setdefault(path, []).append(one)
    found = [
        MissingFact(path, tuple(one.rule.id for one in by), sum(one.at_stake for one in by))
        for path, by in asking.items()
    ]
    return tuple(sorted(found, key=lambda missing: (-missing.points, missing.path)))
