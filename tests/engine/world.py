"""The engine and its model side by side: everything is done to both, and after every settling they must agree."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiohttp import web

from core.clock import ManualClock
from core.domain.errors import PlanStale
from core.store.messages.outgoing import MessageState
from core.store.workflows import statistics
from dripstone.v1 import approval_pb2, enrollment_pb2, event_pb2, workflow_pb2
from tests.chaos.audit import Rows, audit, rows
from tests.chaos.faults import Kind
from tests.chaos.process import Process
from tests.engine.model import SHORT, STEPS, Journey, Model, Policy, Wait, Way
from tests.receiver import Receiver

MOMENT = timedelta(milliseconds=5)
"""Between two things that happen: what happens in the same microsecond has no order."""

WORKFLOW = "modelled"
_MOST_TURNS = 200
_RESUME = {
    "run_overdue": workflow_pb2.RESUME_POLICY_RUN_OVERDUE,
    "shift": workflow_pb2.RESUME_POLICY_SHIFT,
    "skip_overdue": workflow_pb2.RESUME_POLICY_SKIP_OVERDUE,
}
_T = TypeVar("_T")


@dataclass(slots=True)
class Keys:
    """Who calls."""

    org_id: str
    service: str
    approver: str


@dataclass(slots=True)
class World:
    """An organization, the processes that serve it, and what the model says of it."""

    processes: Sequence[Process]
    clock: ManualClock
    receiver: Receiver
    keys: Keys
    model: Model = field(default_factory=Model)
    ids: dict[tuple[str, str, int], str] = field(default_factory=dict)
    """Journey to enrollment id."""
    contacts: dict[str, str] = field(default_factory=dict)
    """Contact id to e-mail."""
    _serial: itertools.count[int] = field(default_factory=itertools.count)

    async def start(self) -> None:
        """Start every process; the template holds an organization, an endpoint and the first version."""
        self.model.versions.append(SHORT)
        self.receiver.received.clear()
        self.receiver.answers["/"] = self._answer
        for process in self.processes:
            await process.start()

    async def stop(self) -> None:
        """Stop every process, in whatever state it is."""
        for process in self.processes:
            await process.die()

    async def _answer(self, _request: web.Request) -> web.Response:
        data = self.receiver.received[-1].json()["data"]
        return web.json_response({"ok": data.get("email") not in self.model.grumpy})

    # What is asked of both.

    async def enroll(self, emails: Sequence[str], key: str) -> None:
        """Enroll contacts under a key."""
        request = enrollment_pb2.EnrollContactsRequest(
            workflow_id=WORKFLOW, contacts=[{"email": email, "key": key} for email in emails]
        )
        answer = await self._call("EnrollmentService.EnrollContacts", request)
        for email, result in zip(emails, answer.results, strict=True):
            outcome = self.model.enroll(email, key, self.clock.now())
            assert enrollment_pb2.EnrollOutcome.Name(result.outcome) == f"ENROLL_OUTCOME_{outcome.upper()}"
            self.contacts[result.contact_id] = email
            if outcome == "enrolled":
                self.ids[self.model.journeys[-1].identity] = result.enrollment_id

    async def post(self, email: str, name: str) -> None:
        """Take an event in."""
        event = event_pb2.EventInput(
            event_type="action", event_name=name, source_id="app", message_id=f"m-{next(self._serial)}"
        )
        event.fields.update({"email": email})
        await self._call("EventService.IngestEvent", event_pb2.IngestEventRequest(event=event))
        self.model.unheard.append((email, name, self.clock.now()))

    async def pause(self) -> None:
        """Hold the workflow."""
        await self._call("WorkflowService.PauseWorkflow", workflow_pb2.PauseWorkflowRequest(workflow_id=WORKFLOW))
        self.model.paused_at = self.clock.now()

    async def resume(self, policy: Policy) -> None:
        """Let the workflow go on; who moves at once was told by the preview, and by the model before that."""
        self.clock.advance(MOMENT)
        now = self.clock.now()
        request = workflow_pb2.ResumeWorkflowRequest(workflow_id=WORKFLOW, policy=_RESUME[policy], validate_only=True)
        preview = await self._call("WorkflowService.ResumeWorkflow", request, at_once=True)
        assert {
            one.step_id: (one.overdue_count, one.kept_count, one.waiting_count) for one in preview.steps
        } == self._standing()
        kept = sum(bool(one.held) for one in self.model.running())
        overdue = self.model.overdue(now)
        released = [one for one in overdue if policy != "shift" or not one.waiting or one.due <= self.model.paused_at]
        assert preview.released_count == kept + len(released)
        assert preview.shifted_count == (len(self.model.timed()) if policy == "shift" else 0)
        request.validate_only = False
        done = await self._call("WorkflowService.ResumeWorkflow", request, at_once=True)
        assert (done.released_count, done.shifted_count, done.steps) == (
            preview.released_count,
            preview.shifted_count,
            preview.steps,
        )
        self.model.resume(policy, now)
        if self.model.unheard or self.model.undelivered:
            return  # others move as well, and nobody can tell them apart
        before = {row.id: row.rev for row in (await self._rows(settled=False)).enrollments}
        await self.settle(deliver=False, at_once=True)
        after = {row.id: row.rev for row in (await self._rows(settled=False)).enrollments}
        moved = [one for one, rev in before.items() if after[one] != rev]
        assert len(moved) == preview.released_count

    def _standing(self) -> dict[str, tuple[int, int, int]]:
        overdue, found = [id(one) for one in self.model.overdue(self.clock.now())], {}
        for step in {one.step for one in self.model.running()}:
            here = [one for one in self.model.running() if one.step == step]
            late, kept = sum(id(one) in overdue for one in here), sum(bool(one.held) for one in here)
            found[step] = (late, kept, len(here) - late - kept)
        return found

    async def publish(self, source: str) -> None:
        """Publish another version; who is on the way stays on the old one."""
        written = workflow_pb2.UpdateWorkflowRequest(workflow_id=WORKFLOW, source=source)
        await self._call("WorkflowService.UpdateWorkflow", written)
        await self._call("WorkflowService.PublishWorkflow", workflow_pb2.PublishWorkflowRequest(workflow_id=WORKFLOW))
        self.model.versions.append(source)

    async def migrate(self, steps: Mapping[str, str], waits: Mapping[str, Wait], disturb: bool) -> None:
        """Plan a migration to the newest version and apply it; a plan that somebody disturbs is stale."""
        number = len(self.model.versions)
        known = {step for source in self.model.versions for step in STEPS[source]}
        target = (*STEPS[self.model.versions[-1]], "exit")
        steps = {old: new for old, new in steps.items() if old in known and new in target}
        waits = {step: wait for step, wait in waits.items() if step in known}
        asked = {step: workflow_pb2.WaitPolicy.Value(f"WAIT_POLICY_{wait.upper()}") for step, wait in waits.items()}
        request = workflow_pb2.PlanMigrationRequest(workflow_id=WORKFLOW, steps=steps, waits=asked)
        plan = await self._call("WorkflowService.PlanMigration", request)
        concerned = [one for one in self.model.running() if one.version != number]
        ways = [(one, self.model.destination(one, number, steps, waits)) for one in concerned]
        self._compare_times(plan, [(one, where) for one, where in ways if where is not None])
        assert (plan.moving_count, plan.staying_count) == (
            sum(where is not None for _, where in ways),
            sum(where is None for _, where in ways),
        )
        apply = workflow_pb2.ApplyMigrationRequest(plan_id=plan.plan_id, hash=plan.hash)
        if disturb and concerned:
            await self.cancel(concerned[0])
            try:
                await self._call("WorkflowService.ApplyMigration", apply)
            except PlanStale:
                return
            raise AssertionError("a plan was applied although somebody it names had ended")
        await self._call("WorkflowService.ApplyMigration", apply)
        for journey, where in ways:
            if where is not None:
                self.model.migrate(journey, number, where, self.clock.now())

    def _compare_times(self, plan: workflow_pb2.MigrationPlan, ways: Sequence[tuple[Journey, Way]]) -> None:
        """Compare what a plan says of waits with the model."""
        said: dict[tuple[str, str], list[datetime]] = {}
        for journey, where in ways:
            due = self.model.due_there(journey, plan.to_version, where)
            if due is not None:
                said.setdefault((journey.step, str(where[1])), []).append(due)
        at_once, limits = Counter[tuple[str, str]](), dict[tuple[str, str], list[datetime]]()
        for one in plan.moves:
            key = one.from_step_id, workflow_pb2.WaitPolicy.Name(one.wait).removeprefix("WAIT_POLICY_").lower()
            at_once[key] += one.at_once_count
            if one.HasField("earliest_due_time"):
                ends = one.earliest_due_time.ToDatetime(tzinfo=UTC), one.latest_due_time.ToDatetime(tzinfo=UTC)
                limits.setdefault(key, []).extend(ends)
        now = self.clock.now()
        later = {key: [due for due in dues if due > now] for key, dues in said.items()}
        assert +at_once == +Counter({key: len(dues) - len(later[key]) for key, dues in said.items()})
        assert {key: (min(dues), max(dues)) for key, dues in limits.items()} == {
            key: (min(dues), max(dues)) for key, dues in later.items() if dues
        }

    async def redrive(self) -> None:
        """Let every failed step be tried again."""
        request = enrollment_pb2.RedriveDeadLettersRequest(workflow_id=WORKFLOW)
        answer = await self._call("EnrollmentService.RedriveDeadLetters", request)
        assert answer.redriven_count == len(self.model.redrive(self.clock.now()))

    async def cancel(self, journey: Journey) -> None:
        """End an enrollment."""
        request = enrollment_pb2.CancelEnrollmentRequest(enrollment_id=self.ids[journey.identity])
        await self._call("EnrollmentService.CancelEnrollment", request)
        self.model.cancel(journey)

    async def decide(self, journey: Journey, approved: bool) -> None:
        """Answer what a step asks."""
        found = await self._rows(settled=False)
        subject = found.by_id[self.ids[journey.identity]].wait_subject
        word = "APPROVE" if approved else "REJECT"
        request = approval_pb2.DecideApprovalRequest(
            approval_id=subject, decision=approval_pb2.ApprovalDecision.Value(f"APPROVAL_DECISION_{word}")
        )
        await self._call("ApprovalService.DecideApproval", request, key=self.keys.approver)
        self.model.decide(journey, approved, self.clock.now())

    async def fold(self) -> None:
        """Do the rounds of upkeep, and fold every count."""
        self.clock.advance(MOMENT)
        await self._surely(self._fold)

    async def _fold(self) -> None:
        process = self.processes[-1]
        await process.core.outward.scheduler.turn()
        async with process.core.database.system() as tx:
            await statistics.fold(tx, kept=0)

    async def settle(self, *, deliver: bool = True, at_once: bool = False) -> None:
        """Turn the loops of both until nothing is left to do, and compare; without delivering, nothing leaves."""
        if not at_once:
            self.clock.advance(MOMENT)
        await self._surely(lambda: self._turn(deliver))
        now, model = self.clock.now(), self.model
        while model.match(now) | model.tick(now) | (deliver and model.deliver(now)):
            pass
        await self.compare(delivered=deliver)

    # How it is asked.

    def fail(self, kind: Kind, statements: int, process: int = 0) -> None:
        """Let a fault happen after so many statements of a process."""
        self.processes[process % len(self.processes)].faults.arm(kind, statements)

    async def _call(self, name: str, request: Any, *, key: str = "", at_once: bool = False) -> Any:
        """Call, and again under the same idempotency key after a fault, as a careful client does."""
        if not at_once:
            self.clock.advance(MOMENT)
        number = next(self._serial)
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = f"r-{number}"
        caller = self.processes[number % len(self.processes)]
        return await self._surely(lambda: caller.call(name, request, key or self.keys.service))

    async def _surely(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Carry work to its end through a fault; a process that died is started again."""
        try:
            done = await work()
        except Exception:
            if not any(process.faults.fired for process in self.processes):
                raise
        else:
            if not any(process.faults.off for process in self.processes):
                return done
        for process in self.processes:
            if process.faults.off:
                await process.die()
                await process.start()
            process.faults.disarm()
        return await work()

    async def _turn(self, deliver: bool) -> None:
        for _ in range(_MOST_TURNS):
            handled = await self._each(Process.match)
            handled += await self._each(Process.tick)
            if deliver:
                handled += await self._each(Process.deliver)
            if not handled:
                return
        raise AssertionError("the loops never come to rest")

    async def _each(self, turn: Callable[[Process], Awaitable[int]]) -> int:
        """Let every process do it at once; one that dies takes no other with it."""
        done = await asyncio.gather(*(turn(process) for process in self.processes), return_exceptions=True)
        for one in done:
            if isinstance(one, BaseException):
                raise one
        return sum(one for one in done if isinstance(one, int))

    # What must agree.

    async def _rows(self, *, settled: bool) -> Rows:
        return await self._surely(lambda: rows(self.processes[-1].core.database, self.keys.org_id, settled=settled))

    async def compare(self, *, delivered: bool) -> None:
        """Compare every row with the model, and every message with what arrived."""
        found = await self._rows(settled=True)
        wrong = audit(found)
        by_id = {self.ids[one.identity]: one for one in self.model.journeys}
        there = {
            row.id: (self.contacts[row.contact_id], row.key, row.occurrence, *_row(row)) for row in found.enrollments
        }
        wrong += _differing(there, {key: (*one.identity, *_journey(one)) for key, one in by_id.items()})
        wrong += _differing(_sent(found), {key: +one.sent for key, one in by_id.items()})
        assert not wrong, "\n".join(wrong)
        if delivered:
            arrived = {request.headers["webhook-id"] for request in self.receiver.received}
            assert arrived == {row.id for row in found.messages}
            bodies = {(request.headers["webhook-id"], request.body) for request in self.receiver.received}
            assert len(bodies) == len(arrived), "a repetition says something else"
        if delivered and self.model.paused_at is None:
            announced = Counter(_enrollment(row) for row in found.messages if row.event_type in _DM)
            skipped = [row.enrollment_id for row in found.outgoing if row.state == MessageState.SKIPPED]
            # An attempt that broke is made anew when its lease is over.
            leased = [row for row in found.outgoing if row.state == MessageState.SENDING]
            assert all(row.due_at > self.clock.now() for row in leased)
            untold = Counter([*skipped, *(row.enrollment_id for row in leased)])
            assert announced == Counter(row.enrollment_id for row in found.outgoing) - untold
            over = {row.id for row in found.enrollments if row.ended_at is not None}
            assert over.issuperset(skipped), "who goes on did not get a message"


