"""Who gets an event: the endpoints that want it, and in which form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from core.domain.frozen import frozen
from core.domain.webhooks.bodies import Addresses, PayloadFormat
from core.domain.webhooks.states import EndpointState, Ordering
from core.store.keys import these
from core.store.records.record_rows import records
from core.store.transaction import Transaction
from core.store.webhooks.endpoints import endpoints


@frozen
class Subscriber:
    """An endpoint, as far as being told of events goes."""

    id: str
    event_types: frozenset[str]
    """Names of those it wants; empty for all."""
    filter: str
    form: PayloadFormat
    disabled: bool
    ordered: bool
    """It gets messages about the same contact strictly one after the other."""

    def wants(self, event_type: str, only: str | None = None) -> bool:
        """Tell whether it is told of a type of event; `only` names the one endpoint that an event is for."""
        return self.id == only if only else not self.event_types or event_type in self.event_types


async def anybody_wants(tx: Transaction, event_type: str) -> bool:
    """Tell whether an endpoint of the transaction's organization is told of a type, as things are; it holds none."""
    rows = await tx.all(select(endpoints.c.event_types).where(endpoints.c.state != EndpointState.DISABLED))
    return any(not row.event_types or event_type in row.event_types for row in rows)


async def of(tx: Transaction, org_ids: Iterable[str]) -> dict[str, list[Subscriber]]:
    """Return each organization's endpoints in every state, in one query.

    None of them is deleted before the transaction ends. Any number of writers hold them so side by side, and only who
    deletes one waits for them.
    """
    names = ("org_id", "id", "event_types", "filter", "payload_format", "state", "ordering")
    rows = await tx.all(
        select(*(endpoints.c[name] for name in names))
        .where(endpoints.c.org_id.in_(sorted(set(org_ids))))
        .order_by(endpoints.c.org_id, endpoints.c.id)
        .with_for_update(read=True, key_share=True)
    )
    found: dict[str, list[Subscriber]] = {}
    for row in rows:
        one = Subscriber(
            id=row.id,
            event_types=frozenset(row.event_types),
            filter=row.filter,
            form=PayloadFormat(row.payload_format),
            disabled=row.state == EndpointState.DISABLED,
            ordered=row.ordering == Ordering.BY_CONTACT,
        )
        found.setdefault(row.org_id, []).append(one)
    return found


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
