"""The contact's field `unsubscribed` is an answer, whoever sets it: stored, told and heeded like one of SetConsent.

Refusing by it is always taken. Granting by it is not, where the contact themself refused: that takes SetConsent and a
reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.domain.errors import Violation
from core.domain.messaging.consent import EVERY
from core.store.events import refusing
from core.store.events.refusing import FIELD as FIELD
from core.store.events.refusing import Said
from core.store.records.record_rows import Draft, Record
from core.store.transaction import StaleEnrollment, Transaction

_REASON = "The field unsubscribed was set."


def grants(record: Record | None, patch: Mapping[str, Any]) -> bool:
    """Tell whether setting these fields of a record says that it may be sent messages again."""
    return record is not None and _is_refusal(record) and FIELD in patch and patch[FIELD] is not True


async def overridden(
    tx: Transaction, patches: Iterable[tuple[Record | None, Mapping[str, Any]]]
) -> dict[tuple[str, str], str]:
    """Return the contacts, as `(organization, id)`, that refused themselves what patches grant, and who said so."""
    granting = [(record.org_id, record.id) for record, patch in patches if record is not None and grants(record, patch)]
    own = await refusing.own_refusals(tx, granting)
    return {key: str(row.actor) for key, row in own.items()}


def refused_themself(path: str, actor: str) -> Violation:
    """Return why the field is not set: the contact refused, as `actor` tells."""
    message = f"stays true: the contact refused messages ({actor})"
    hint = "Use SetConsent with granted and the reason, such as where and how the contact agreed since."
    return Violation(path, "REFUSED_BY_CONTACT", message, hint)


async def heed(tx: Transaction, drafts: Iterable[Draft]) -> None:
    """Carry out what drafts that were saved in this transaction say by the field; their records are held."""
    for draft in drafts:
        changes = [one for one in draft.history if one[0].field == FIELD] if draft.record.type == "contact" else []
        if changes:
            before, (after, actor, cause) = changes[0][0].old is True, changes[-1]
            said = Said(actor, cause, draft.record.id, reason=_REASON)
            await _heed(tx.within(draft.record.org_id), draft.record, said, before, after.new is True)


async def _heed(tx: Transaction, contact: Record, said: Said, before: bool, after: bool) -> None:
    if after and not before:
        await refusing.withdraw(tx, contact, EVERY, EVERY, said)
    elif before and not after:
        if await refusing.own_refusals(tx, [(contact.org_id, contact.id)]):
            raise StaleEnrollment(f"{contact.id} refused while this waited for it")  # carried out again, it is told
        await refusing.grant(tx, contact, EVERY, EVERY, said)


def _is_refusal(record: Record) -> bool:
    return record.type == "contact" and record.fields.get(FIELD) is True
