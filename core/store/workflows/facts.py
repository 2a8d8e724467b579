"""The facts that decisions look at, gathered for a batch of contacts in as few statements as their workflows need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta

from core.domain.enrollment import Facts, RecordFacts
from core.domain.frozen import frozen
from core.domain.messaging.consent import NOTHING_STORED, Consent
from core.domain.workflow.frequency import LONGEST_PERIOD
from core.store.messages import consent as consents
from core.store.messages import outgoing
from core.store.metadata import write_json
from core.store.records import lists, pipelines
from core.store.transaction import Transaction
from core.store.workflows import claims, records_in_hand
from core.store.workflows.claims import NOBODY, People
from core.store.workflows.records_in_hand import InHand

Contact = tuple[str, str]
"""Organization and contact."""

CAPS_LOOK_BACK = LONGEST_PERIOD + timedelta(days=1)
"""How far back messages count for frequency caps, at most."""

_SURROUNDINGS_SQLITE = (
    "SELECT org_id, '', timezone FROM organizations WHERE org_id IN (SELECT value FROM json_each($1)) UNION ALL "
    "SELECT org_id, id, '' FROM workflows WHERE state = 'paused' AND org_id IN (SELECT value FROM json_each($1))"
)
_SURROUNDINGS_POSTGRESQL = (
    "SELECT org_id, '', timezone FROM organizations WHERE org_id = ANY($1::text[]) UNION ALL "
    "SELECT org_id, id, '' FROM workflows WHERE state = 'paused' AND org_id = ANY($1::text[])"
)


@frozen
class Surroundings:
    """What holds for whole organizations."""

    timezones: Mapping[str, str]
    paused: frozenset[tuple[str, str]]
    """Paused workflows, as organization and workflow."""


async def surroundings(tx: Transaction, orgs: Iterable[str]) -> Surroundings:
    """Return the zones of organizations and which of their workflows are paused."""
    wanted = sorted(set(orgs))
    if not wanted:
        return Surroundings({}, frozenset())
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_SURROUNDINGS_POSTGRESQL, wanted)
    else:
        rows = await tx.fetch(_SURROUNDINGS_SQLITE, write_json(wanted))
    return Surroundings(
        {org: zone for org, workflow, zone in rows if not workflow},
        frozenset((org, workflow) for org, workflow, _ in rows if workflow),
    )


async def gather(
    tx: Transaction,
    wanted: Mapping[Contact, frozenset[str]],
    timezones: Mapping[str, str],
    known: People = NOBODY,
    in_hand: Mapping[Contact, Collection[InHand]] | None = None,
) -> dict[Contact, Facts]:
    """Return what is known of contacts; each maps to what its workflows need beyond contact and lead.

    `in_hand` says which opportunities and own objects they look at.
    """
    found = await claims.contacts_and_leads(tx, wanted, known)
    people, leads = found.contacts, found.leads
    companies: Mapping[Contact, RecordFacts] = {}
    if with_company := _needing(wanted, "company"):
        named = {key: str(people[key].fields.get("company_id") or "") for key in with_company if key in people}
        there = await claims.companies(tx, {(org, named[org, who]) for org, who in named if named[org, who]})
        companies = {key: there[key[0], company] for key, company in named.items() if (key[0], company) in there}
    on_lists = await lists.of_contacts(tx, listed) if (listed := _needing(wanted, "lists")) else {}
    sent = {}
    if capped := _needing(wanted, "sent"):
        sent = await outgoing.sent_lately(tx, capped, tx.now - CAPS_LOOK_BACK)
    others = await records_in_hand.of_contacts(tx, in_hand) if in_hand else {}
    staged = _needing(wanted, "pipelines")
    stages = await pipelines.of_organizations(tx, {org for org, _ in staged}) if staged else {}
    stored: Mapping[Contact, Consent] = {}
    if asked := _needing(wanted, "consent"):
        keys = {key: consents.keys_of(key, people[key].fields) if key in people else () for key in asked}
        stored = await consents.of_contacts(tx, keys)
    return {
        key: Facts(
            contact=people.get(key) or RecordFacts(key[1], "contact", {}),
            lead=leads.get(key),
            company=companies.get(key),
            lists=on_lists.get(key, frozenset()),
            sent=sent.get(key, ()),
            organization_timezone=timezones.get(key[0], ""),
            consent=stored.get(key, NOTHING_STORED),
            records=others.get(key, {}),
            pipelines=stages.get(key[0], ()),
        )
        for key in wanted
    }


def _needing(wanted: Mapping[Contact, frozenset[str]], what: str) -> list[Contact]:
    return [key for key, needs in wanted.items() if what in needs]
