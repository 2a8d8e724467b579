"""Where deliveries stand: among all others as they are written, and at their endpoint as they are handed over.

The first is drawn without waiting for anybody, and has gaps. The second has none: whoever hands over holds the
endpoint's number to the commit, last of all and in order, so that nobody who writes an event waits for another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import delete

from core.store.metadata import write_json
from core.store.transaction import Transaction
from core.store.webhooks.delivery_tables import delivery_numbers

EndpointKey = tuple[str, str]
"""Organization and endpoint."""


class Due(NamedTuple):
    """A delivery that is to be handed over."""

    org_id: str
    id: str
    day: int
    endpoint_id: str
    sequence: int
    """0 while it has not been handed over yet."""
    place: int


_DRAW_POSTGRESQL = "SELECT nextval('delivery_places') FROM generate_series(1, $1)"
_LAST_SQLITE = "SELECT place FROM deliveries ORDER BY rowid DESC LIMIT 1"  # what is oldest is deleted first


async def places(tx: Transaction, count: int) -> list[int]:
    """Return so many places for new deliveries, each after those of every delivery that was committed before."""
    if not count:
        return []
    if tx.dialect == "postgresql":
        return [row[0] for row in await tx.fetch(_DRAW_POSTGRESQL, count)]
    rows = await tx.fetch(_LAST_SQLITE)
    last = rows[0][0] if rows else 0
    return list(range(last + 1, last + 1 + count))


_TAKE = (
    "ON CONFLICT (org_id, endpoint_id) DO UPDATE SET last = n.last + excluded.last RETURNING org_id, endpoint_id, last"
)
_TAKE_POSTGRESQL = (
    "INSERT INTO delivery_numbers AS n (org_id, endpoint_id, last) "  # noqa: S608 -- the text above
    f"SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) ORDER BY 1, 2 {_TAKE}"
)
_TAKE_SQLITE = (
    "INSERT INTO delivery_numbers AS n (org_id, endpoint_id, last) "  # noqa: S608 -- the text above
    f"SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each($1) WHERE true {_TAKE}"
)


async def given(tx: Transaction, due: Iterable[Due]) -> dict[str, int]:
    """Give those that have none yet the next positions at their endpoints, in the order in which they were written.

    Returns delivery to position. Nobody else hands over to these endpoints before this transaction ends, so it is
    the last thing that is held.
    """
    new = sorted((one for one in due if not one.sequence), key=lambda one: (one.place, one.id))
    counts = Counter((one.org_id, one.endpoint_id) for one in new)
    following = await _take(tx, counts)
    found = {}
    for one in new:
        key = (one.org_id, one.endpoint_id)
        found[one.id] = following[key]
        following[key] += 1
    return found


async def _take(tx: Transaction, counts: Mapping[EndpointKey, int]) -> dict[EndpointKey, int]:
    """Take so many positions of each endpoint and return the first of them."""
    if not counts:
        return {}
    keys = sorted(counts)
    if tx.dialect == "postgresql":
        columns = ([org for org, _ in keys], [id_ for _, id_ in keys], [counts[key] for key in keys])
        rows = await tx.fetch(_TAKE_POSTGRESQL, *columns)
    else:
        rows = await tx.fetch(_TAKE_SQLITE, write_json([(*key, counts[key]) for key in keys]))
    return {(org, id_): last - counts[org, id_] + 1 for org, id_, last in rows}


async def forget(tx: Transaction, org: str, endpoint_id: str) -> None:
    """Count no more for an endpoint that is gone."""
    c = delivery_numbers.c
    await tx.run(delete(delivery_numbers).where(c.org_id == org, c.endpoint_id == endpoint_id))
