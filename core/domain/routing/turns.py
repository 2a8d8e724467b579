"""Whose turn it is: in turn, or by weight. Only those who can take the lead are asked, and nobody else's turn passes.

In turn means: whoever was served longest ago. Somebody who is passed over stays where they are in the queue, so an
absence costs nobody else a turn and is not made up for by a flood. By weight, each turn gives everybody who can take it
their share as credit, and whoever got it pays for all of it; served is, among those who are owed something, the one who
would first be owed a whole turn. So everybody stays within one turn of their exact share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from fractions import Fraction
from typing import Any

from core.domain.frozen import frozen


@frozen
class Turns:
    """What a rule remembers of the turns it gave."""

    count: int = 0
    """Turns so far."""
    last: Mapping[str, int] = field(default_factory=dict)
    """Member to the number of their last turn."""
    credit: Mapping[str, int] = field(default_factory=dict)
    """Member to what they are owed, in weights; a turn costs the weights of all who could have had it."""

    @property
    def as_json(self) -> dict[str, Any]:
        """Return them as they are stored."""
        return {"count": self.count, "last": dict(self.last), "credit": dict(self.credit)}


def from_json(stored: Mapping[str, Any] | None) -> Turns:
    """Return stored turns; none for a rule that gave none yet."""
    return Turns(stored["count"], stored["last"], stored["credit"]) if stored else Turns()


def longest_ago(members: Sequence[str], turns: Turns) -> str:
    """Return whoever was served longest ago; of equals, the first."""
    return min(members, key=lambda member: turns.last.get(member, 0))


def most_owed(weights: Mapping[str, int], turns: Turns) -> str:
    """Return whose turn it is by weight, among those who can take it."""
    whole = sum(weights.values())
    owed = {member: turns.credit.get(member, 0) + weight for member, weight in weights.items()}
    due = [member for member in weights if owed[member] > 0] or list(weights)
    return min(due, key=lambda member: Fraction(whole - owed[member], weights[member]))


def served(member: str, listed: Mapping[str, int], able: Sequence[str], turns: Turns) -> Turns:
    """Return the turns after one of a member.

    `listed` has the weight of everybody the rule names, `able` those of them who could have had it. Who is no longer
    named is forgotten.
    """
    count = turns.count + 1
    last = {one: turn for one, turn in turns.last.items() if one in listed} | {member: count}
    whole, most = sum(listed[one] for one in able), sum(listed.values())
    credit = {one: turns.credit.get(one, 0) for one in listed}
    for one in able:
        credit[one] += listed[one]
    credit[member] -= whole
    # Another version of the document may have had other weights: nobody is owed, or owes, more than a turn of all.
    kept = {one: max(-most, min(most, amount)) for one, amount in credit.items() if amount}
    return replace(turns, count=count, last=last, credit=kept)
