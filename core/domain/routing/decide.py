"""Deciding who gets a lead: the first rule that has somebody who can take it; a reason for everybody passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from core.domain.frozen import frozen
from core.domain.routing import turns as turning
from core.domain.routing.document import CATCH_ALL, Routing, Rule, Sla
from core.domain.routing.sight import Person, Sight
from core.domain.routing.turns import Turns
from core.domain.workflow.calendar import add_open
from core.domain.workflow.zones import Zone

MOST_SKIPPED = 200
"""People passed over who are told of; those of the first rules first."""
OWNERS = frozenset({"admin", "editor", "approver"})
"""Roles that may own leads: a viewer changes nothing."""

_MATCHED = {
    "company_owner": "the company",
    "opportunity_owner": "the company's open opportunity",
    "domain_owner": "another contact of the same domain",
}


@frozen
class Passed:
    """Somebody who was passed over."""

    member: str
    """The member's id, or what the document calls somebody who is no member."""
    reason: str


@frozen
class Decision:
    """Who gets the lead."""

    person: Person | None
    """None when nobody can take it."""
    rule: Rule | None
    method: str
    """The rule's method, or `catch_all`; empty when nobody can take it."""
    passed: tuple[Passed, ...]
    skipped_rules: tuple[str, ...]
    """Rules that did not match or had nobody, as `id: reason`."""
    turns: Turns | None = None
    """The rule's turns after this one."""


@frozen
class _Asked:
    """Who a rule may choose among, in its order, with their weights."""

    people: Mapping[str, tuple[Person, int]]
    strangers: tuple[str, ...] = ()
    """Names in the document that are nobody's."""
    nobody: str = ""
    """Why there is nobody to choose among."""


def decide(routing: Routing, sight: Sight) -> Decision:
    """Return who gets a lead; the same sight always gives the same decision."""
    passed: list[Passed] = []
    skipped: list[str] = []
    for rule in routing.rules:
        if rule.id in sight.unmet:
            skipped.append(f"{rule.id}: {sight.unmet[rule.id]}")
            continue
        asked = _asked(rule, sight)
        passed += [Passed(name, "is not a member of the organization") for name in asked.strangers]
        able = []
        for person, _ in asked.people.values():
            why = refusal(rule, person, sight)
            if why:
                passed.append(Passed(person.id, why))
            else:
                able.append(person)
        if not able:
            skipped.append(f"{rule.id}: {asked.nobody or 'nobody it names can take a lead now'}")
            continue
        before = sight.turns.get(rule.id, Turns())
        weights = {member: weight for member, (_, weight) in asked.people.items()}
        chosen = _choose(rule, able, weights, before)
        after = turning.served(chosen.id, weights, [person.id for person in able], before)
        method = CATCH_ALL if rule.is_catch_all else rule.method
        return Decision(chosen, rule, method, _told(passed), tuple(skipped), after)
    return Decision(None, None, "", _told(passed), tuple(skipped))


def asked(routing: Routing, sight: Sight, decision: Decision) -> frozenset[str]:
    """Return whom the rules looked at until one had somebody: the others play no part in the decision."""
    found: set[str] = set()
    for rule in routing.rules:
        if rule.id not in sight.unmet:
            found |= _asked(rule, sight).people.keys()
        if rule is decision.rule:
            break
    return frozenset(found)


def _told(passed: Sequence[Passed]) -> tuple[Passed, ...]:
    """Return everybody passed over, once for each reason."""
    return tuple(dict.fromkeys(passed))[:MOST_SKIPPED]


def _choose(rule: Rule, able: Sequence[Person], weights: Mapping[str, int], turns: Turns) -> Person:
    by_id = {person.id: person for person in able}
    match rule.method:
        case "account_match":
            return able[0]
        case "weighted":
            return by_id[turning.most_owed({member: weights[member] for member in by_id}, turns)]
        case "capacity":
            most = max(_emptiness(person) for person in able)
            by_id = {person.id: person for person in able if _emptiness(person) == most}
    return by_id[turning.longest_ago(list(by_id), turns)]


def _emptiness(person: Person) -> tuple[float, int]:
    """Return how much room somebody has; of those without a limit, who has fewer open leads has more."""
    return (float("inf") if person.room is None else person.room, -person.open)


def _asked(rule: Rule, sight: Sight) -> _Asked:
    if rule.method == "account_match":
        by_id = {person.id: person for person in sight.people}
        found = dict.fromkeys(sight.account[match] for match in rule.matches if sight.account.get(match))
        strangers = tuple(member for member in found if member not in by_id)
        where = " or ".join(_MATCHED[match] for match in rule.matches)
        people = {member: (by_id[member], 1) for member in found if member in by_id}
        return _Asked(people, strangers, "" if found else f"nobody owns {where}")
    if rule.method == "territory" and not sight.territory.get(rule.id):
        return _Asked({}, nobody="the territory is not known")
    if rule.team is not None:
        role = rule.team.role
        fitting = [person for person in sight.people if not person.removed and role in ("", person.role)]
        people = {person.id: (person, 1) for person in fitting if person.role in OWNERS}
        return _Asked(people, nobody="" if people else f"there is no {role or 'member'} who can own leads")
    # An address is free again once its owner was removed: who has it now is meant.
    in_order = sorted(sight.people, key=lambda person: not person.removed)
    by_name = {name: person for person in in_order for name in (person.id, person.email)}
    named = {by_name[one.member].id: (by_name[one.member], one.weight) for one in rule.members if one.member in by_name}
    return _Asked(named, tuple(one.member for one in rule.members if one.member not in by_name))


def refusal(rule: Rule | None, person: Person, sight: Sight) -> str:
    """Return why somebody cannot take the lead; empty when they can. Without a rule, only what always counts."""
    return next(_refusals(rule, person, sight), "")


def _refusals(rule: Rule | None, person: Person, sight: Sight) -> Iterator[str]:
    if person.id in sight.excluded:
        yield sight.excluded[person.id]
    if person.removed:
        yield "was removed from the organization"
    if person.role not in OWNERS:
        yield f"is a {person.role}, who cannot own leads"
    if rule is not None:
        yield from _misfits(rule, person, sight)
    if person.away:
        yield person.away
    if rule is not None and rule.within_hours and not person.working:
        yield "is outside working hours"
    if person.daily_capacity and person.today >= person.daily_capacity:
        yield f"has had {person.today} of {person.daily_capacity} leads today"
    if person.open_capacity and person.open >= person.open_capacity:
        yield f"has {person.open} of {person.open_capacity} open leads"


def _misfits(rule: Rule, person: Person, sight: Sight) -> Iterator[str]:
    if rule.team is not None:
        lacking = [skill for skill in rule.team.skills if skill not in person.skills]
        if lacking:
            yield f"does not have the skill {' and '.join(lacking)}"
        if rule.team.territory and rule.team.territory not in person.territories:
            yield f"does not cover the territory {rule.team.territory}"
    if rule.method == "territory" and sight.territory.get(rule.id) not in person.territories:
        yield f"does not cover the territory {sight.territory.get(rule.id)}"


def respond_by(sla: Sla | None, at: datetime, zone: Zone) -> datetime | None:
    """Return when an owner should have responded; None for no SLA. `zone` counts where the calendar has none."""
    if sla is None:
        return None
    return at + sla.within if sla.calendar is None else add_open(sla.calendar, at, sla.within, zone)
