"""Choosing an owner: in turn, over those who can own a lead, with a reason for everybody passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from core.domain.frozen import frozen
from core.domain.qualification.model import Routing


@frozen
class Candidate:
    """A member who may own leads."""

    member_id: str
    email: str
    display_name: str
    unavailable: str = ""
    """Why the member takes no leads now; empty when they are taken."""


@frozen
class Skipped:
    """Somebody who was passed over."""

    member: str
    """The member's id, or the e-mail where there is no such member."""
    reason: str


@frozen
class Choice:
    """Who should own a lead."""

    member_id: str
    """Empty when nobody can take it."""
    display_name: str
    method: str
    """`round_robin`, or `kept` when the lead has an owner; empty when nobody can take it."""
    skipped: tuple[Skipped, ...]
    cursor: int = 0
    """Whose turn is next once this choice is applied: a position in the model's list; of no use when kept."""
    grounds: object = field(default=None, compare=False, repr=False)
    """What a routing saw and decided, to be written down: seen again, the lead would have an owner already."""


def keep(member_id: str, display_name: str) -> Choice:
    """Return the choice to leave a lead with its owner; nobody's turn passes."""
    return Choice(member_id, display_name, "kept", ())


def choose(routing: Routing, candidates: Mapping[str, Candidate], cursor: int) -> Choice:
    """Return the next in turn who can take a lead; `candidates` are the members by e-mail.

    The turn moves to the one after the chosen, so who is passed over for want of eligibility loses nothing to others
    and holds nobody up. A cursor from a list of another length stays meaningful: it wraps around.
    """
    count = len(routing.members)
    skipped: list[Skipped] = []
    for step in range(count):
        position = (cursor + step) % count
        email = routing.members[position]
        candidate = candidates.get(email)
        if candidate is None:
            skipped.append(Skipped(email, "is not a member of the organization"))
        elif candidate.unavailable:
            skipped.append(Skipped(candidate.member_id, candidate.unavailable))
        else:
            following = (position + 1) % count
            return Choice(candidate.member_id, candidate.display_name, routing.method, tuple(skipped), following)
    return Choice("", "", "", tuple(skipped), cursor)
