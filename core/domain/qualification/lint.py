"""What is doubtful about a scoring model that compiles: rules, caps, tiers and thresholds that can never matter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.qualification import environments
from core.domain.qualification.literals import outcomes
from core.domain.qualification.model import Group, Rule, ScoringModel, Tier
from core.domain.qualification.parse import compiled
from core.domain.workflow import own_kinds, source
from core.domain.workflow.own_kinds import OwnKinds


def warnings(text: str, known_events: Collection[str] = (), own: OwnKinds = own_kinds.NONE) -> tuple[Violation, ...]:
    """Return the doubts about a document that compiles.

    `known_events` are names of events that came in, if any did; `own` the kinds of own fields.
    """
    model = compiled(text, own)
    document = source.parse(text)
    return (
        *_rules(model),
        *_events(model, known_events),
        *_caps(model, document),
        *_tiers(model),
        *_thresholds(model, document),
        *_freshness(model),
    )


def _placed(model: ScoringModel) -> Iterator[tuple[str, Rule]]:
    """Yield every rule with its place in the document."""
    for path, rules in (
        ("disqualify", model.disqualify),
        ("fit.rules", model.fit.rules),
        ("engagement.rules", model.engagement.rules),
    ):
        for index, rule in enumerate(rules):
            yield f"{path}[{index}]", rule


def _rules(model: ScoringModel) -> Iterator[Violation]:
    seen: dict[tuple[str, str, str], str] = {}
    for path, rule in _placed(model):
        if rule.when is None:
            continue
        known = environments.of_events(model.own) if rule.event else environments.of_facts(model.own)
        possible = outcomes(rule.when, known.variables)
        if possible is not None and True not in possible:
            hint = "Look for comparisons that exclude each other."
            yield Violation(f"{path}.when", "NEVER_MATCHES", "this can never hold", hint)
        elif possible == frozenset((True,)) and rule.group == "disqualify":
            hint = "Give it a condition that some meet."
            yield Violation(f"{path}.when", "ALWAYS_MATCHES", "this disqualifies every lead", hint)
        key = (rule.group, rule.event, rule.when.text.strip())
        if key in seen:
            hint = "Join them, or change one."
            yield Violation(path, "SAME_CONDITION", f"{seen[key]} has the same condition", hint)
        seen.setdefault(key, path)


def _events(model: ScoringModel, known: Collection[str]) -> Iterator[Violation]:
    for path, rule in _placed(model):
        if rule.event and known and rule.event not in known:
            message = f"no event {rule.event} has come in of late"
            hint = did_you_mean(rule.event, known, "It counts once such events come in.")
            yield Violation(f"{path}.event", "UNKNOWN_EVENT", message, hint)


def _caps(model: ScoringModel, document: Mapping[str, Any]) -> Iterator[Violation]:
    for name, group in (("fit", model.fit), ("engagement", model.engagement)):
        raw = document.get(name)
        if not isinstance(raw, Mapping) or raw.get("cap") is None:
            continue
        most = sum(rule.most for rule in group.rules)
        if group.rules and group.cap > most:
            yield _unreached(f"{name}.cap", group.cap, most)
        yield from _above_group(name, group)
    if model.cap is not None and model.cap > model.reachable:
        yield _unreached("cap", model.cap, model.reachable)


def _unreached(path: str, cap: int, most: int) -> Violation:
    message = f"is never reached: the rules give {most} points at most"
    return Violation(path, "CAP_NEVER_REACHED", message, f"Give it {most} or less instead of {cap}, or leave it out.")


def _above_group(name: str, group: Group) -> Iterator[Violation]:
    for index, rule in enumerate(group.rules):
        if rule.most > group.cap:
            message = f"could give {rule.most} points, and its group gives {group.cap} at most"
            key = "max_points" if rule.each else "points"
            yield Violation(f"{name}.rules[{index}].{key}", "ABOVE_GROUP_CAP", message, "Lower it, or raise the cap.")


def _tiers(model: ScoringModel) -> Iterator[Violation]:
    if model.matrix is None:
        yield from _unreachable(model.tiers, "tiers", model.reachable)
        return
    yield from _unreachable(model.matrix.fit, "tiers.fit", model.fit.reachable)
    yield from _unreachable(model.matrix.engagement, "tiers.engagement", model.engagement.reachable)


def _unreachable(grades: tuple[Tier, ...], path: str, most: int) -> Iterator[Violation]:
    for index, grade in enumerate(grades):
        if grade.start > most:
            message = f"nobody reaches {grade.name}: the rules give {most} points at most"
            hint = "Let it begin lower, or raise points and caps."
            yield Violation(f"{path}[{index}].from", "UNREACHABLE_TIER", message, hint)


def _thresholds(model: ScoringModel, document: Mapping[str, Any]) -> Iterator[Violation]:
    if model.qualified_tiers:
        return
    if document.get("nurture_at") is not None and model.nurture_at == model.qualified_at:
        message = "is the same as qualified_at: nobody is nurtured"
        yield Violation("nurture_at", "NOBODY_NURTURED", message, "Lower it, or leave it out to nurture all others.")
    if model.tiers and model.tiers[0].start < model.nurture_at:
        message = f"a lead of the best tier ({model.tiers[0].name}) can be disqualified for its score"
        hint = "Lower nurture_at, or let the tier begin higher."
        yield Violation("nurture_at", "CONTRADICTING_THRESHOLDS", message, hint)
    for above, lowest in list(pairwise(model.tiers))[-1:]:
        if model.qualified_at < above.start:
            message = f"a lead of the lowest tier ({lowest.name}) can be qualified"
            hint = f"Give it {above.start} or more, or let the tier {above.name} begin lower."
            yield Violation("qualified_at", "CONTRADICTING_THRESHOLDS", message, hint)


def _freshness(model: ScoringModel) -> Iterator[Violation]:
    for path in model.freshness.by_path:
        if path not in model.paths:
            hint = did_you_mean(path, model.paths, "Leave it out.")
            yield Violation(f"fresh_for.{path}", "UNREAD_FACT", "no rule looks at this fact", hint)
