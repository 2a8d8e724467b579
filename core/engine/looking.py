"""What decisions look at, gathered for a batch of them: what their versions read, and the records they are about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.domain.enrollment import Enrollment, Facts
from core.domain.frozen import frozen
from core.domain.workflow.version import Version
from core.store.transaction import Transaction
from core.store.workflows import facts as fact_store
from core.store.workflows.claims import NOBODY, People
from core.store.workflows.facts import Contact, Surroundings
from core.store.workflows.records_in_hand import InHand


@frozen
class Look:
    """A contact that a decision is about, and by which version it is made."""

    contact: Contact
    version: Version
    about: Mapping[str, str]
    """The record whose change enrolled the contact or would, id by type."""

    @classmethod
    def of(cls, enrollment: Enrollment, version: Version) -> Look:
        """Return the look at an enrollment."""
        return cls((enrollment.org_id, enrollment.contact_id), version, enrollment.about)


async def facts_for(
    tx: Transaction, looks: Iterable[Look], around: Surroundings, people: People = NOBODY
) -> dict[Contact, Facts]:
    """Return what is known of contacts: no more than what the versions read that decide about them."""
    wanted: dict[Contact, frozenset[str]] = {}
    in_hand: dict[Contact, set[InHand]] = {}
    for one in looks:
        wanted[one.contact] = wanted.get(one.contact, frozenset()) | one.version.needs
        if one.version.records:
            named = ((kind, one.about.get(kind, "")) for kind in one.version.records)
            in_hand.setdefault(one.contact, set()).update(named)
    return await fact_store.gather(tx, wanted, around.timezones, people, in_hand)
