"""The engine's parts on a test database, without servers: workflows are published and events sent straight in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from core.clock import ManualClock
from core.domain.enrollment import Enrollment
from core.domain.records.ingestion import IncomingEvent
from core.domain.steps.shapes import Lookups
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from core.engine.driver import EnrollmentDriver
from core.engine.matcher import Matcher
from core.engine.starter import Starter
from core.engine.ticker import Ticker
from core.store.database import Database
from core.store.events import sources
from core.store.events.ingestion import Ingested, ingest
from core.store.organizations.organizations import organizations
from core.store.records import lists, record_schema, records, upserts
from core.store.records.lists import ListChange
from core.store.records.upserts import ContactCandidate
from core.store.webhooks import endpoints
from core.store.webhooks.deliveries import messages
from core.store.workflows import enrollments, workflows
from core.store.workflows.workflows import VersionCache

ORG = "org_a"
MOMENT = timedelta(milliseconds=5)
WAIT = "steps: [{id: pause, kind: wait, for: 30d}]"


@dataclass(slots=True)
class Parts:
    """The loops of one process, turned by the test."""

    database: Database
    clock: ManualClock
    versions: VersionCache = field(default_factory=VersionCache)

    @property
    def driver(self) -> EnrollmentDriver:
        """Return the driver."""
        return EnrollmentDriver(self.versions)

    @property
    def matcher(self) -> Matcher:
        """Return the matcher."""
        return Matcher(self.database, self.driver, self.versions)

    @property
    def starter(self) -> Starter:
        """Return the starter."""
        return Starter(self.database, self.driver, self.versions)

    async def begin(self) -> None:
        """Make an organization with a source."""
        async with self.database.write(ORG) as tx:
            row = {"display_name": "Acme", "timezone": "Europe/Berlin", "created_at": tx.now}
            await tx.insert(organizations, [row])
            await sources.create(tx, "web", "Web form", "webhook")
            await endpoints.create(
                tx, "ep_1", url="https://x.test/", description="", event_types=[], retry_preset="standard",
                secret="whsec_x",
            )  # fmt: skip

    async def publish(self, text: str, workflow_id: str = "w") -> None:
        """Write a workflow and publish it; one that is there gets a new version."""
        document = parse(text if "steps:" in text else f"{text}\n{WAIT}")
        async with self.database.write(ORG) as tx:
            await workflows.create(tx, workflow_id, title=workflow_id, source=text, document=document)
            row = await workflows.get(tx, workflow_id)
            assert row is not None
            row = await workflows.update_draft(tx, row, title=workflow_id, source=text, document=document)
            number = row.published_version + 1
            lookups = Lookups(schema=await record_schema.of(tx))
            compiled = compile_document(document, lookups, workflow_id=workflow_id, number=number)
            assert compiled.version is not None, compiled.problems
            await workflows.publish(tx, row, compiled.version, "key_1")

    async def contact(self, email: str, company_id: str = "", **fields: Any) -> str:
        """Make or change a contact and return its id."""
        more = {"company_id": company_id} if company_id else {}
        return await self._upsert("contact", {"email": email, **more, **fields})

    async def contacts(self, count: int, **fields: Any) -> list[str]:
        """Make many contacts, in the order of their ids."""
        candidates = [ContactCandidate({"email": f"c{n}@example.com", **fields}) for n in range(count)]
        async with self.database.write(ORG) as tx:
            found = await upserts.resolve_contacts(tx, candidates, actor="key_1", cause="test")
        return sorted(one.contact_id for one in found)

    async def lead(self, contact_id: str, **fields: Any) -> str:
        """Make a lead and return its id."""
        return await self._upsert("lead", {"contact_id": contact_id, **fields})

    async def company(self, **fields: Any) -> str:
        """Make a company and return its id."""
        return await self._upsert("company", fields)

    async def opportunity(self, **fields: Any) -> str:
        """Make an opportunity and return its id."""
        return await self._upsert("opportunity", fields)

    async def own(self, record_type: str, **fields: Any) -> str:
        """Make an object of an own type and return its id."""
        return await self._upsert(record_type, fields)

    async def _upsert(self, record_type: str, fields: Mapping[str, Any]) -> str:
        self.clock.advance(MOMENT)
        async with self.database.write(ORG) as tx:
            return (await records.upsert(tx, record_type, fields, actor="key_1", cause="test")).record.id

    async def change(self, record_id: str, **fields: Any) -> None:
        """Change a record."""
        async with self.database.write(ORG) as tx:
            await records.update(tx, record_id, fields, actor="key_1", cause="test")

    async def put_on(self, name: str, *contact_ids: str, on: bool = True) -> None:
        """Put contacts on a list, or take them off."""
        async with self.database.write(ORG) as tx:
            await lists.change(tx, [ListChange(ORG, name, one, on, "key_1") for one in contact_ids])

    async def send(
        self, name: str, email: str = "", source: str = "web", *, ago: timedelta | None = None, **fields: Any
    ) -> str:
        """Take an event in and return its id; it happened now, or so long ago."""
        about = {"email": email} if email else {}
        created_at = "" if ago is None else (self.clock.now() - ago).isoformat()
        taken = await self._ingest(IncomingEvent("action", name, source, {**about, **fields}, created_at=created_at))
        assert taken.status == "accepted", taken.violations
        return taken.event_id

    async def send_many(self, name: str, each: Iterable[Mapping[str, Any]]) -> None:
        """Take in many events of one name in one call."""
        self.clock.advance(MOMENT)
        async with self.database.write(ORG) as tx:
            await ingest(tx, [IncomingEvent("action", name, "web", fields) for fields in each], actor="key_1")

    async def refused(self, name: str, **fields: Any) -> list[str]:
        """Send an event that is refused, and return the reasons."""
        taken = await self._ingest(IncomingEvent("action", name, "web", fields))
        assert taken.status == "rejected"
        return [violation.reason for violation in taken.violations]

    async def _ingest(self, event: IncomingEvent) -> Ingested:
        self.clock.advance(MOMENT)  # ids sort by their instant
        async with self.database.write(ORG) as tx:
            (taken,) = await ingest(tx, [event], actor="key_1")
        return taken

    async def settle(self) -> int:
        """Turn every loop until nothing is left to do at this instant; return how much there was."""
        ticker = Ticker(self.database, self.driver)
        total = 0
        while handled := await self.matcher.turn() + await self.starter.turn() + await ticker.turn():
            total += handled
        return total

    async def pass_time(self, by: timedelta) -> None:
        """Let time pass in one leap, then settle."""
        self.clock.advance(by)
        await self.settle()

    async def enrolled(self, workflow_id: str = "w") -> list[Enrollment]:
        """Return a workflow's enrollments, oldest first."""
        table = enrollments.enrollments
        async with self.database.read(ORG) as tx:
            rows = await tx.all(select(table).where(table.c.workflow_id == workflow_id).order_by(table.c.id))
        return [enrollments.to_domain(row) for row in rows]

    async def told(self, event_type: str) -> int:
        """Return how many outbound events of a type there are."""
        async with self.database.read(ORG) as tx:
            return len(await tx.all(select(messages).where(messages.c.event_type == event_type)))
