"""Moving enrollments: load what a decision needs, decide, write; the same way for every loop and every call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core import ids
from core.domain import machine, names
from core.domain.effects import Emit
from core.domain.enrollment import (
    ApprovalDecided,
    DeliveryEnded,
    Enrollment,
    EventFacts,
    Facts,
    RecordFacts,
    State,
    Stimulus,
)
from core.domain.trace import TraceEntry, Transition
from core.domain.workflow.version import Version
from core.store import claims, enrollments
from core.store.apply import Applied, apply
from core.store.transaction import Transaction
from core.store.workflows import VersionCache

EXECUTION_KEY = "exe_"
"""Enrollments that carry an execution have its id as their key."""


@dataclass(frozen=True, slots=True)
class Move:
    """Something that happened to an enrollment held by the transaction."""

    enrollment: Enrollment
    stimulus: Stimulus
    arrived: tuple[EventFacts, ...] = ()
    """Events since the wait began, where the stimulus is the end of a wait for one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A contact that shall enter a workflow."""

    contact_id: str
    actor: str
    key: str = ""
    variables: Mapping[str, Any] | None = None
    event: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Entered:
    """What became of an entry."""

    outcome: str
    """`enrolled`, `already_enrolled`, `suppressed` or `invalid`."""
    enrollment_id: str = ""
    reason: str = ""


class EnrollmentDriver:
    """Decides and writes inside transactions that others open."""

    def __init__(self, versions: VersionCache):
        self._versions = versions

    async def move(self, tx: Transaction, moves: Sequence[Move]) -> set[str]:
        """Advance enrollments and write what came of it; return the ids of those that changed.

        Raises StaleEnrollment when one moved on meanwhile; the transaction is then of no use.
        """
        moved: set[str] = set()
        while moves:
            facts = await self._facts(tx, [(m.enrollment.org_id, m.enrollment.contact_id) for m in moves])
            transitions = []
            for move in moves:
                enrollment = move.enrollment
                version = await self._versions.load(tx, enrollment.org_id, enrollment.workflow_id, enrollment.version)
                known = replace(facts[enrollment.org_id, enrollment.contact_id], arrived=move.arrived)
                transition = machine.advance(version, enrollment, move.stimulus, known, tx.now)
                if transition is not None:
                    transitions.append(with_execution_event(transition))
            applied = await apply(tx, transitions)
            moved.update(transition.enrollment.id for transition in transitions)
            moves = _told_that_nobody_listens(applied)
        return moved

    async def give_up(self, tx: Transaction, enrollment: Enrollment) -> None:
        """End an enrollment that cannot be moved at all, so that it holds up nobody else."""
        reason = "The engine could not carry this out; the operator's log says why."
        entry = TraceEntry(enrollment.trace_count + 1, enrollment.step_id, "engine", "failed", tx.now, reason=reason)
        over = replace(
            enrollment,
            state=State.FAILED,
            rev=enrollment.rev + 1,
            trace_count=enrollment.trace_count + 1,
            moved_at=tx.now,
            due_at=None,
            waiting=None,
            end_reason=reason,
            ended_at=tx.now,
        )
        await apply(tx, [Transition(over, (entry,), ())])

    async def enter(self, tx: Transaction, org_id: str, version: Version, entries: Sequence[Entry]) -> list[Entered]:
        """Enroll contacts under the workflow's re-entry policy; one answer for each, in order.

        Identities are unique in the database: of two calls at once, one enrolls and the other is told so.
        """
        there = await enrollments.standing(
            tx, org_id, version.workflow_id, [(entry.contact_id, entry.key) for entry in entries]
        )
        facts = await self._facts(tx, [(org_id, entry.contact_id) for entry in entries])
        outcomes: list[Entered | None] = []
        transitions: list[Transition] = []
        taken: dict[tuple[str, str], str] = {}
        for entry in entries:
            identity = (entry.contact_id, entry.key)
            row = there.get(identity)
            known = facts[org_id, entry.contact_id]
            if identity in taken:
                outcomes.append(Entered("duplicate_in_request", taken[identity], "DUPLICATE_IN_REQUEST"))
            elif known.contact.fields.get("unsubscribed") is True:
                outcomes.append(Entered("suppressed", reason="UNSUBSCRIBED"))
            elif row is not None and not (version.reentry == "after_exit" and State(row.state).over):
                outcomes.append(Entered("already_enrolled", row.id, f"REENTRY_{version.reentry.upper()}"))
            else:
                occurrence = 1 if row is None else row.occurrence + 1
                transition = self._enter_one(tx, org_id, version, entry, known, occurrence)
                taken[identity] = transition.enrollment.id
                transitions.append(transition)
                outcomes.append(None)
        applied = await apply(tx, transitions)
        await self.move(tx, _told_that_nobody_listens(applied))
        made = iter(transitions)
        return [outcome or _entered(next(made), applied) for outcome in outcomes]

    def _enter_one(
        self, tx: Transaction, org_id: str, version: Version, entry: Entry, known: Facts, occurrence: int
    ) -> Transition:
        transition = machine.enter(
            version,
            id=ids.mint("enr", tx.now),
            org_id=org_id,
            contact_id=entry.contact_id,
            key=entry.key,
            actor=entry.actor,
            variables=entry.variables or {},
            event=entry.event,
            facts=known,
            now=tx.now,
        )
        return with_execution_event(
            replace(transition, enrollment=replace(transition.enrollment, occurrence=occurrence))
        )

    async def approval_decided(
        self, tx: Transaction, approval: Any, approved: bool, decider: str, comment: str
    ) -> None:
        """Move the enrollment that waits for an approval, in the transaction that decides it."""
        held = await claims.claim_by_id(tx, [(tx.org_id, approval.subject_id)])
        decided = ApprovalDecided(approval.id, approved, decider, comment)
        await self.move(tx, [Move(enrollment, decided) for enrollment in held])

    async def deliveries_ended(self, tx: Transaction, finals: Iterable[tuple[str, str, DeliveryEnded]]) -> None:
        """Move the enrollments behind `(organization, enrollment, outcome)`, in the transaction that records it."""
        ended = {(org, enrollment): outcome for org, enrollment, outcome in finals}
        held = await claims.claim_by_id(tx, ended)
        await self.move(tx, [Move(e, ended[e.org_id, e.id]) for e in held])

    async def _facts(self, tx: Transaction, contacts: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Facts]:
        wanted = set(contacts)
        people, leads = await claims.contacts_and_leads(tx, wanted)
        return {
            key: Facts(contact=people.get(key, RecordFacts(key[1], "contact", {})), lead=leads.get(key))
            for key in wanted
        }


def _entered(transition: Transition, applied: Applied) -> Entered:
    if transition.enrollment.id in applied.lost:
        return Entered("already_enrolled", reason="ENROLLED_MEANWHILE")
    return Entered("enrolled", transition.enrollment.id)


def _told_that_nobody_listens(applied: Applied) -> list[Move]:
    return [
        Move(enrollment, DeliveryEnded(message, delivered=False, outcome="no_endpoint"))
        for enrollment, message in applied.unheard
    ]


def with_execution_event(transition: Transition) -> Transition:
    """Add the event that an execution has ended, where this transition ends one."""
    enrollment = transition.enrollment
    if not (enrollment.state.over and enrollment.key.startswith(EXECUTION_KEY)):
        return transition
    ok = enrollment.state in (State.COMPLETED, State.EXITED)
    event_type = "execution.completed" if ok else "execution.failed"
    data: dict[str, Any] = {
        "execution_id": enrollment.key,
        "workflow_id": enrollment.workflow_id,
        "enrollment_id": enrollment.id,
        "contact_id": enrollment.contact_id,
        "result": dict(enrollment.outputs),
    }
    if not ok:
        data["error"] = enrollment.end_reason
    message = names.derive("msg", enrollment.moved_at, enrollment.id, enrollment.rev, event_type)
    return replace(transition, effects=(*transition.effects, Emit(message, event_type, data)))
