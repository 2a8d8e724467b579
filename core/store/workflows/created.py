"""Records that workflows make: written with the decision that made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.domain.frozen import frozen
from core.domain.records.standard import DEFAULTS
from core.store.records import identifiers, own_fields, pipelines, record_events, unsubscribed_field
from core.store.records.record_rows import Draft, Record, Written, save
from core.store.transaction import Transaction


@frozen
class NewRecord:
    """A record to make under an id that is known already."""

    org_id: str
    id: str
    record_type: str
    fields: Mapping[str, Any]
    """Dotted path to value in stored form."""
    actor: str
    cause: str


async def create_many(tx: Transaction, new: Iterable[NewRecord]) -> list[Written]:
    """Make records, of any organizations, and tell the organizations' endpoints.

    A contact whose e-mail somebody else has is made without it, and so is any record without own fields that do not
    fit.
    """
    wanted = await own_fields.left_out(tx, list(new))
    changes = [identifiers.Change(one.org_id, one.id, one.record_type, one.fields) for one in wanted]
    taken = await identifiers.claim_changed(tx, changes)
    placed = await _placed(tx, wanted)
    drafts = []
    for one in wanted:
        draft = Draft(Record(one.org_id, one.id, one.record_type, {}, 1, tx.now, tx.now), created=True)
        fields = placed.get(one.id, one.fields)
        fields = {name: value for name, value in fields.items() if name != "email" or one.id not in taken}
        draft.patch({**DEFAULTS.get(one.record_type, {}), **fields}, one.actor, one.cause)
        drafts.append(draft)
    written = await save(tx, drafts)
    await record_events.announce(tx, written)
    await unsubscribed_field.heed(tx, drafts)
    return written


async def _placed(tx: Transaction, new: Iterable[NewRecord]) -> dict[str, Mapping[str, Any]]:
    """Return the fields of new opportunities with their stages; a stage that there is not is left out."""
    return {
        one.id: await pipelines.placed(tx.within(one.org_id), one.id, {}, one.fields)
        for one in new
        if one.record_type == pipelines.OPPORTUNITY
    }
