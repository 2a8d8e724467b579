"""The live engine on SQLite under a hand-turned clock, with an outside that answers as a simulation assumes."""

from __future__ import annotations

import heapq
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import select

from core.domain.effects import Ask, CreateTask, Emit, RequestApproval, SendMessage
from core.domain.enrollment import Answered, ApprovalDecided, Enrollment, MessageEnded
from core.domain.records.ingestion import IncomingEvent
from core.domain.workflow.version import Version
from core.engine.driver import EnrollmentDriver, Entry
from core.engine.matcher import Matcher
from core.engine.starter import Starter
from core.engine.ticker import Ticker
from core.simulation import stored
from core.simulation.assumptions import QUALIFIED_AS
from core.simulation.outside import Outside
from core.simulation.subjects import Subject
from core.store.events.ingestion import ingest
from core.store.messages import outgoing
from core.store.records import records, upserts
from core.store.records.records import RecordUpdate
from core.store.transaction import Transaction
from core.store.workflows import enrollments, schedules, statistics
from core.store.workflows import facts as fact_store
from tests.engine.parts import ORG, Parts

MINUTE = timedelta(minutes=1)
MATCHED_AFTER = timedelta(microseconds=1)
"""An event has come in before anything follows from it; what enters by a change that it makes is later than it."""
_PART_OF_A_SECOND = re.compile(r"\.\d{6}(?=\+00:00)")
_ID = re.compile(r"\b[a-z]+_[0-9abcdefghjkmnpqrstvwxyz]{26}\b")

Line = tuple[Any, ...]
"""One entry of a trace, with every minted id replaced: both sides mint their own."""


def line(entry: Any) -> Line:
    """Return an entry as it can be compared."""
    told = _ID.sub("ID", json.dumps([entry.reason, dict(entry.inputs)], default=str, sort_keys=True))
    told = _PART_OF_A_SECOND.sub("", told)
    return (entry.at.replace(microsecond=0), entry.step_id, entry.kind, entry.outcome, entry.exit, told)


def type_of(name: str) -> str:
    """Return the type of an event in these tests: those that make leads are called so."""
    return "lead" if name.startswith("lead.") else "action"


