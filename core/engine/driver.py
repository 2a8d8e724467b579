"""Moving enrollments: load what a decision needs, decide, write; the same way for every loop and every call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from core import ids
from core.domain import machine, names
from core.domain.control import breaker
from core.domain.effects import Ask, CancelApproval, CancelTask, Effect, KeepDeadLetter
from core.domain.enrollment import (
    Answered,
    ApprovalDecided,
    Cancelled,
    DeliveryEnded,
    Enrollment,
    EventFacts,
    Facts,
    MessageEnded,
    Migrated,
    Redriven,
    State,
    Stimulus,
    TaskAnswered,
    TimerFired,
)
from core.domain.frozen import frozen
from core.domain.late_outcomes import late_outcome, tell
from core.domain.trace import Transition, closed
from core.domain.workflow import entry as entry_rules
from core.domain.workflow import splits
from core.domain.workflow.version import Version
from core.engine.ending import settle, with_execution_event
from core.engine.looking import Look, facts_for
from core.pieces import in_pieces
from core.store.control import audit
from core.store.transaction import Transaction
from core.store.workflows import claims, enrollments, entries, pausing, statistics
from core.store.workflows import facts as fact_store
from core.store.workflows.apply import Applied, apply
from core.store.workflows.claims import NOBODY, People
from core.store.workflows.facts import Surroundings
from core.store.workflows.workflows import VersionCache

Answer = Callable[[Transaction, Enrollment, Ask], Awaitable[Answered]]
"""Answers one kind of question, in the transaction that asks it, bound to the enrollment's organization."""

Told = Callable[[Mapping[str, int]], None]
"""Told how many transitions of each kind a committed transaction made: `entered`, `moved`, or the state of the end."""


_GOES_THROUGH = (Answered, Cancelled, Migrated, Redriven)
"""What takes effect also while the workflow is paused; where it leads to, the enrollment stands."""


@frozen
class Move:
    """Something that happened to an enrollment held by the transaction."""

    enrollment: Enrollment
    stimulus: Stimulus
    arrived: tuple[EventFacts, ...] = ()
    """Events since the wait began, where the stimulus is the end of a wait for one."""
    version: int = 0
    """The version it goes on with; 0 for its own."""


@frozen
class Entry:
    """A contact that shall enter a workflow."""

    contact_id: str
    actor: str
    key: str = ""
    """Empty for what the workflow's own key expression says."""
    variables: Mapping[str, Any] | None = None
    event: Mapping[str, Any] | None = None
    hops: int = 0
    """How many workflows in a row led to it."""
    stands: bool = False
    """It stands at the first step until the engine comes to it: who enrolls others must not carry them all out."""
    left_out: bool = False  # of the preview that the call goes by
    about: Mapping[str, str] = field(default_factory=dict)
    """The record whose change enrolls the contact, id by type, where it is none that the contact has one of."""


@frozen
class Entered:
    """What became of an entry."""

    outcome: str
    """`enrolled`, `already_enrolled`, `duplicate_in_request`, `suppressed`, `not_eligible` or `invalid`."""
    enrollment_id: str = ""
    reason: str = ""
    message: str = ""
    """What was wrong and the way out; empty for an enrollment."""
    field: str = ""
    """The field at fault, such as `variables.plan`."""


