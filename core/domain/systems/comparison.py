"""The comparison of a record here with its counterpart there, against what both were when they were last in step.

Three values for each field (ours, theirs, the base) say who has changed it. Where both have, the rule of the field
decides, and the outcome tells of both values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Literal

from core.domain.frozen import frozen

Direction = Literal["pull", "push"]
Rule = Literal["system_of_record", "ours", "newest"]
Side = Literal["ours", "theirs"]

_NOTHING = (None, "")


@frozen
class FieldMapping:
    """A field here and the property there."""

    field: str
    property: str
    direction: str = "both"
    """`pull`, `push` or `both`."""
    conflict: str = "system_of_record"

    def goes(self, direction: Direction) -> bool:
        """Tell whether values travel this way."""
        return self.direction in (direction, "both")


@frozen
class Conflict:
    """A field that both sides have changed."""

    field: str
    ours: Any
    theirs: Any
    winner: Side


@frozen
class Comparison:
    """What follows from a comparison."""

    to_ours: Mapping[str, Any] = field(hash=False)
    """Field to the value it gets here; None removes it."""
    to_theirs: Mapping[str, Any] = field(hash=False)
    """Field to the value that its property gets there."""
    conflicts: tuple[Conflict, ...]
    base: Mapping[str, Any] = field(hash=False)
    """What counts as common afterwards."""
    pending: bool
    """Something here is still to go there, in a sync that goes that way."""


def same(one: Any, other: Any) -> bool:
    """Tell whether two values mean the same: systems write numbers, truth and nothing in ways of their own."""
    if one in _NOTHING or other in _NOTHING:
        return one in _NOTHING and other in _NOTHING
    return bool(_plain(one) == _plain(other))


def _alike(name: str, one: Any, other: Any) -> bool:
    """Tell whether two values of a field mean the same; systems write e-mails in lower case."""
    if name == "email" and isinstance(one, str) and isinstance(other, str):
        return one.strip().lower() == other.strip().lower()
    return same(one, other)


def differs(fields: tuple[FieldMapping, ...], values: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Tell whether one side has changed a field since both were last in step."""
    return any(
        not _alike(one.field, values.get(one.field), base[one.field])
        for one in fields
        if one.field in values and one.field in base
    )


def deletion_holds(rule: str, *, changed: bool, deleted_here: bool, later: Callable[[], Side]) -> bool:
    """Tell whether a deletion on one side goes over to the other, which has perhaps changed the record.

    `later` says which side did the later of the two.
    """
    if not changed:
        return True
    winner = "ours" if rule == "ours" else later() if rule == "newest" else "theirs"
    return (winner == "ours") is deleted_here


def compare(
    fields: tuple[FieldMapping, ...],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    base: Mapping[str, Any] | None,
    direction: Direction,
    newer: Callable[[str], Side] = lambda _: "theirs",
) -> Comparison:
    """Compare field by field; `theirs` is by our fields, `base` is None where both sides meet for the first time.

    `newer` says who changed a field later.
    """
    to_ours: dict[str, Any] = {}
    to_theirs: dict[str, Any] = {}
    conflicts: list[Conflict] = []
    common = dict(base or {})
    pending = False
    for mapping in fields:
        name = mapping.field
        if name not in theirs:
            continue
        mine, their = ours.get(name), theirs[name]
        if _alike(name, mine, their):
            common[name] = their
            continue
        winner, contested = _winner(mapping, mine, their, base, newer)
        if contested:
            conflicts.append(Conflict(name, mine, their, winner))
        if winner == "theirs" and direction == "pull" and mapping.goes("pull"):
            to_ours[name] = their
            common[name] = their
        elif winner == "ours" and direction == "push" and mapping.goes("push"):
            to_theirs[name] = mine
            common[name] = mine
        elif contested:  # decided once: the loser's value is what both start from when the winner travels
            common[name] = their if winner == "ours" else mine
        pending = pending or (winner == "ours" and direction == "pull" and mapping.goes("push"))
    return Comparison(to_ours, to_theirs, tuple(conflicts), common, pending)


def _winner(
    mapping: FieldMapping, ours: Any, theirs: Any, base: Mapping[str, Any] | None, newer: Callable[[str], Side]
) -> tuple[Side, bool]:
    """Return whose value holds, and whether both had changed it."""
    name = mapping.field
    known = base is not None and name in base
    common = base[name] if base is not None and known else None
    both = known and not _alike(name, ours, common) and not _alike(name, theirs, common)
    if not mapping.goes("push"):
        return "theirs", both
    if not mapping.goes("pull"):
        return "ours", both
    if not both and (known or ours in _NOTHING or theirs in _NOTHING):
        return ("theirs" if (_alike(name, ours, common) if known else ours in _NOTHING) else "ours"), False
    if mapping.conflict == "ours":
        return "ours", True
    return (newer(name) if mapping.conflict == "newest" else "theirs"), True


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)
        case str():
            text = value.strip()
            number = _number(text)
            return text if number is None else number
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _number(text: str) -> str | None:
    """Return a text that is a number written another way, as `_plain` writes it; None for any other."""
    if not text or text[0] not in "-0123456789" or "." not in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return _plain(value) if math.isfinite(value) and len(text) < 16 else None