@dataclass(slots=True)
class Live:
    """One workflow run live, stimulus by stimulus."""

    parts: Parts
    workflow_id: str
    outside: Outside
    driver: EnrollmentDriver = field(init=False)
    _answers: list[tuple[datetime, int, Enrollment, Any]] = field(default_factory=list)
    _asked: set[str] = field(default_factory=set)
    _left: set[str] = field(default_factory=set)
    """Messages whose outcome is known."""

    def __post_init__(self) -> None:
        self.driver = EnrollmentDriver(self.parts.versions)
        for service in ("qualify", "assign_owner", "enroll"):
            self.driver.answer(service, self._answer)

    async def subjects(self, contacts: Sequence[Mapping[str, Any]], types: Collection[str] = ()) -> tuple[Subject, ...]:
        """Write contacts into the database and return them, with records of these types, as a simulation reads them."""
        ids = []
        for number, given in enumerate(contacts):
            fields = {name: value for name, value in given.items() if name not in ("lead", "opportunity")}
            ids.append(await self._write("contact", {"email": f"c{number}@example.com", **fields}))
            if "lead" in given:
                await self._write("lead", {"contact_id": ids[-1], "status": "new", **given["lead"]})
            if "opportunity" in given:
                await self._write("opportunity", {"contact_id": ids[-1], **given["opportunity"]})
        await self._match()  # nobody enters by having been made
        async with self.parts.database.read(ORG) as tx:
            return await stored.by_id(tx, ids, types=types)

    async def _write(self, record_type: str, fields: Mapping[str, Any]) -> str:
        async with self.parts.database.write(ORG) as tx:
            return (await upserts.upsert(tx, record_type, fields, actor="key_1", cause="test")).record.id

    async def version(self) -> Version:
        """Return the published version."""
        async with self.parts.database.read(ORG) as tx:
            return await self.parts.versions.load(tx, ORG, self.workflow_id, 1)

    async def run(
        self,
        version: Version,
        entering: Sequence[str],
        events: Sequence[tuple[datetime, str, str, Mapping[str, Any]]],
        end: datetime,
    ) -> None:
        """Enroll contacts and let time pass until the end; events are `(instant, e-mail, name, fields)`."""
        if entering:
            async with self.parts.database.write(ORG) as tx:
                await self.driver.enter(tx, ORG, version, [Entry(one, "simulation") for one in entering])
        coming = sorted(events, key=lambda one: one[0])
        await self._settle()
        while True:
            now = min(
                [*(one[0] for one in coming[:1]), *(one[0] for one in self._answers[:1]), *await self._due()],
                default=end,
            )
            if now >= end:
                return
            self.parts.clock.advance(max(timedelta(), now - self.parts.clock.now()))
            if coming and coming[0][0] == now:
                while coming and coming[0][0] == now:
                    _, email, name, fields = coming.pop(0)
                    await self._send(email, name, fields)
                self.parts.clock.advance(MATCHED_AFTER)
            await self._match()
            while self._answers and self._answers[0][0] == now:
                _, _, enrollment, answer = heapq.heappop(self._answers)
                if isinstance(answer, MessageEnded) and answer.message_id in self._left:
                    continue
                await self._tell(enrollment, answer)
            await self._settle()

    async def lines(self) -> dict[str, list[list[Line]]]:
        """Return the traces of each contact's enrollments, oldest first."""
        found: dict[str, list[list[Line]]] = {}
        entries = enrollments.trace_entries
        async with self.parts.database.read(ORG) as tx:
            for enrollment in await self._enrolled(tx):
                rows = await tx.all(
                    select(entries).where(entries.c.enrollment_id == enrollment.id).order_by(entries.c.seq)
                )
                found.setdefault(enrollment.contact_id, []).append([line(row) for row in rows])
        return found

    async def ends(self) -> dict[str, list[tuple[str, str, str]]]:
        """Return state, step and reason of each contact's enrollments."""
        found: dict[str, list[tuple[str, str, str]]] = {}
        async with self.parts.database.read(ORG) as tx:
            for one in await self._enrolled(tx):
                state = one.state.value if one.state.over else "active"
                found.setdefault(one.contact_id, []).append((state, one.step_id, _ID.sub("ID", one.end_reason)))
        return found

    async def ways(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return how many each way of a split took, and how many of these reached a goal."""
        counts: Counter[tuple[str, str, str]] = Counter()
        async with self.parts.database.read(ORG) as tx:
            for one in await statistics.figures(tx, ORG, self.workflow_id):
                counts[one.outcome, one.step_id, one.exit] += one.count
        return {
            (step, way): (count, counts[statistics.CONVERTED, step, way])
            for (outcome, step, way), count in counts.items()
            if outcome == statistics.DRAWN
        }

    async def _enrolled(self, tx: Transaction) -> list[Enrollment]:
        table = enrollments.enrollments
        statement = select(table).where(table.c.workflow_id == self.workflow_id)
        rows = await tx.all(statement.order_by(table.c.entered_at, table.c.contact_id, table.c.occurrence, table.c.id))
        return [enrollments.to_domain(row) for row in rows]

    async def _due(self) -> list[datetime]:
        async with self.parts.database.read(ORG) as tx:
            rounds = await schedules.standing(tx, self.workflow_id)
            due = [one.due_at for one in await self._enrolled(tx) if one.due_at is not None]
            return [*due, *(one.next_at for one in rounds.values())]

    async def _send(self, email: str, name: str, fields: Mapping[str, Any]) -> None:
        event = IncomingEvent(type_of(name), name, "web", {**fields, "email": email})
        async with self.parts.database.write(ORG) as tx:
            (taken,) = await ingest(tx, [event], actor="key_1")
        assert taken.status == "accepted", taken.violations

    async def _match(self) -> int:
        return await Matcher(self.parts.database, self.driver, self.parts.versions).turn()

    async def _settle(self) -> None:
        """Turn the loops until nothing is left to do at this instant, then hear what was asked of others."""
        ticker = Ticker(self.parts.database, self.driver)
        starter = Starter(self.parts.database, self.driver, self.parts.versions)
        while await starter.turn() or await self._match() or await ticker.turn():
            pass
        await self._end_what_was_taken_back()
        async with self.parts.database.read(ORG) as tx:
            for enrollment in await self._enrolled(tx):
                self._hear(enrollment, await self.version())

    async def _end_what_was_taken_back(self) -> None:
        """Do to awaited messages that have not left what the mailer does once they are not wanted any more."""
        table = outgoing.outgoing_messages
        wanted = (table.c.awaited, table.c.outcome.startswith(outgoing.WITHDRAWN), table.c.id.not_in(self._left))
        async with self.parts.database.write(ORG) as tx:
            for row in await tx.all(select(table).where(*wanted)):
                self._left.add(row.id)
                ended = MessageEnded(row.id, False, row.outcome, row.step_id)
                await self.driver.ended(tx, [(ORG, row.enrollment_id, ended)])

    def _hear(self, enrollment: Enrollment, version: Version) -> None:
        waiting = enrollment.waiting
        if waiting is None or waiting.kind not in _ASKING or waiting.subject in self._asked:
            return
        self._asked.add(waiting.subject)
        effect = _ASKING[waiting.kind](waiting.subject, version.steps[enrollment.step_id].step)
        answer = self.outside.answer(enrollment, effect)
        if answer is not None:
            heapq.heappush(self._answers, (self.parts.clock.now() + answer[0], len(self._asked), enrollment, answer[1]))

    async def _tell(self, enrollment: Enrollment, answer: Any) -> None:
        if isinstance(answer, MessageEnded):
            self._left.add(answer.message_id)
        async with self.parts.database.write(ORG) as tx:
            if isinstance(answer, ApprovalDecided):
                approval = SimpleNamespace(id=answer.approval_id, subject_id=enrollment.id)
                await self.driver.approval_decided(tx, approval, answer.approved, answer.decider, answer.comment)
            else:
                await self.driver.ended(tx, [(ORG, enrollment.id, answer)])

    async def _answer(self, tx: Transaction, enrollment: Enrollment, ask: Ask) -> Answered:
        """Answer as the simulation's outside does, and write what a qualification says into the lead."""
        key = (ORG, enrollment.contact_id)
        facts = (await fact_store.gather(tx, {key: frozenset()}, {}))[key]
        answered = self.outside.ask(enrollment, ask, facts)
        if ask.service == "qualify" and answered.ok and facts.lead is not None:
            said = {"owner_id" if name == "owner" else name: answered.outputs.get(name) for name in QUALIFIED_AS}
            fields = {name: value for name, value in said.items() if value is not None}
            await records.apply_updates(tx, [RecordUpdate(ORG, facts.lead.id, fields, "key_1", "test")])
        return answered


_ASKING: Mapping[str, Any] = {
    "approval": lambda subject, step: RequestApproval(subject, "", {}, None),
    "delivery": lambda subject, step: Emit(subject, "x.y", {}, awaited=True),
    "message": lambda subject, step: SendMessage(subject, "email", "marketing", "", "", "", "", awaited=True),
    "task": lambda subject, step: CreateTask(subject, "", "", {}, step.output_schema.written, None),
}