_DM = ("cold_dm.sent", "followup.sent")


def _enrollment(row: Any) -> str:
    return str(row.enrollment_id or json.loads(row.payload)["data"]["enrollment_id"])


def _differing(there: Mapping[str, Any], said: Mapping[str, Any]) -> list[str]:
    """Return where the engine and the model say different things."""
    return [
        f"{key} is {there.get(key)}, and the model says {said.get(key)}"
        for key in sorted({*there, *said})
        if there.get(key) != said.get(key)
    ]


def _row(row: Any) -> tuple[Any, ...]:
    running = row.ended_at is None
    told = (row.state, row.step_id, row.version, row.wait_kind or "", row.deadline, len(row.data.get("held", ())))
    return (*told, row.data.get("attempts", 0) if running else None)


def _journey(one: Journey) -> tuple[Any, ...]:
    told = (one.state, one.step, one.version, one.waiting, one.due, len(one.held))
    return (*told, None if one.over else one.attempts)


def _sent(found: Rows) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {row.id: Counter() for row in found.enrollments}
    for row in found.messages:
        if row.event_type.startswith(("enrollment.", "model.")):
            counts[row.enrollment_id][row.event_type] += 1
    for row in found.outgoing:
        counts[row.enrollment_id]["dm"] += 1
    for row in found.approvals:
        counts[row.subject_id]["approval.requested"] += 1
    return counts
