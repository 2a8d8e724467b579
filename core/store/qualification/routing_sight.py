"""Gathers what a routing sees of a lead: company, owners of the account, people, what they can and did take on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select

from core.domain.enrollment import RecordFacts
from core.domain.frozen import frozen
from core.domain.records import words
from core.domain.records.duplicates import domain_of
from core.domain.routing import environment
from core.domain.routing.availability import Availability
from core.domain.routing.document import MATCHES, Routing
from core.domain.routing.sight import Person, Sight, judged
from core.domain.workflow.zones import Zone
from core.store.organizations.members import MemberState, members
from core.store.organizations.organizations import organizations
from core.store.qualification import availability, routings
from core.store.records import records
from core.store.records.record_rows import records as rows
from core.store.records.record_search import record_words
from core.store.transaction import Transaction

MOST_PEOPLE = 1_000
"""Members that a team is chosen from."""
_MOST_OF_A_DOMAIN = 50
"""Contacts of one domain that are looked at for an owner."""


@frozen
class Seen:
    """What a routing sees, and the zones that its people live in."""

    sight: Sight
    zones: Mapping[str, Zone]
    """By member."""


async def see(
    tx: Transaction,
    routing_id: str,
    routing: Routing,
    contact: RecordFacts | None,
    lead: RecordFacts | None,
    excluded: Mapping[str, str],
    also: Iterable[str] = (),
) -> Seen:
    """Return what a routing sees of a lead at this instant; `also` are members to look at besides."""
    company = await _company(tx, contact) if routing.reads_company else None
    account = await _account(tx, routing, contact, company)
    owner = next((account[match] for match in MATCHES if match in account), "")
    unmet, territory = judged(routing, environment.values(contact, lead, company, owner, routing.own))
    wanted = {*routing.names, *account.values(), *also}
    found = await _members(tx, wanted, everybody=routing.has_teams)
    people, zones = await describe(tx, found, lead.id if lead is not None else "")
    sight = Sight(
        at=tx.now,
        people=people,
        unmet=unmet,
        territory=territory,
        account=account,
        turns=await routings.turns_of(tx, routing_id),
        excluded=excluded,
    )
    return Seen(sight, zones)


async def describe(
    tx: Transaction, found: Sequence[Row[Any]], lead_id: str = ""
) -> tuple[tuple[Person, ...], dict[str, Zone]]:
    """Return members as a routing sees them, and their zones; the lead itself is none that they have."""
    here = await tx.first(select(organizations.c.timezone))
    said = await availability.of(tx, (row.id for row in found))
    zones = {member: one.zone(here.timezone if here is not None else "") for member, one in said.items()}
    began = {member: said[member].day_began(tx.now, zones[member]) for member in said}
    today = await availability.got_since(tx, began, but=lead_id)
    open_now = await availability.open_leads(tx, list(said), but=lead_id)
    people = tuple(
        _person(row, said[row.id], tx.now, zones[row.id], today.get(row.id, 0), open_now.get(row.id, 0))
        for row in sorted(found, key=lambda row: str(row.id))
    )
    return people, zones


def _person(row: Row[Any], said: Availability, now: datetime, zone: Zone, today: int, open_now: int) -> Person:
    absence = said.absence(now)
    away = ""
    if absence is not None:
        # Without the reason, which may be of the person's health: everybody who reads assignments is told this.
        away = f"is out of office until {zone.local(absence.end):%Y-%m-%d %H:%M}"
    return Person(
        id=row.id,
        email=row.email,
        name=row.display_name,
        role=row.role,
        removed=row.state != MemberState.ACTIVE,
        away=away,
        working=said.is_working(now, zone),
        today=today,
        open=open_now,
        daily_capacity=said.daily_capacity,
        open_capacity=said.open_capacity,
        territories=said.territories,
        skills=said.skills,
    )


async def _company(tx: Transaction, contact: RecordFacts | None) -> RecordFacts | None:
    company_id = contact.fields.get("company_id") if contact is not None else None
    record = await records.get(tx, company_id) if company_id else None
    return record.facts if record is not None and record.type == "company" else None


async def _account(
    tx: Transaction, routing: Routing, contact: RecordFacts | None, company: RecordFacts | None
) -> dict[str, str]:
    """Return where an owner of the account was found, and who."""
    found: dict[str, str] = {}
    asked = routing.matches
    if "company_owner" in asked and company is not None and (owner := company.fields.get("owner_id")):
        found["company_owner"] = owner
    if "opportunity_owner" in asked and company is not None:
        open_ones = _owners().where(
            rows.c.type == "opportunity",
            rows.c.company_id == company.id,
            or_(rows.c.status == "open", rows.c.status.is_(None)),
        )
        if row := await tx.first(open_ones.order_by(rows.c.id.desc()).limit(1)):
            found["opportunity_owner"] = row.owner_id
    domain = domain_of(contact.fields.get("email")) if "domain_owner" in asked and contact is not None else ""
    if domain and contact is not None and (owner := await _owner_at(tx, domain, contact.id)):
        found["domain_owner"] = owner
    return found


def _owners() -> Any:
    return select(rows.c.owner_id).where(rows.c.deleted_at.is_(None), rows.c.owner_id.is_not(None))


async def _owner_at(tx: Transaction, domain: str, contact_id: str) -> str:
    """Return who owns the newest owned contact with an address of a domain.

    The domain is one of the words by which records are found: no other contact is looked at.
    """
    w = record_words.c
    there = select(w.record_id).where(w.word == words.of_domain(domain), w.field == "email", w.record_id != contact_id)
    same = [row.record_id for row in await tx.all(there.order_by(w.record_id.desc()).limit(_MOST_OF_A_DOMAIN))]
    if not same:
        return ""
    which = (rows.c.id.in_(same), rows.c.type == "contact")
    found = await tx.all(_owners().add_columns(rows.c.fields).where(*which).order_by(rows.c.id.desc()))
    return next((str(row.owner_id) for row in found if domain_of(row.fields.get("email")) == domain), "")


async def members_named(tx: Transaction, names: Iterable[str]) -> list[Row[Any]]:
    """Return the members with these ids and e-mails, also removed ones."""
    wanted = sorted(set(names))
    if not wanted:
        return []
    return list(await tx.all(select(members).where(or_(members.c.id.in_(wanted), members.c.email.in_(wanted)))))


async def _members(tx: Transaction, wanted: Iterable[str], *, everybody: bool) -> list[Row[Any]]:
    """Return the members with these ids and e-mails, also removed ones; `everybody` adds all who are there."""
    found: dict[str, Row[Any]] = {row.id: row for row in await members_named(tx, wanted)}
    if everybody:
        active = select(members).where(members.c.state == MemberState.ACTIVE).order_by(members.c.id)
        found |= {row.id: row for row in await tx.all(active.limit(MOST_PEOPLE))}
    return list(found.values())