class EnrollmentDriver:
    """Decides and writes inside transactions that others open."""

    def __init__(self, versions: VersionCache, *, on_moved: Told = lambda _: None):
        self._versions = versions
        self._on_moved = on_moved
        self._answers: dict[str, Answer] = {}

    def answer(self, service: str, how: Answer) -> None:
        """Say who answers a kind of question."""
        self._answers[service] = how

    async def move(
        self,
        tx: Transaction,
        moves: Sequence[Move],
        around: Surroundings | None = None,
        known: People = NOBODY,
    ) -> set[str]:
        """Advance enrollments and write what came of it; return the ids of those that changed.

        `known` is who they were when the enrollments were claimed. What happens to an enrollment of a paused workflow
        is kept for when it goes on. Raises StaleEnrollment when one moved on meanwhile; the transaction is then of no
        use.
        """
        if not moves:
            return set()
        if around is None:
            around = await fact_store.surroundings(tx, {move.enrollment.org_id for move in moves})
        moved: set[str] = set()
        while moves:
            # No decision: neither a pause holds it nor does it need a version, so what was sent is always recorded.
            late = [late_outcome(move.enrollment, move.stimulus) for move in moves]
            decided = [tell(move.enrollment, one, tx.now) for move, one in zip(moves, late, strict=True) if one]
            if len(decided) < len(moves):
                rest = [move for move, one in zip(moves, late, strict=True) if not one] if decided else moves
                decided += await self._decide(tx, rest, around, known)
            moved.update(transition.enrollment.id for transition in decided)
            moves = await self._write(tx, decided, around)
            known = NOBODY  # what was written may have changed them
        return moved

    async def foresee(self, tx: Transaction, moves: Sequence[Move]) -> list[Transition]:
        """Return what moves of enrollments would come to, as facts are now; nothing is written, nobody is held."""
        around = await fact_store.surroundings(tx, {move.enrollment.org_id for move in moves})
        return await self._decide(tx, moves, around, NOBODY)

    async def _decide(
        self, tx: Transaction, moves: Sequence[Move], around: Surroundings, people: People
    ) -> list[Transition]:
        versions = await self._versions_of(tx, moves)
        looks = [Look.of(move.enrollment, version) for move, version in zip(moves, versions, strict=True)]
        known = await facts_for(tx, looks, around, people)
        transitions: list[Transition | None] = []
        parked: list[Enrollment] = []
        async for piece in in_pieces(zip(moves, versions, strict=True)):
            for move, version in piece:
                enrollment = move.enrollment
                paused = _is_paused(enrollment, around)
                if paused and not isinstance(move.stimulus, _GOES_THROUGH):
                    if isinstance(move.stimulus, TimerFired):
                        parked.append(enrollment)
                    else:
                        transitions.append(machine.hold(enrollment, move.stimulus, tx.now))
                    continue
                key = (enrollment.org_id, enrollment.contact_id)
                facts = known[key]
                if move.arrived:
                    facts = replace(facts, arrived=move.arrived)
                # What takes effect during a pause leads to where it leads, and no step is begun there.
                limit = 0 if paused else machine.STEP_LIMIT
                transition = machine.advance(version, enrollment, move.stimulus, facts, tx.now, limit=limit)
                transitions.append(transition)
                if transition is not None and transition.facts is not None:
                    after = transition.facts  # which the next decision about the same contact in this batch must see
                    known[key] = replace(after, arrived=()) if after.arrived else after
        await claims.park(tx, parked)
        return [with_execution_event(transition) for transition in transitions if transition is not None]

    async def _versions_of(self, tx: Transaction, moves: Sequence[Move]) -> list[Version]:
        keys = [(m.enrollment.org_id, m.enrollment.workflow_id, m.version or m.enrollment.version) for m in moves]
        loaded = {key: await self._versions.load(tx, *key) for key in set(keys)}
        return [loaded[key] for key in keys]

    async def _write(self, tx: Transaction, transitions: Sequence[Transition], around: Surroundings) -> list[Move]:
        """Write decisions and return what follows from them at once."""
        paused = frozenset(t.enrollment.id for t in transitions if _is_paused(t.enrollment, around))
        applied = await self._apply(tx, transitions, paused)
        await self._break_circuits(tx, transitions)
        await settle(tx, transitions)
        return [*_told_that_nobody_listens(applied), *[await self._answered(tx, *asked) for asked in applied.asked]]

    async def _apply(
        self, tx: Transaction, transitions: Sequence[Transition], paused: frozenset[str] = frozenset()
    ) -> Applied:
        applied = await apply(tx, transitions, paused)
        kinds = Counter(one.kind for one in transitions if one.enrollment.id not in applied.lost)
        tx.once_committed.append(lambda: self._on_moved(kinds))
        return applied

    async def _answered(self, tx: Transaction, enrollment: Enrollment, ask: Ask) -> Move:
        how = self._answers.get(ask.service)
        if how is None:
            reason = f"Nothing here answers {ask.service}."
            return Move(enrollment, Answered(ask.id, ok=False, reason=reason))
        return Move(enrollment, await how(tx.within(enrollment.org_id), enrollment, ask))

    async def _break_circuits(self, tx: Transaction, transitions: Sequence[Transition]) -> None:
        """Pause the workflows of which too many of the last step outcomes failed."""
        failing = {
            (t.enrollment.org_id, t.enrollment.workflow_id, t.enrollment.version)
            for t in transitions
            for entry in t.trace
            if entry.outcome == "failed"
        }
        for org, workflow, number in sorted(failing):
            limit = (await self._versions.load(tx, org, workflow, number)).breaker
            if limit is None:
                continue
            tripped = breaker.judge(limit, await statistics.recent(tx, org, workflow, limit.of_last))
            if tripped and await pausing.pause(tx, org, workflow, tripped.reason, "circuit_breaker"):
                said = {"summary": "paused a workflow of which too many steps failed", "reason": tripped.reason}
                await audit.by_system(tx, org, "PauseWorkflow", subject_id=workflow, **said)

    async def rule_events(self, tx: Transaction, enrollment: Enrollment) -> tuple[str, ...]:
        """Return the names of events that goals and exit rules of an enrollment's version listen to."""
        version = await self._versions.load(tx, enrollment.org_id, enrollment.workflow_id, enrollment.version)
        return tuple(dict.fromkeys(name for rule in version.rules for name in rule.events))

    async def give_up(self, tx: Transaction, enrollment: Enrollment) -> None:
        """End an enrollment that cannot be moved at all, so that it holds up nobody else."""
        reason = "The engine could not carry this out; the operator's log says why."
        ended = closed(enrollment, State.FAILED, tx.now, "engine", "failed", reason)
        letter = names.derive("dl", tx.now, enrollment.id, ended.enrollment.rev)
        kept = KeepDeadLetter(letter, enrollment.step_id, "engine", "ENGINE_FAILED", reason, 1, ended=True)
        waiting = enrollment.waiting
        withdrawn: tuple[Effect, ...] = ()
        if waiting is not None and waiting.kind == "approval":
            withdrawn = (CancelApproval(waiting.subject),)
        elif waiting is not None and waiting.kind == "task":
            withdrawn = (CancelTask(waiting.subject),)
        given_up = replace(ended, effects=(kept, *withdrawn))
        await self._apply(tx, [given_up])
        await settle(tx, [given_up])

    async def enter(self, tx: Transaction, org_id: str, version: Version, wanted: Sequence[Entry]) -> list[Entered]:
        """Enroll contacts under the workflow's entry rules; one answer for each, in order.

        Identities are unique in the database: of two calls at once, one enrolls and the other is told so. Of a paused
        workflow they stand at the first step until it goes on.
        """
        around = await fact_store.surroundings(tx, [org_id])
        looks = [Look((org_id, entry.contact_id), version, entry.about) for entry in wanted]
        known = await facts_for(tx, looks, around)
        keys = [entry.key or _key(version, entry, known[org_id, entry.contact_id], tx) for entry in wanted]
        identities = [(entry.contact_id, key) for entry, key in zip(wanted, keys, strict=True)]
        there = await enrollments.standing(tx, org_id, version.workflow_id, identities)
        been = {contact_id for contact_id, _ in there}
        if version.key is not None and splits.draws_by_contact(version):
            been |= await enrollments.been(tx, org_id, version.workflow_id, {entry.contact_id for entry in wanted})
        outcomes: list[Entered | None] = []
        transitions: list[Transition] = []
        refusals: list[entries.Refusal] = []
        taken: dict[tuple[str, str], str] = {}
        for entry, identity in zip(wanted, identities, strict=True):
            facts = known[org_id, entry.contact_id]
            row = there.get(identity)
            if identity in taken:
                outcomes.append(Entered("duplicate_in_request", taken[identity], "DUPLICATE_IN_REQUEST"))
                continue
            judged = entry_rules.judge(
                version,
                facts,
                tx.now,
                event=entry.event,
                variables=entry.variables or {},
                key=identity[1],
                standing=None if row is None else entry_rules.Standing(State(row.state), row.entered_at),
                left_out=entry.left_out,
                about=entry.about,
            )
            if judged.outcome != "enrolled":
                enrollment_id = row.id if row is not None and judged.outcome == "already_enrolled" else ""
                outcomes.append(Entered(judged.outcome, enrollment_id, judged.reason, judged.message, judged.field))
                refusals.append(entries.Refusal.of(org_id, version, entry.contact_id, entry.actor, judged))
                continue
            transition = self._enter_one(tx, org_id, version, entry, identity[1], facts, row, around, been)
            been.add(entry.contact_id)
            taken[identity] = transition.enrollment.id
            known[org_id, entry.contact_id] = transition.facts or facts
            transitions.append(transition)
            outcomes.append(None)
        await entries.keep(tx, refusals)
        paused = frozenset(t.enrollment.id for t in transitions if _is_paused(t.enrollment, around))
        applied = await self._apply(tx, transitions, paused)
        await self._break_circuits(tx, transitions)
        follow = [*_told_that_nobody_listens(applied), *[await self._answered(tx, *asked) for asked in applied.asked]]
        await self.move(tx, follow)
        made = iter(transitions)
        return [outcome or _entered(next(made), applied) for outcome in outcomes]

    def _enter_one(
        self,
        tx: Transaction,
        org_id: str,
        version: Version,
        entry: Entry,
        key: str,
        known: Facts,
        row: Any,
        around: Surroundings,
        been: set[str],
    ) -> Transition:
        stands = entry.stands or (org_id, version.workflow_id) in around.paused
        transition = machine.enter(
            version,
            id=ids.mint("enr", tx.now),
            org_id=org_id,
            contact_id=entry.contact_id,
            key=key,
            actor=entry.actor,
            variables=entry.variables or {},
            event=entry.event,
            facts=known,
            now=tx.now,
            occurrence=1 if row is None else row.occurrence + 1,
            hops=entry.hops,
            again=entry.contact_id in been,
            about=entry.about,
            limit=0 if stands else machine.STEP_LIMIT,
        )
        return with_execution_event(transition)

    async def approval_decided(
        self, tx: Transaction, approval: Any, approved: bool, decider: str, comment: str
    ) -> None:
        """Move the enrollment that waits for an approval, in the transaction that decides it."""
        held = await claims.claim_by_id(tx, [(tx.org_id, approval.subject_id)])
        decided = ApprovalDecided(approval.id, approved, decider, comment)
        await self.move(tx, [Move(enrollment, decided) for enrollment in held])

    async def ended(
        self, tx: Transaction, finals: Iterable[tuple[str, str, DeliveryEnded | MessageEnded | TaskAnswered]]
    ) -> None:
        """Move the enrollments behind `(organization, enrollment, outcome)`, in the transaction that records it."""
        queues: dict[tuple[str, str], list[Stimulus]] = {}
        for org, enrollment, outcome in finals:
            queues.setdefault((org, enrollment), []).append(outcome)
        while queues:  # of two outcomes for one enrollment, the second meets what the first one made of it
            held = await claims.claim_by_id(tx, queues)
            await self.move(tx, [Move(e, queues[e.org_id, e.id][0]) for e in held])
            queues = {key: rest[1:] for key, rest in queues.items() if len(rest) > 1}


def _is_paused(enrollment: Enrollment, around: Surroundings) -> bool:
    return bool(around.paused) and (enrollment.org_id, enrollment.workflow_id) in around.paused


def _key(version: Version, entry: Entry, facts: Facts, tx: Transaction) -> str:
    return entry_rules.key_of(version, facts, entry.event, entry.variables or {}, tx.now, about=entry.about)


def _entered(transition: Transition, applied: Applied) -> Entered:
    if transition.enrollment.id in applied.lost:
        return Entered("already_enrolled", reason="ENROLLED_MEANWHILE")
    return Entered("enrolled", transition.enrollment.id)


def _told_that_nobody_listens(applied: Applied) -> list[Move]:
    return [Move(enrollment, ended) for enrollment, ended in applied.unheard]
