"""What is wrong with a routing that reads well: rules that never get to choose, and members who cannot own leads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.routing.document import Routing, Rule


@frozen
class Member:
    """A member as the check of a document sees them."""

    id: str
    email: str
    role: str
    removed: bool = False


def unreachable(routing: Routing) -> Iterator[Violation]:
    """Yield a problem for every rule that no lead ever comes to, or that never has anybody whom an earlier one has not.

    Whoever passes a rule whose condition holds has found nobody there who could take the lead: a later rule matters
    only where its own people are others.
    """
    for index, rule in enumerate(routing.rules):
        at = "catch_all" if rule.is_catch_all else f"rules[{index}]"
        if _always(rule) is False:
            message = "never holds, so the rule is never used"
            yield Violation(f"{at}.when", "UNREACHABLE_RULE", message, "Change the condition, or remove the rule.")
        earlier = next((one for one in routing.rules[:index] if _covers(one, rule)), None)
        if earlier is not None and not rule.is_catch_all:
            message = f"whatever comes here, {earlier.id} has asked the same people before"
            hint = f"Put it before {earlier.id}, give it other members, or remove it."
            yield Violation(at, "UNREACHABLE_RULE", message, hint)


def _always(rule: Rule) -> bool | None:
    """Return what the condition comes to for every lead; None where that depends."""
    if rule.when is None:
        return True
    return None if rule.when.paths else rule.when.judge({}).value


def _covers(earlier: Rule, later: Rule) -> bool:
    """Tell whether an earlier rule holds wherever a later one does, and asks all of its people."""
    same_condition = earlier.when is not None and later.when is not None and earlier.when.text == later.when.text
    if not (_always(earlier) or same_condition) or (earlier.within_hours and not later.within_hours):
        return False
    if earlier.method == "account_match":
        return later.method == "account_match" and set(later.matches) <= set(earlier.matches)
    if earlier.method == "territory":
        same = later.territory is not None and earlier.territory is not None
        if not (same and earlier.territory.text == later.territory.text):  # type: ignore[union-attr]
            return False
    if later.method == "account_match":
        return False
    if earlier.team is not None:
        return later.team == earlier.team
    return bool(later.members) and {one.member for one in later.members} <= {one.member for one in earlier.members}


def members(routing: Routing, known: Mapping[str, Member], names: Iterable[str]) -> Iterator[Violation]:
    """Yield a problem for everybody named who cannot own leads.

    `known` are members by id and by e-mail; `names` are those who can, for hints.
    """
    candidates = list(names)
    for index, rule in enumerate(routing.rules):
        seen: dict[str, str] = {}
        for place, one in enumerate(rule.members):
            at = f"{'catch_all' if rule.is_catch_all else f'rules[{index}]'}.members[{place}]"
            found = known.get(one.member)
            if found is None:
                hint = did_you_mean(one.member, candidates) or "List the members to see who there is."
                yield Violation(at, "UNKNOWN_MEMBER", f"there is no member {one.member}", hint)
            elif found.removed:
                message = f"{one.member} was removed from the organization"
                yield Violation(at, "REMOVED_MEMBER", message, "Name somebody else.")
            elif found.role == "viewer":
                message = f"{one.member} is a viewer, who cannot own leads"
                yield Violation(at, "MEMBER_IS_VIEWER", message, "Make them an editor, or name somebody else.")
            elif found.id in seen:
                message = f"{one.member} is {seen[found.id]}, who is in the list already"
                yield Violation(at, "DUPLICATE", message, "List everybody once.")
            else:
                seen[found.id] = one.member
