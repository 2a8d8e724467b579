"""Whether a contact in memory fits the filter of an audience; the same answer as the database gives."""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from core.domain.enrollment import Facts
from core.domain.filters import And, Comparison, Expression, Not, Or, Present
from core.domain.records.changes import value_at
from core.domain.records.values import instant_text
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
