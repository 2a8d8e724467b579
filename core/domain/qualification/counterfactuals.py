"""What would have to be otherwise: the smallest change of one fact that moves a lead's tier or decision.

Candidates come from what the rules compare facts with; each is tried by scoring again, so what is told is so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from core.domain.enrollment import EventFacts
from core.domain.frozen import frozen
from core.domain.qualification import environments
from core.domain.qualification.facts import LeadFacts, Origin
from core.domain.qualification.literals import around, asked, kind_of
from core.domain.qualification.model import Rule, ScoringModel
from core.domain.qualification.score import Decision, Outcomes, Score, judge, weigh
from core.domain.records import changes as field_changes
from core.domain.records.changes import Change

MOST_TOLD = 20
MOST_TRIED = 400
"""Changes that are tried for one lead."""
MOST_FURTHER_EVENTS = 10


@frozen
class Counterfactual:
    """A change of one fact, and where it leads."""

    path: str
    """A fact such as `contact.employees`, or `event:demo.requested` for how often that happened."""
    value: Any
    would_be: Any
    rule_id: str
    """The first rule that then comes to something else."""
    score: int
    tier: str
    decision: Decision


@frozen
class _Change:
    path: str
    value: Any
    would_be: Any
    facts: LeadFacts


def counterfactuals(model: ScoringModel, facts: LeadFacts) -> tuple[Counterfactual, ...]:
    """Return the smallest change of each fact by which the lead comes to another tier or decision, the best first."""
    known = weigh(model, facts)
    now = judge(model, known)
    found: dict[tuple[str, str, Decision], Counterfactual] = {}
    for number, change in enumerate(_changes(model, facts)):
        if number >= MOST_TRIED:
            break
        after = weigh(model, change.facts, known, change.path)
        result = judge(model, after)
        key = (change.path, result.tier, result.decision)
        if not _moved(now, result) or key in found:  # those of one fact come in order of size
            continue
        found[key] = Counterfactual(
            change.path,
            change.value,
            change.would_be,
            _responsible(known, after),
            result.score,
            result.tier,
            result.decision,
        )
    ordered = sorted(found.values(), key=lambda one: (-one.score, one.path, one.tier, one.decision))
    return tuple(ordered[:MOST_TOLD])


def changed(facts: LeadFacts, path: str, value: Any) -> LeadFacts:
    """Return the facts with one of them otherwise, observed at the instant that is asked about."""
    name, _, field = path.partition(".")
    record = facts.contact if name == "contact" else facts.lead
    record = replace(record, fields=field_changes.apply(record.fields, [Change(field, None, value)]))
    origins = {**facts.origins, path: Origin("", facts.as_of)}
    if name == "contact":
        return replace(facts, contact=record, origins=origins)
    return replace(facts, lead=record, origins=origins)


def with_further(facts: LeadFacts, name: str, count: int) -> LeadFacts:
    """Return the facts with so many further events of a name, which happened at the instant that is asked about."""
    at = facts.as_of
    further = tuple(EventFacts(f"evt_further_{number}", name, "action", {}, at, at) for number in range(count))
    return replace(facts, events=(*facts.events, *further))


def _moved(now: Score, result: Score) -> bool:
    return (now.tier, now.decision) != (result.tier, result.decision)


def _responsible(before: Outcomes, after: Outcomes) -> str:
    pairs = zip(
        (*before.against, *before.fit, *before.engagement), (*after.against, *after.fit, *after.engagement), strict=True
    )
    return next((new.rule.id for old, new in pairs if old.raw != new.raw or old.decayed != new.decayed), "")


def _changes(model: ScoringModel, facts: LeadFacts) -> Iterator[_Change]:
    kinds = environments.of_facts(model.own).variables
    compared: dict[str, list[Any]] = {}
    for rule in model.rules:
        for one in asked(rule.when.tree)[0] if rule.when is not None else ():
            compared.setdefault(one.path, []).append(one.value)
    for path, values in sorted(compared.items()):
        name, _, field = path.partition(".")
        if name not in ("contact", "lead") or field == "id":
            continue
        now = field_changes.value_at((facts.contact if name == "contact" else facts.lead).fields, field)
        for value in sorted(around(values, kind_of(path, kinds)), key=lambda one: _distance(now, one)):
            if (type(value), value) != (type(now), now):
                yield _Change(path, now, value, changed(facts, path, value))
    for event, rules in sorted(_countable(model).items()):
        yield from _further(event, rules, facts)


def _further(event: str, rules: list[Rule], facts: LeadFacts) -> Iterator[_Change]:
    since = facts.as_of - max(rule.window for rule in rules)
    there = sum(
        one.name == event and since < one.occurred_at <= facts.as_of and one.received_at <= facts.as_of
        for one in facts.events
    )
    most = max(max(rule.at_least, -(-rule.most // rule.points)) for rule in rules)
    for count in range(1, min(most, MOST_FURTHER_EVENTS) + 1):
        yield _Change(f"event:{event}", there, there + count, with_further(facts, event, count))


def _countable(model: ScoringModel) -> dict[str, list[Rule]]:
    """Return the rules that any event of their name satisfies, by that name."""
    found: dict[str, list[Rule]] = {}
    for rule in model.engagement.rules:
        if rule.when is None or not any(path.startswith("event.") for path in rule.when.paths):
            found.setdefault(rule.event, []).append(rule)
    return found


def _distance(now: Any, value: Any) -> tuple[int, float]:
    """Return how far a value is from what is known; numbers by their difference, all others alike."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return (1, 0.0)
    known = isinstance(now, int | float) and not isinstance(now, bool)
    return (0, abs(value - now) if known else abs(float(value)))
