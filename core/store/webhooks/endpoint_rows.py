"""What every claim and every record asks about many endpoints at once, through the driver itself.

A claim needs whole rows, with all that sending takes. They hardly ever change, so what is read each time is only
compared: the same row is given again for as long as it says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, Select, literal_column, select

from core.domain.webhooks import throttle
from core.store.keys import these
from core.store.metadata import write_json
from core.store.transaction import Transaction
from core.store.webhooks.endpoints import endpoints
from core.store.webhooks.outbox import EndpointKey

_MOST_KNOWN = 1024
_known: dict[EndpointKey, tuple[Sequence[Any], Row[Any]]] = {}
"""What the driver gave for a row, and the row."""

_NAMED = {
    "postgresql": "org_id = ANY($1::text[]) AND id = ANY($2::text[])",
    "sqlite": "org_id IN (SELECT value FROM json_each($1)) AND id IN (SELECT value FROM json_each($2))",
}
_WHOLE = {
    "postgresql": f"SELECT org_id, id, e::text FROM endpoints e WHERE {_NAMED['postgresql']}",  # noqa: S608
    "sqlite": f"SELECT org_id, id, * FROM endpoints WHERE {_NAMED['sqlite']}",  # noqa: S608
}
_UNWELL = (
    f"(failing_since IS NOT NULL OR failures > 0 OR pace < {throttle.FULL_PACE} "
    "OR gate_reason = 'breaker' OR verification = 'unverified')"
)
_SENSITIVE = {
    dialect: f"SELECT org_id, id FROM endpoints WHERE {named} AND {_UNWELL}"  # noqa: S608
    for dialect, named in _NAMED.items()
}


async def of(tx: Transaction, keys: Iterable[EndpointKey]) -> dict[EndpointKey, Row[Any]]:
    """Return the rows of endpoints that are still there, in a system transaction."""
    wanted = set(keys)
    found: dict[EndpointKey, Row[Any]] = {}
    new: dict[EndpointKey, Sequence[Any]] = {}
    for whole in await _fetch(tx, _WHOLE[tx.dialect], wanted):
        key = (whole[0], whole[1])
        known = _known.get(key)
        if known is not None and known[0] == whole:
            found[key] = known[1]
        else:
            new[key] = whole
    if new:
        if len(_known) + len(new) > _MOST_KNOWN:
            _known.clear()
        for row in await tx.all(_row(tx.dialect).where(these(endpoints, new))):
            key = (row.org_id, row.id)
            found[key] = row
            if tx.dialect == "sqlite" or row.whole == new[key][2]:  # not where it was changed since it was compared
                _known[key] = (new[key], row)
    return found


def _row(dialect: str) -> Select[Any]:
    """Return the query of rows; on PostgreSQL, which reads anew for each statement, with the text of each."""
    if dialect == "sqlite":
        return select(endpoints)
    return select(endpoints, literal_column("endpoints::text").label("whole"))


async def sensitive(tx: Transaction, keys: Iterable[EndpointKey]) -> set[EndpointKey]:
    """Return the endpoints whose row a good answer may change: they have failed lately, or have yet to be verified.

    As they are now: what was claimed before a failure may be answered after it.
    """
    wanted = set(keys)
    return {(org, id_) for org, id_ in await _fetch(tx, _SENSITIVE[tx.dialect], wanted)} & wanted


async def _fetch(tx: Transaction, sql: str, keys: set[EndpointKey]) -> Sequence[Sequence[Any]]:
    if not keys:
        return ()
    columns = [sorted(set(column)) for column in zip(*keys, strict=True)]
    return await tx.fetch(sql, *(columns if tx.dialect == "postgresql" else map(write_json, columns)))
