"""What was known of leads at an instant: the same as in a world that stopped there, whatever came later."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from core import ids
from core.clock import ManualClock
from core.domain.qualification.claims import Claim, settle
from core.domain.qualification.facts import LeadFacts
from core.domain.qualification.parse import compiled
from core.domain.qualification.score import score
from core.store.database import Database
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.merging import merging, unmerging
from core.store.qualification import lead_facts
from core.store.qualification.lead_facts import Needs, Wanted
from core.store.records import records
from core.store.transaction import Transaction

pytestmark = pytest.mark.anyio

ORG = "org_a"
WHO = {"actor": "key_1", "cause": "call:1"}
MODEL = compiled("""
title: Inbound
qualified_at: 60
tiers: [{name: A, from: 70}, {name: B, from: 30}, {name: C, from: 0}]
fresh_for: 5d
fit:
  half_life: 3d
  rules:
    - {id: size, when: contact.employees >= 5, points: 30}
    - {id: city, when: 'contact.city in ["X", "Y"]', points: 20}
    - {id: plan, when: 'contact.custom.plan == "pro"', points: 10}
    - {id: source, when: 'lead.source == "web"', points: 10}
engagement:
  window: 9d
  half_life: 2d
  rules:
    - {id: demo, event: demo.requested, points: 10, per: each, max_points: 40}
    - {id: seen, event: pricing.viewed, points: 9, at_least: 2}
