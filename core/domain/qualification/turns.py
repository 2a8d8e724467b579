"""Whose turn it is among several, each with a weight: everybody gets a share, and nobody waits for long."""

from __future__ import annotations

from collections.abc import Sequence

from core.domain.frozen import frozen


@frozen
class Turn:
    """Who was chosen, and where the next choice begins."""

    member: str
    position: int
    why: str


def choose(
    owners: Sequence[tuple[str, int]], *, available: frozenset[str], position: int, keep: str | None = None
) -> Turn | None:
    """Return whose turn it is, or None when nobody is available.

    The turns of a round are dealt by weight and spread: of weights 3 and 1, the first gets three of four turns, but
    never four in a row. `position` counts all turns so far. `keep` stays with its owner where that is one of them.
    """
    if keep is not None and keep in available and any(member == keep for member, _ in owners):
        return Turn(keep, position, "Stays with the owner it has")
    order = _round(owners)
    for step in range(len(order)):
        member = order[(position + step) % len(order)]
        if member in available:
            passed = f", {step} passed over" if step else ""
            return Turn(member, (position + step + 1) % len(order), f"It was the turn of {member}{passed}")
    return None


def _round(owners: Sequence[tuple[str, int]]) -> list[str]:
    """Return one round of turns: at each, whoever is furthest behind their share (smooth weighted round robin)."""
    total = sum(weight for _, weight in owners)
    credit = dict.fromkeys((member for member, _ in owners), 0)
    order = []
    for _ in range(total):
        for member, weight in owners:
            credit[member] += weight
        chosen = max(credit, key=lambda member: credit[member])  # the first of equals
        credit[chosen] -= total
        order.append(chosen)
    return order
