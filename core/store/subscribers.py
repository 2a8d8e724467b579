"""Who gets an event: the endpoints that want it, in which form, and at which position among their messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from core.domain.frozen import frozen
from core.domain.webhooks.bodies import Addresses, PayloadFormat
from core.domain.webhooks.states import EndpointState
from core.store.endpoints import endpoints
from core.store.keys import these
from core.store.record_rows import records
from core.store.transaction import Transaction

EndpointKey = tuple[str, str]
"""Organization and endpoint."""


@frozen
class Subscriber:
    """An endpoint, as far as being told of events goes."""

    id: str
    event_types: frozenset[str]
    """Names of those it wants; empty for all."""
    filter: str
    form: PayloadFormat
    disabled: bool

    def wants(self, event_type: str, only: str | None = None) -> bool:
        """Tell whether it is told of a type of event; `only` names the one endpoint that an event is for."""
        return self.id == only if only else not self.event_types or event_type in self.event_types


async def of(tx: Transaction, org_ids: Iterable[str]) -> dict[str, list[Subscriber]]:
    """Return each organization's endpoints in every state, in one query.

    None of them is deleted before the transaction ends: else a delivery could wait for ever for one that is gone.
    """
    names = ("org_id", "id", "event_types", "filter", "payload_format", "state")
    rows = await tx.all(
        select(*(endpoints.c[name] for name in names))
        .where(endpoints.c.org_id.in_(sorted(set(org_ids))))
        .order_by(endpoints.c.org_id, endpoints.c.id)
        .with_for_update(read=True, key_share=True)
    )
    found: dict[str, list[Subscriber]] = {}
    for row in rows:
        disabled = row.state == EndpointState.DISABLED
        form = PayloadFormat(row.payload_format)
        found.setdefault(row.org_id, []).append(
            Subscriber(row.id, frozenset(row.event_types), row.filter, form, disabled)
        )
    return found


_LOCK = "SELECT 1 FROM endpoints WHERE org_id = ANY($1::text[]) ORDER BY org_id, id FOR NO KEY UPDATE"
_NUMBER_POSTGRESQL = (
    "UPDATE endpoints e SET last_sequence = e.last_sequence + more.number "
    "FROM unnest($1::text[], $2::text[], $3::bigint[]) AS more(org_id, id, number) "
    "WHERE e.org_id = more.org_id AND e.id = more.id RETURNING e.org_id, e.id, e.last_sequence"
)
_NUMBER_SQLITE = (
    "UPDATE endpoints SET last_sequence = last_sequence + $3 WHERE org_id = $1 AND id = $2 "
    "RETURNING org_id, id, last_sequence"
)


async def hold(tx: Transaction, org_ids: Iterable[str]) -> None:
    """Take on PostgreSQL what `emit` will take, before anything else of these organizations' endpoints is held.

    Whoever changes an endpoint and then tells of it would else hold that one, want those before it, and meet somebody
    who holds those and wants that one.
    """
    if tx.dialect == "postgresql":
        await tx.fetch(_LOCK, sorted(set(org_ids)))


async def next_numbers(tx: Transaction, counts: Mapping[EndpointKey, int]) -> dict[EndpointKey, int]:
    """Take so many positions of each endpoint and return the first of them.

    They are without gaps, so nobody else takes any before this transaction ends. On PostgreSQL it holds every endpoint
    of these organizations, in order: what emits twice would else meet another one that holds them the other way round.
    """
    if not counts:
        return {}
    keys = sorted(counts)
    if tx.dialect == "postgresql":
        await hold(tx, (org for org, _ in keys))
        columns = ([org for org, _ in keys], [id_ for _, id_ in keys], [counts[key] for key in keys])
        rows = [tuple(row) for row in await tx.fetch(_NUMBER_POSTGRESQL, *columns)]
    else:
        rows = [tuple(row) for key in keys for row in await tx.fetch(_NUMBER_SQLITE, *key, counts[key])]
    return {(org, id_): last - counts[org, id_] + 1 for org, id_, last in rows}


async def addresses_of(tx: Transaction, contacts: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Addresses]:
    """Return how to reach these contacts (organization, id); who is unknown or erased is left out."""
    wanted = set(contacts)
    if not wanted:
        return {}
    columns = (records.c.org_id, records.c.id, records.c.fields)
    rows = await tx.all(select(*columns).where(these(records, wanted), records.c.deleted_at.is_(None)))
    return {(row.org_id, row.id): _addresses(row.fields) for row in rows}


def _addresses(fields: Mapping[str, object]) -> Addresses:
    email, phone = fields.get("email"), fields.get("phone")
    return Addresses(email if isinstance(email, str) else "", phone if isinstance(phone, str) else "")