""")
NEEDS = Needs.of([MODEL], provenance=True)
CLAIM = ("contact.employees", 90, "https://example.com")


@dataclass
class World:
    """An organization to which things happen, and what was known of every lead after each of them."""

    database: Database
    clock: ManualClock
    chance: Random
    contacts: list[str] = field(default_factory=list)
    leads: list[str] = field(default_factory=list)
    merges: list[str] = field(default_factory=list)
    known: list[tuple[datetime, dict[str, LeadFacts]]] = field(default_factory=list)

    async def live(self, count: int) -> None:
        for number in range(2):
            await self.person(number)
        for number in range(count):
            self.clock.advance(timedelta(hours=self.chance.randint(1, 12)))
            async with self.database.write(ORG) as tx:
                await self.happen(tx, number)
            async with self.database.read(ORG) as tx:
                self.known.append((self.clock.now(), await look(tx, self.leads)))

    async def person(self, number: int) -> None:
        async with self.database.write(ORG) as tx:
            await self._person(tx, number)

    async def _person(self, tx: Transaction, number: int) -> None:
        fields = {"email": f"p{number}-{len(self.contacts)}@example.com", "city": self.chance.choice("XYZ")}
        contact = (await records.upsert(tx, "contact", fields, actor="key_1", cause="call:1")).record
        lead = {"contact_id": contact.id, "source": self.chance.choice(["web", "fair"])}
        self.contacts.append(contact.id)
        self.leads.append((await records.upsert(tx, "lead", lead, actor="key_1", cause="call:1")).record.id)

    async def happen(self, tx: Transaction, number: int) -> None:
        standing = sorted(await records.get_many(tx, self.contacts))
        who = self.chance.choice(standing)
        match self.chance.choice(["field", "field", "event", "event", "late", "lead", "person", "merge", "undo"]):
            case "field":
                patches: list[dict[str, Any]] = [{"city": None}, {"city": "X"}, {"custom.plan": "pro"}]
                patch = self.chance.choice([*patches, {"employees": self.chance.randint(1, 9)}])
                await records.update(tx, who, patch, **WHO)
            case "event":
                await self._event(tx, who, tx.now)
            case "late":
                await self._event(tx, who, tx.now - timedelta(hours=self.chance.randint(1, 90)))
            case "lead":
                await records.update(tx, self.chance.choice(self.leads), {"source": "web"}, **WHO)
            case "person":
                await self._person(tx, number)
            case "merge" if len(standing) > 1:
                kept, merged = self.chance.sample(standing, 2)
                self.merges.append((await merging.merge(tx, kept, merged, **WHO)).id)
            case "undo" if self.merges:
                await unmerging.undo(tx, self.merges.pop(), actor="key_1")

    async def _event(self, tx: Transaction, contact_id: str, at: datetime) -> None:
        name = self.chance.choice(["demo.requested", "pricing.viewed", "other"])
        event = NewEvent(ids.mint("evt", tx.now), "src_1", "action", name, {}, contact_id, at, ids.mint("evt", tx.now))
        await events.store(tx, [event])


async def look(tx: Transaction, lead_ids: list[str], as_of: datetime | None = None) -> dict[str, LeadFacts]:
    """Return what is known of leads now, or was at an instant."""
    found = await records.get_many(tx, lead_ids)
    pairs = await lead_facts.leads_with_contacts(tx, [found[one] for one in lead_ids if one in found])
    wanted = [Wanted(lead, contact, as_of or tx.now, past=as_of is not None) for lead, contact in pairs]
    loaded = await lead_facts.load(tx, wanted, NEEDS)
    return {facts.lead.id: facts for facts in loaded}


@pytest.mark.parametrize("seed", range(2))
async def test_what_was_known_then_is_what_a_world_that_stopped_there_knows(
    database: Database, clock: ManualClock, seed: int
) -> None:
    world = World(database, clock, Random(seed))
    await world.live(22)
    async with database.read(ORG) as tx:
        for as_of, known in world.known:
            then = await look(tx, sorted(known), as_of)
            for lead_id, facts in known.items():
                for name in ("contact", "lead", "events", "origins"):
                    assert getattr(then[lead_id], name) == getattr(facts, name), f"{name} as of {as_of}"
            assert then == known
            for contact in world.contacts:
                own = [one for one, facts in known.items() if facts.lead.fields["contact_id"] == contact]
                newest = await lead_facts.newest_lead_then(tx, contact, as_of)
                assert (newest.id if newest else None) == max(own, default=None)
            claims = [Claim(*CLAIM, observed_at=as_of + timedelta(hours=number), confidence=0.9) for number in (-1, 1)]
            for facts in then.values():
                settled = settle(MODEL, facts, claims)
                assert claims[1] in settled.ignored  # seen later: never read
                assert score(MODEL, facts) == score(MODEL, known[facts.lead.id])


async def test_leads_read_together_are_as_if_read_alone_each_at_its_own_instant(
    database: Database, clock: ManualClock
) -> None:
    world = World(database, clock, Random(7))
    await world.live(15)
    moments = [known for known in world.known if world.leads[0] in known[1]]
    async with database.read(ORG) as tx:
        records_now = await records.get_many(tx, world.leads[:2])
        pairs = await lead_facts.leads_with_contacts(tx, [records_now[one] for one in world.leads[:2]])
        wanted = [Wanted(lead, contact, as_of, past=True) for as_of, _ in moments for lead, contact in pairs]
        together = await lead_facts.load(tx, wanted, NEEDS)
    assert together == [known[lead.id] for _, known in moments for lead, _ in pairs]


async def test_an_event_that_is_announced_counts_only_once_it_has_happened(
    database: Database, clock: ManualClock
) -> None:
    world = World(database, clock, Random(1))
    await world.person(0)
    async with database.write(ORG) as tx:
        ahead = tx.now + timedelta(hours=10)
        name = "demo.requested"
        await events.store(
            tx, [NewEvent(ids.mint("evt", tx.now), "s", "action", name, {}, world.contacts[0], ahead, "m")]
        )
    scores = []
    for hours in (9, 1):
        clock.advance(timedelta(hours=hours))
        async with database.read(ORG) as tx:
            (facts,) = (await look(tx, world.leads)).values()
            scores.append(score(MODEL, facts).engagement)
    assert scores == [0, 10]


async def test_only_what_a_model_looks_at_is_read(database: Database, clock: ManualClock) -> None:
    world = World(database, clock, Random(1))
    await world.person(0)
    rule = "{id: a, when: 'contact.employees > 5', points: 5}"
    plain = compiled(f"{{title: T, qualified_at: 5, tiers: [{{name: A, from: 0}}], fit: {{rules: [{rule}]}}}}")
    async with database.read(ORG) as tx:
        lead = await records.get(tx, world.leads[0])
        assert lead is not None
        (contact,) = (await records.get_many(tx, world.contacts)).values()
        (facts,) = await lead_facts.load(tx, [Wanted(lead, contact, tx.now)], Needs.of([plain]))
        assert (facts.origins, facts.events) == ({}, ())
        (facts,) = await lead_facts.load(tx, [Wanted(lead, contact, tx.now)], Needs.of([MODEL]))
        assert sorted(facts.origins) == ["contact.city", "lead.source"]
