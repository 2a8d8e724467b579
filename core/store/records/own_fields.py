"""Own fields of records on their way into the store: refused where a caller can be told, left out where nobody can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import structlog

from core.domain.errors import Invalid
from core.store.records import pipelines, record_schema, unique_values
from core.store.records.record_rows import Record
from core.store.records.record_schema import Patch
from core.store.transaction import Transaction

_log = structlog.get_logger()
_Item = TypeVar("_Item")


async def checked(tx: Transaction, record: Record, patch: Mapping[str, Any], path: str = "fields") -> dict[str, Any]:
    """Return what shall be set of one record that is held, as it is stored.

    Raises Invalid with everything that does not fit, and ValueTaken.
    """
    (fitted,) = await record_schema.fit(tx, [Patch(tx.org_id, record.type, patch, path)])
    fields, wrong = dict(fitted.fields), list(fitted.violations)
    if record.type == pipelines.OPPORTUNITY:
        ((fields, more),) = await pipelines.place(tx, [(record.fields, fields, path)])
        wrong += more
    if wrong:
        raise Invalid(*wrong)
    return fields


async def left_out(tx: Transaction, items: Sequence[_Item]) -> Sequence[_Item]:
    """Return what workflows write, without own fields that do not fit or have a value that another record has.

    The items have `org_id`, `record_type` or the record's id, and `fields`.
    """
    if not any(record_schema.touches_own(cast(Any, item).fields) for item in items):
        return items
    asked = [_of(item) for item in items]
    fitted = await record_schema.fit(tx, asked)
    schemas = await record_schema.of_many(tx, {one.org_id for one in asked})
    answers: list[_Item] = []
    for item, patch, found in zip(items, asked, fitted, strict=True):
        fields = dict(found.fields)
        for wrong in found.violations:
            _log.warning("own field left as it was", type=patch.record_type, field=wrong.field, why=wrong.reason)
        rows = unique_values.rows_of(
            schemas[patch.org_id], patch.org_id, patch.record_type, _id(item), fields, dotted=True
        )
        for key, owner in (await unique_values.claim(tx, rows)).items():
            _log.warning("a unique field left as it was: another record has the value", field=key[2], owner=owner)
            fields.pop(f"custom.{key[2]}", None)
        changed: Any = replace(item, fields=fields)  # type: ignore[type-var]  # both kinds are dataclasses
        answers.append(changed)
    return answers


def _of(item: Any) -> Patch:
    record_type = getattr(item, "record_type", "") or _TYPES.get(_id(item).partition("_")[0], "")
    return Patch(item.org_id, record_type, item.fields, demanding=False)


def _id(item: Any) -> str:
    return str(getattr(item, "record_id", "") or item.id)


_TYPES = {"cnt": "contact", "cmp": "company", "lead": "lead"}
