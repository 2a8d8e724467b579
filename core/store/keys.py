"""Naming rows by organization and id in a way that both databases look up in the primary key.

SQLite reads the whole table for `(org_id, id) IN (VALUES …)`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import ColumnElement, Table, and_, false, or_


def these(table: Table, keys: Iterable[tuple[str, str]]) -> ColumnElement[bool]:
    """Return the condition for the rows with these `(organization, id)`."""
    ids: dict[str, set[str]] = defaultdict(set)
    for org, id_ in keys:
        ids[org].add(id_)
    named = [and_(table.c.org_id == org, table.c.id.in_(sorted(ids[org]))) for org in sorted(ids)]
    return or_(false(), *named)
