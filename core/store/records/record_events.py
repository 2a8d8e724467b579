"""What others are told of written records: endpoints `record.created` and `record.updated`, workflows the change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from core.domain import names
from core.domain.effects import Emit
from core.store.records import record_triggers
from core.store.records.record_rows import Written
from core.store.transaction import Transaction
from core.store.webhooks import deliveries, subscribers
from core.store.webhooks.deliveries import Emission

Triggers = Literal["all", "new", "none"]
"""Whether workflows are told of what is written: of everything, of what is created, of nothing."""


async def announce(tx: Transaction, written: Iterable[Written], triggers: Triggers = "all") -> None:
    """Tell the organization's endpoints which records were created and what changed in others, and workflows too.

    `triggers` says which of it workflows are told.
    """
    told = [item for item in written if item.created or item.changes]
    await tell_endpoints(tx, told)
    if triggers != "none":
        await record_triggers.note(tx, [item for item in told if item.created or triggers == "all"])


async def tell_endpoints(tx: Transaction, written: Iterable[Written]) -> None:
    """Tell the organization's endpoints alone: what a merge changes was told to workflows when it was first written."""
    told = [item for item in written if item.created or item.changes]
    if not told:
        return
    there = await subscribers.of(tx, {item.record.org_id for item in told})
    heard = [item for item in told if any(one.wants(_type(item)) for one in there.get(item.record.org_id, ()))]
    await deliveries.emit(tx, [Emission(item.record.org_id, _event(item)) for item in heard], there)


def _type(item: Written) -> str:
    return "record.created" if item.created else "record.updated"


def _event(item: Written) -> Emit:
    record = item.record
    about = {"record_id": record.id, "record_type": record.type, "actor": item.actor, "cause": item.cause}
    data: dict[str, Any] = about
    event_type = _type(item)
    if item.created:
        data["fields"] = dict(record.fields)
    else:
        data["changes"] = [
            {"field": change.field, "old_value": change.old, "new_value": change.new} for change in item.changes
        ]
    return Emit(names.derive("msg", record.updated_at, record.id, record.rev, event_type), event_type, data)
