"""As much of Salesforce's query language as clients of records need: fields, conditions joined by AND, order, limit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from core.domain.frozen import frozen

_QUERY = re.compile(
    r"(?is)\s*SELECT\s+(?P<fields>[\w\s,.]+?)\s+FROM\s+(?P<object>\w+)"
    r"(?:\s+WHERE\s+(?P<where>.+?))?(?:\s+ORDER\s+BY\s+(?P<order>[\w\s,]+?))?(?:\s+LIMIT\s+(?P<limit>\d+))?\s*"
)
_VALUE = r"'(?:[^'\\]|\\.)*'|[^\s,()']+"
_CONDITION = re.compile(
    rf"(?is)\s*(?P<field>\w+)\s*(?P<operator>>=|<=|!=|=|>|<|\bIN\b)\s*"
    rf"(?P<value>\(\s*(?:{_VALUE})(?:\s*,\s*(?:{_VALUE}))*\s*\)|{_VALUE})\s*(?P<more>\bAND\b|$)"
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class BadQuery(ValueError):
    """A query cannot be read; the text is what Salesforce would call its message."""


@frozen
class Condition:
    """A field, an operator and what it is compared with."""

    field: str
    operator: str
    value: Any


@frozen
class Query:
    """A query that was read."""

    object: str
    fields: tuple[str, ...]
    conditions: tuple[Condition, ...]
    order: tuple[str, ...]
    limit: int | None


def read(text: str) -> Query:
    """Return a query. Raises BadQuery."""
    found = _QUERY.fullmatch(text)
    if found is None:
        raise BadQuery("unexpected token: the query cannot be read")
    order = tuple(name.split()[0] for name in (found["order"] or "").split(",") if name.strip())
    return Query(
        found["object"],
        tuple(name.strip() for name in found["fields"].split(",")),
        _conditions(found["where"] or ""),
        order,
        int(found["limit"]) if found["limit"] else None,
    )


def fits(query: Query, record: Mapping[str, Any]) -> bool:
    """Tell whether a record fits every condition."""
    return all(_fits(one, record.get(one.field)) for one in query.conditions)


def _conditions(text: str) -> tuple[Condition, ...]:
    found, at = [], 0
    while at < len(text):
        one = _CONDITION.match(text, at)
        if one is None:
            raise BadQuery(f"unexpected token: {text[at : at + 20]}")
        value = one["value"]
        if value.startswith("("):
            values = tuple(_value(word) for word in re.findall(_VALUE, value[1:-1]))
            found.append(Condition(one["field"], "IN", values))
        else:
            found.append(Condition(one["field"], one["operator"], _value(value)))
        at = one.end()
    return tuple(found)


def _value(word: str) -> Any:
    if word.startswith("'"):
        return re.sub(r"\\(.)", lambda escaped: _ESCAPES.get(escaped[1], escaped[1]), word[1:-1])
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.lower() == "null":
        return None
    try:
        return datetime.fromisoformat(word)
    except ValueError:
        pass
    try:
        return float(word)
    except ValueError:
        raise BadQuery(f"unexpected token: {word}") from None


_COMPARES: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": lambda one, other: one >= other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    "<": lambda one, other: one < other,
}


def _fits(condition: Condition, value: Any) -> bool:
    wanted = condition.value
    if isinstance(wanted, datetime):
        value = datetime.fromisoformat(str(value).replace("+0000", "+00:00")) if value else None
    match condition.operator:
        case "IN":
            return any(_same(value, one) for one in wanted)
        case "=":
            return _same(value, wanted)
        case "!=":
            return not _same(value, wanted)
        case operator:
            return value is not None and _COMPARES[operator](value, wanted)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.lower() == other.lower()
    return bool(one == other)
