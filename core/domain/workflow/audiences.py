"""Whether a contact belongs to an audience, and why, from what is known of it; as the database answers it."""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from core.domain.enrollment import Facts
from core.domain.filters import And, Comparison, Expression, Not, Or, Present
from core.domain.records.changes import value_at
from core.domain.records.values import instant_text
from core.domain.workflow.conditions import shown
from core.domain.workflow.trigger_kinds import Audience

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}


def belongs(audience: Audience, facts: Facts) -> bool:
    """Tell whether a contact belongs to an audience."""
    if audience.list and audience.list not in facts.lists:
        return False
    return audience.where is None or _fits(audience.where, {**facts.contact.fields, "id": facts.contact.id})


def tell(audience: Audience, facts: Facts, *, fits: bool) -> tuple[str, dict[str, Any]]:
    """Return why a contact belongs to an audience, or does not, as a clause, and what the answer looked at.

    `fits` is what the database says: it knows more of a contact than decisions do, such as when it was made.
    """
    inputs: dict[str, Any] = {}
    told: list[str] = []
    is_on = audience.list in facts.lists
    if audience.list:
        inputs["contact.lists"] = sorted(facts.lists)
        if is_on == fits or not is_on:
            told.append(f"it is {'' if is_on else 'not '}on the list {audience.list}")
    if audience.where is not None:
        fields = {**facts.contact.fields, "id": facts.contact.id}
        looked = {f"contact.{name}": value_at(fields, name) for name in dict.fromkeys(_fields(audience.where))}
        inputs |= looked
        if fits or is_on or not audience.list:
            told.append(f"{audience.filter.strip()} {'holds' if fits else 'does not hold'} ({shown(looked)})")
    return " and ".join(told) or "every contact is of its audience", inputs


def _fields(expression: Expression) -> Iterator[str]:
    match expression:
        case And(items) | Or(items):
            for item in items:
                yield from _fields(item)
        case Not(inner):
            yield from _fields(inner)
        case Present(field) | Comparison(field):
            yield field


def _fits(expression: Expression, fields: Mapping[str, Any]) -> bool:
    match expression:
        case And(items):
            return all(_fits(item, fields) for item in items)
        case Or(items):
            return any(_fits(item, fields) for item in items)
        case Not(inner):
            return not _fits(inner, fields)
        case Present(field):
            return value_at(fields, field) is not None
        case Comparison(field, "!=", value, kind):
            return not _fits(Comparison(field, "=", value, kind), fields)
        case Comparison(field, operator, value):
            return _compare(operator, value_at(fields, field), value)


def _compare(operator: str, left: Any, right: Any) -> bool:
    if isinstance(right, datetime):
        right = instant_text(right)
    if operator == ":":
        return right in left if isinstance(left, list) else isinstance(left, str) and str(right) in left
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (left, right))
    return (numbers or type(left) is type(right)) and _COMPARE[operator](left, right)
