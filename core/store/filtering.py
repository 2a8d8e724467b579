"""Filters as SQL, the same answer on both databases: a field without a value fits nothing but `!=`."""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, Select, String, Table, and_, cast, exists, func, literal, not_, or_, select
from sqlalchemy import false as sql_false
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.domain import filters
from core.domain.filters import And, Comparison, Expression, Not, Or, Present
from core.domain.frozen import frozen
from core.domain.records.values import instant_text
from core.store.metadata import dump_json

Condition = ColumnElement[bool]
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operators.eq,
    "<": operators.lt,
    "<=": operators.le,
    ">": operators.gt,
    ">=": operators.ge,
}
_SQLITE_TYPES = {str: ("text",), int: ("integer", "real"), float: ("integer", "real")}
_POSTGRESQL_TYPES = {str: "string", int: "number", float: "number", bool: "boolean"}


@frozen
class JsonPath:
    """A field inside a JSON column; as the column of `custom.*` it stands for every path below it."""

    column: ColumnElement[Any]
    path: tuple[str, ...]


Columns = Mapping[str, ColumnElement[Any] | JsonPath]


def filtered(
    statement: Select[Any], table: Table, text: str, fields: Mapping[str, filters.Kind] | Mapping[str, str]
) -> Select[Any]:
    """Return a statement that keeps the rows which fit a filter; `fields` are columns of the table and their kinds.

    Raises Invalid for a filter that cannot be read.
    """
    expression = filters.parse(text, fields)  # type: ignore[arg-type]  # tables of plain strings are welcome too
    if expression is None:
        return statement
    return statement.where(to_sql(expression, {name: table.c[name] for name in fields}, ""))


def to_sql(expression: Expression, columns: Columns, dialect: str) -> Condition:
    """Return the condition of an expression; the dialect matters where there are JSON paths."""
    match expression:
        case And(items):
            return and_(*(to_sql(item, columns, dialect) for item in items))
        case Or(items):
            return or_(*(to_sql(item, columns, dialect) for item in items))
        case Not(inner):
            return _negated(to_sql(inner, columns, dialect))
        case Present(field):
            column = _column(field, columns)
            if isinstance(column, JsonPath):
                return _json_type(column, dialect).is_not(None)
            return column.is_not(None)
        case Comparison(field, "!=", value, kind):
            return _negated(to_sql(Comparison(field, "=", value, kind), columns, dialect))
    column = _column(expression.field, columns)
    if isinstance(column, JsonPath):
        return _json_comparison(column, expression, dialect)
    if expression.operator == ":":
        return _contains(column, str(expression.value))
    return _compare(expression.operator, column, _typed_literal(expression.value))


def _negated(condition: Condition) -> Condition:
    # NULL stays NULL under NOT: only here must "no value" become false.
    return not_(func.coalesce(condition, sql_false()))


def _column(name: str, columns: Columns) -> ColumnElement[Any] | JsonPath:
    if name in columns:
        return columns[name]
    head, _, rest = name.partition(".")
    below = columns[f"{head}.*"]
    assert isinstance(below, JsonPath)
    return JsonPath(below.column, (*below.path, *rest.split(".")))


def _compare(operator: str, left: ColumnElement[Any], right: Any) -> Condition:
    condition: Condition = _COMPARE[operator](left, right)
    return condition


def _typed_literal(value: filters.Scalar) -> Any:
    # Wider than the column where need be: a number that no row can have is no error.
    match value:
        case bool() | str() | datetime():
            return value
        case int():
            return literal(value, BigInteger)
        case _:
            return literal(value, Float)


def _contains(text: ColumnElement[Any], part: str) -> Condition:
    # LIKE looks at case on one database and not on the other.
    condition: Condition = func.replace(text, part, "") != text
    return condition


def _json_comparison(at: JsonPath, comparison: Comparison, dialect: str) -> Condition:
    value = comparison.value
    if isinstance(value, datetime):
        value = instant_text(value)
    if comparison.operator != ":":
        condition = _json_scalar(at, comparison.operator, value, dialect)
        return and_(_json_is(at, value, dialect), condition) if comparison.kind == "any" else condition
    if isinstance(value, str):
        scalar = _contains(json_text(at, dialect), value)
    else:
        scalar = _json_scalar(at, "=", value, dialect)
    if comparison.kind != "any":
        return scalar
    return or_(and_(_json_is(at, value, dialect), scalar), _json_has_item(at, value, dialect))


def _json_scalar(at: JsonPath, operator: str, value: str | float | bool, dialect: str) -> Condition:
    if dialect == "postgresql":
        if isinstance(value, str):
            return _compare(operator, json_text(at, dialect).collate("C"), literal(value, String))
        return _compare(operator, json_value(at), _jsonb(value))
    if isinstance(value, bool):
        return _json_type(at, dialect) == ("true" if value else "false")
    return _compare(operator, json_text(at, dialect), _typed_literal(value))


def json_text(at: JsonPath, dialect: str) -> ColumnElement[Any]:
    """Return the text at a path: of what is no text, its JSON on PostgreSQL and its value on SQLite."""
    if dialect == "postgresql":
        return func.jsonb_extract_path_text(at.column, *at.path, type_=String())
    return func.json_extract(at.column, _sqlite_path(at))


def _json_type(at: JsonPath, dialect: str) -> ColumnElement[Any]:
    if dialect == "postgresql":
        return func.jsonb_typeof(json_value(at), type_=String())
    return func.json_type(at.column, _sqlite_path(at), type_=String())


def _json_is(at: JsonPath, value: str | float | bool, dialect: str) -> Condition:
    if dialect == "postgresql":
        return _json_type(at, dialect) == _POSTGRESQL_TYPES[type(value)]
    return _json_type(at, dialect).in_(_sqlite_types(value))


def _json_has_item(at: JsonPath, value: str | float | bool, dialect: str) -> Condition:
    if dialect == "postgresql":
        found: Condition = json_value(at).op("@>")(_jsonb([value]))
        return and_(_json_type(at, dialect) == "array", found)
    items = func.json_each(at.column, _sqlite_path(at)).table_valued("type", "value", name="items")
    fits: Condition = items.c.type.in_(_sqlite_types(value))
    if not isinstance(value, bool):
        fits = and_(fits, items.c.value == _typed_literal(value))
    there: Condition = exists(select(literal(1)).select_from(items).where(fits))
    return and_(_json_type(at, dialect) == "array", there)


def _sqlite_types(value: str | float | bool) -> tuple[str, ...]:
    if isinstance(value, bool):
        return ("true",) if value else ("false",)
    return _SQLITE_TYPES[type(value)]


def _sqlite_path(at: JsonPath) -> str:
    return "$" + "".join(f'."{name}"' for name in at.path)


def json_value(at: JsonPath) -> ColumnElement[Any]:
    """Return the JSON value at a path, on PostgreSQL."""
    return func.jsonb_extract_path(at.column, *at.path, type_=JSONB())


def _jsonb(value: object) -> ColumnElement[Any]:
    return cast(literal(dump_json(value), String), JSONB)
