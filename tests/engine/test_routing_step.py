"""The step assign_owner with a routing: the lead, the turn and the enrollment move in one transaction."""

from __future__ import annotations

import pytest

from core.clock import ManualClock
from core.domain.routing.availability import Availability
from core.engine.answers import assign_owner
from core.engine.driver import EnrollmentDriver
from core.store.database import Database
from core.store.organizations import members
from core.store.qualification import assignments, availability, routings
from core.store.records import records
from tests.engine.parts import ORG, Parts

pytestmark = pytest.mark.anyio

FLOW = """
triggers: [{event: asked}]
steps:
  - {id: give, kind: assign_owner, routing: default, on_error: continue}
  - {id: mark, kind: update, set: {city: "{{ steps.give.owner_id }}"}}
"""


class Routed(Parts):
    """Parts whose steps may ask who gets a lead."""

    @property
    def driver(self) -> EnrollmentDriver:
        """Return the driver."""
        driver = EnrollmentDriver(self.versions)
        driver.answer("assign_owner", assign_owner)
        return driver


async def test_a_routing_gives_the_lead_in_the_transaction_of_the_step(database: Database, clock: ManualClock) -> None:
    parts = Routed(database, clock)
    await parts.begin()
    async with database.write(ORG) as tx:
        person = {"id": "mem_ada", "email": "ada@example.com", "display_name": "Ada", "role": "editor"}
        await tx.insert(members.members, [{**person, "created_at": tx.now}])
        await availability.put(tx, "mem_ada", Availability(open_capacity=1))
        source = "title: T\ncatch_all: {members: [ada@example.com]}"
        await routings.publish(tx, "default", title="T", source=source, published_by="key_1")
    await parts.publish(FLOW)
    contacts = [await parts.contact(f"{name}@example.com") for name in ("ida", "joe", "kim")]
    leads = [await parts.lead(contact) for contact in contacts[:2]]
    for name in ("ida", "joe", "kim"):
        await parts.send("asked", f"{name}@example.com")
        await parts.settle()
    async with database.read(ORG) as tx:
        (given,) = await tx.all(assignments.listed())
        there = await records.get_many(tx, [*contacts, *leads])
    enrolled = await parts.enrolled()
    assert (given.lead_id, given.actor) == (leads[0], "workflow:w")
    assert given.cause.startswith(f"enrollment:{enrolled[0].id}/")
    assert [there[one].fields.get("owner_id") for one in (*leads, contacts[0])] == ["mem_ada", None, "mem_ada"]
    assert [there[one].fields.get("city") for one in contacts] == ["mem_ada", None, None]
    assert [one.state for one in enrolled] == ["completed"] * 3  # nobody had room, and kim has no lead: they went on
