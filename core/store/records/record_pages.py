"""Pages of records of one type: by a filter, in an order, on both databases the same.

Equal values are in the order of ids; records without a value come last, whatever the direction.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Numeric, Select, and_, case, cast, exists, null, or_, select
from sqlalchemy.sql.elements import ColumnElement

from core.domain import names
from core.domain.errors import invalid
from core.domain.filters import And, Comparison, Expression, Kind
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records.schema import TypeSchema
from core.store import paging
from core.store.filtering import Columns, JsonPath, json_text, to_sql
from core.store.merging.merges import merges
from core.store.metadata import from_micros, to_micros
from core.store.records.record_rows import Record, record_changes, records, to_record
from core.store.transaction import Transaction

ABOUT: Mapping[str, Kind] = {"id": "string", "create_time": "instant", "update_time": "instant"}
"""What every record can be filtered and ordered by beside its fields."""

_INDEXED = {name: records.c[name] for name in ("owner_id", "status", "tier", "contact_id", "company_id")}
_NUMBERS = frozenset({"integer", "number"})


@frozen
class Order:
    """What a list is ordered by."""

    field: str = ""
    """Empty for the order in which records were made, newest first."""
    kind: Kind = "string"
    descending: bool = True

    @classmethod
    def read(cls, text: str, of: TypeSchema) -> Order:
        """Return the order that a caller names, such as `close_date` or `score desc`.

        Raises Invalid.
        """
        words = text.split()
        if not words:
            return cls()
        kinds = {**ABOUT, **of.filter_kinds()}
        field, direction = words[0], "".join(words[1:]).lower()
        if field not in kinds or kinds[field] in ("any", "money"):
            known = [name for name, kind in kinds.items() if kind not in ("any", "money") and not name.endswith("*")]
            hint = did_you_mean(field, known, "Name one field, and desc for the highest first.")
            raise invalid("order_by", "UNKNOWN_FIELD", f"names `{field[:80]}`, which orders nothing", hint)
        if direction not in ("", "asc", "desc"):
            raise invalid("order_by", "BAD_ORDER", f"goes on with `{direction[:20]}`", "Write one field, then desc.")
        return cls(field, kinds[field], direction == "desc")


def filter_columns(of: TypeSchema) -> Columns:
    """Return where a filter finds each field."""
    paths: dict[str, Any] = {name: JsonPath(records.c.fields, (name,)) for name in of.standard}
    kept = {name: column for name, column in _INDEXED.items() if name in of.standard}
    columns = {"id": records.c.id, "create_time": records.c.created_at, "update_time": records.c.updated_at}
    return {**paths, **kept, **columns, "custom.*": JsonPath(records.c.fields, ("custom",))}


async def page(
    tx: Transaction,
    of: TypeSchema,
    size: int,
    token: str,
    *,
    filter_text: str = "",
    where: Expression | None = None,
    order: Order | None = None,
    deleted: bool = False,
) -> tuple[list[Record], str]:
    """Return a page of records of one type and the next token; `where` is what `filter_text` says.

    With `deleted`, those that were deleted are among them; merged ones never are.
    """
    order = order or Order()
    statement = narrowed(tx, select(records), of, where, deleted=deleted)
    list_name = (
        f"{of.name}|{filter_text}{f'|{order.field} {order.descending}' if order.field else ''}{'|all' * deleted}"
    )
    if not order.field:
        rows, following = await paging.page(tx, statement, records.c.id, size, token, filter_text=list_name)
        return [to_record(row) for row in rows], following
    size = paging.page_size(size)
    value = _value(order, of, tx.dialect)
    if token:
        statement = statement.where(_after(order, value, paging.decode_token(token, list_name)))
    missing = case((value.is_(None), 1), else_=0)
    first = value.desc() if order.descending else value.asc()
    statement = statement.add_columns(value.label("ordered_by"))
    rows = await tx.all(statement.order_by(missing, first, records.c.id).limit(size + 1))
    found = [to_record(row) for row in rows[:size]]
    if len(rows) <= size:
        return found, ""
    last = rows[size - 1]
    return found, paging.encode_token(json.dumps([_kept(last.ordered_by), last.id]), list_name)


def narrowed(
    tx: Transaction, statement: Select[Any], of: TypeSchema, where: Expression | None, *, deleted: bool = False
) -> Select[Any]:
    """Return a statement over records that keeps those of a type which a filter finds."""
    statement = statement.where(records.c.type == of.name)
    if deleted:
        m = merges.c
        into = (m.org_id == tx.org_id, m.merged_id == records.c.id, m.undone_at.is_(None))
        statement = statement.where(~exists().where(*into))
    else:
        statement = statement.where(records.c.deleted_at.is_(None))
    if where is not None:
        statement = statement.where(to_sql(where, filter_columns(of), tx.dialect))
        since = _since(where)
        if since is not None:
            statement = statement.where(records.c.id.in_(_changed_since(tx.org_id, since)))
    return statement


def _since(where: Expression) -> datetime | None:
    """Return the instant since which a record must have changed, where the filter says so."""
    parts = where.items if isinstance(where, And) else (where,)
    for part in parts:
        if isinstance(part, Comparison) and part.field == "update_time" and part.operator in (">", ">="):
            return part.value if isinstance(part.value, datetime) else None
    return None


def _changed_since(org: str, instant: datetime) -> Select[Any]:
    """Return the query of records with history since an instant: its ids begin with their instants.

    An index of `updated_at` would have to be written with every change of every record.
    """
    c = record_changes.c
    return select(c.record_id).where(c.org_id == org, c.id >= names.compose("chg", instant, 0))


def _value(order: Order, of: TypeSchema, dialect: str) -> ColumnElement[Any]:
    columns: Mapping[str, Any] = filter_columns(of)
    found = columns.get(order.field)
    if found is None:
        found = JsonPath(records.c.fields, tuple(order.field.split(".")))
    if not isinstance(found, JsonPath):
        return found  # type: ignore[no-any-return]  # a column
    text = json_text(found, dialect)
    if dialect == "postgresql":
        return cast(text, Numeric) if order.kind in _NUMBERS else text.collate("C")
    return text if order.kind != "boolean" else cast(text, Integer)


def _after(order: Order, value: ColumnElement[Any], key: str) -> ColumnElement[bool]:
    """Return the condition of what comes after the last record of a page."""
    try:
        last, record_id = json.loads(key)
    except ValueError:
        raise invalid("page_token", "PAGE_TOKEN_MISMATCH", "the token does not belong to this list") from None
    later = records.c.id > record_id
    if last is None:
        return and_(value.is_(None), later)
    given: Any = from_micros(last) if order.field in ("create_time", "update_time") else last
    beyond = value < given if order.descending else value > given
    return or_(beyond, and_(value == given, later), value.is_(null()))


def _kept(value: Any) -> Any:
    if isinstance(value, datetime):
        return to_micros(value)
    return value if value is None or isinstance(value, str | int | float) else float(value)
