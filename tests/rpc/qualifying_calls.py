"""Calls of QualificationService and ApprovalService handlers as the pipeline makes them: each in its transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import func, select

from core import ids
from core.clock import ManualClock
from core.rpc.approvals import approvals
from core.rpc.call import Call, Caller, Parts
from core.rpc.convert import from_value, to_struct
from core.rpc.qualification import qualification, scoring_models
from core.settings import Settings
from core.store.database import Database
from core.store.organizations import members
from core.store.records import records
from dripstone.v1 import approval_pb2, qualification_pb2

ORG = "org_main"
AGENT = "key_agent"
PERSON = "mem_grace"

HOT = {"employees": 120, "country": "DE", "job_title": "Head of Revenue"}
WARM = {"employees": 120, "country": "DE", "job_title": "Buyer"}
"""Contacts: one that needs an approval, one that does not."""

MODEL = """
title: Inbound
qualified_at: 60
nurture_at: 30
tiers: [{name: A, from: 70}, {name: B, from: 45}, {name: C, from: 0}]
disqualify:
  - {id: competitor, when: 'contact.industry == "competitor"'}
fit:
  cap: 70
  rules:
    - {id: size, when: contact.employees >= 50, points: 40}
    - {id: country, when: 'contact.country in ["DE", "AT"]', points: 20}
    - {id: title, when: 'contact.job_title.contains("Head")', points: 10}
engagement:
  cap: 40
  window: 30d
  rules:
    - {id: demo, event: demo.requested, points: 30}
routing: {method: round_robin, members: [ada@example.com, bob@example.com]}
approval: {when: tier == "A", reason: A named account}
on_qualified: {set: {custom: {desk: emea}}}
"""


@dataclass
class Engine:
    """Stands where the engine is told of decided approvals."""

    told: list[tuple[str, bool, str]] = field(default_factory=list)

    async def approval_decided(self, tx: Any, row: Any, approved: bool, decider: str, comment: str) -> None:
        self.told.append((row.subject_id, approved, decider))


@dataclass
class Service:
    """An organization with two salespeople and a model."""

    database: Database
    clock: ManualClock
    engine: Engine = field(default_factory=Engine)

    @property
    def parts(self) -> Parts:
        """Return the parts of the process that handlers use."""
        settings = Settings(database_url="", data_dir=Path())
        return Parts(self.database, self.clock, settings, self.engine, None, None)  # type: ignore[arg-type]

    async def __call__(
        self, handler: Callable[[Any, Call], Awaitable[Any]], request: Message, *, by: str = AGENT, org: str = ORG
    ) -> Any:
        caller = Caller(org, by, "member" if by.startswith("mem_") else "agent", by, frozenset())
        async with self.database.write(org) as tx:
            return await handler(request, Call(caller, tx.now, self.parts, ids.mint("req", tx.now), {}, tx))

    async def prepare(self) -> None:
        async with self.database.write(ORG) as tx:
            for name in ("ada", "bob"):
                member = {"id": f"mem_{name}", "email": f"{name}@example.com", "display_name": name.title()}
                await tx.insert(members.members, [{**member, "role": "editor", "created_at": tx.now}])
        await self.publish(MODEL)

    async def publish(self, source: str, model_id: str = "default") -> qualification_pb2.ScoringModel:
        request = qualification_pb2.PublishScoringModelRequest(model_id=model_id, source=source)
        return await self(scoring_models.publish_scoring_model, request)

    async def contact(self, email: str, **fields: Any) -> str:
        async with self.database.write(ORG) as tx:
            written = await records.upsert(tx, "contact", {"email": email, **fields}, actor="key_crm", cause="import")
        return written.record.id

    async def change(self, record_id: str, **fields: Any) -> None:
        async with self.database.write(ORG) as tx:
            await records.update(tx, record_id, fields, actor="key_crm", cause="edit")

    async def fields_of(self, record_id: str) -> dict[str, Any]:
        async with self.database.read(ORG) as tx:
            record = await records.get(tx, record_id)
        assert record is not None
        return dict(record.fields)

    async def preview(self, **values: Any) -> qualification_pb2.QualifyLeadResponse:
        return await self._qualify(qualification_pb2.QUALIFY_MODE_PREVIEW, values)

    async def commit(self, *, by: str = AGENT, org: str = ORG, **values: Any) -> qualification_pb2.QualifyLeadResponse:
        return await self._qualify(qualification_pb2.QUALIFY_MODE_COMMIT, values, by, org)

    async def _qualify(
        self, mode: qualification_pb2.QualifyMode, values: dict[str, Any], by: str = AGENT, org: str = ORG
    ) -> qualification_pb2.QualifyLeadResponse:
        if "fields" in values:
            values["fields"] = to_struct(values["fields"])
        request = qualification_pb2.QualifyLeadRequest(mode=mode, **values)
        return await self(qualification.qualify_lead, request, by=by, org=org)

    async def decide(
        self, approval_id: str, approved: bool = True, *, by: str = PERSON, **values: Any
    ) -> approval_pb2.Approval:
        decision = approval_pb2.APPROVAL_DECISION_APPROVE if approved else approval_pb2.APPROVAL_DECISION_REJECT
        request = approval_pb2.DecideApprovalRequest(approval_id=approval_id, decision=decision, **values)
        return await self(approvals.decide_approval, request, by=by)


def changes(response: qualification_pb2.QualifyLeadResponse) -> dict[str, Any]:
    return {one.field: from_value(one.new_value) for one in response.planned_changes}


async def record_count(database: Database) -> int:
    async with database.read(ORG) as tx:
        row = await tx.first(select(func.count().label("there")).select_from(records.records))
    assert row is not None
    return int(row.there)
