"""The step that divides contacts by chance, so that the same one always goes the same way."""

from __future__ import annotations

import hashlib
import math
from typing import Annotated, Any, ClassVar

from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Go, Step, setting
from core.domain.steps.shapes import Text
from core.domain.steps.way_shapes import Way, Ways

LONGEST_SALT = 100


@frozen
class Split(Step):
    """Takes one of several ways by a draw that comes out the same whenever it is repeated."""

    kind: ClassVar = "split"
    summary: ClassVar = "Divides contacts by chance into weighted ways; the same one always goes the same way."
    exits: ClassVar = ("*",)
    outputs: ClassVar = {"variant": "string"}

    ways: Annotated[tuple[Way, ...], setting(Ways(), "The ways and their weights, such as {a: 50, b: 50}.")]
    by: Annotated[
        str,
        setting(
            Text(choices=("enrollment", "contact")),
            "What the draw sticks to: each enrollment anew (by default), or the contact over all their enrollments.",
        ),
    ] = "enrollment"
    salt: Annotated[
        str,
        setting(
            Text(LONGEST_SALT),
            "Splits with the same salt draw alike; without one, each split draws for itself.",
        ),
    ] = ""

    def its_exits(self) -> tuple[str, ...]:
        """Return the names of the ways."""
        return tuple(way.name for way in self.ways)

    def begin(self, context: Context) -> Decision:
        """Draw."""
        enrollment = context.enrollment
        who = enrollment.id if self.by == "enrollment" else enrollment.contact_id
        point = draw(who, self.salt or f"{enrollment.workflow_id}/{context.node.id}")
        way = chosen(self.ways, point)
        total = math.fsum(one.weight for one in self.ways)
        reason = f"Drawn by {self.by}: {way.name}, which gets {way.weight:g} of {total:g}."
        inputs: dict[str, Any] = {f"{self.by}.id": who, "draw": round(point, 6)}
        return Go(way.name, reason, outputs={"variant": way.name}, inputs=inputs)


def draw(who: str, place: str) -> float:
    """Return a number from 0 up to, not including, 1: always the same one for the same two texts."""
    digest = hashlib.sha256(f"{place}\x1f{who}".encode(errors="replace")).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53


def chosen(ways: tuple[Way, ...], point: float) -> Way:
    """Return the way whose share of the line from 0 to 1 a point lies in."""
    total = math.fsum(way.weight for way in ways)
    reach = 0.0
    for way in ways:
        reach += way.weight
        if point * total < reach:
            return way
    return ways[-1]
