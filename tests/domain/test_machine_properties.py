"""What holds of every workflow and every history: pure, ordered, stable under repetition, never a raise."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain import machine
from core.domain.effects import (
    CancelApproval,
    CancelTask,
    CreateTask,
    Emit,
    EscalateApproval,
    RequestApproval,
    Reschedule,
    SendMessage,
    UpdateRecord,
    WithdrawMessages,
)
from core.domain.enrollment import (
    Answered,
    ApprovalDecided,
    Cancelled,
    DeliveryEnded,
    Enrollment,
    EventArrived,
    EventFacts,
    Facts,
    MessageEnded,
    Migrated,
    RecordFacts,
    Redriven,
    Sent,
    State,
    Stimulus,
    TaskAnswered,
    TimerFired,
    WaitPolicy,
)
from core.domain.explain import explain
from core.domain.late_outcomes import late_outcome
from core.domain.trace import TraceEntry, Transition
from core.domain.workflow.migration import destination
from core.domain.workflow.version import Version
from tests.chaos.way import wrong_turns
from tests.domain.drawn_workflows import DAYS, SCALARS, version

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
RECORD = st.dictionaries(
    st.sampled_from(["email", "employees", "tier", "custom", "job_title", "timezone"]),
    SCALARS | st.sampled_from(["Asia/Kathmandu", "Europe/Berlin"]) | st.sampled_from([{"y": day} for day in DAYS]),
)
SENT = st.builds(
    lambda channel, minutes: Sent(channel, START + timedelta(minutes=minutes), "w"),
    st.sampled_from(["email", "dm"]),
    st.integers(-3_000, 0),
)
LEAD = st.none() | RECORD.map(lambda fields: RecordFacts("lead_1", "lead", fields))
EVENTS = st.builds(
    lambda name, fields, minutes: EventFacts(
        f"evt_{minutes}", name, "action", fields, START, START + timedelta(minutes=minutes)
    ),
    st.sampled_from(["a", "b"]),
    st.dictionaries(st.sampled_from(["x", "y"]), SCALARS),
    st.integers(0, 300),
)
FACTS = st.builds(
    lambda fields, lead, arrived, sent: Facts(
        RecordFacts("cnt_1", "contact", fields), lead, tuple(arrived), sent=tuple(sent)
    ),
    RECORD,
    LEAD,
    st.lists(EVENTS, max_size=2),
    st.lists(SENT, max_size=2),
)
_ABOUT_OTHERS = UpdateRecord | CancelApproval | CancelTask | EscalateApproval | Reschedule | WithdrawMessages
"""Effects that carry the id of what they change."""
_MIGRATIONS: dict[Any, WaitPolicy | None] = {
    "migrate": None,
    "migrate and keep": "keep",
    "migrate and recompute": "recompute",
    "migrate and restart": "restart",
}
STIMULI = st.one_of(
    st.just("due"),
    EVENTS.map(EventArrived),
    st.sampled_from(["approve", "reject", "delivered", "failed", "sent", "bounced", "done", "answer", "refuse"]),
    st.sampled_from([Cancelled("mem_1"), Redriven("mem_1"), *_MIGRATIONS, "alone", "late"]),
)


PAUSED = st.sampled_from([False, False, True])


def _stimulus(drawn: Any, enrollment: Enrollment) -> Stimulus:
    subject = enrollment.waiting.subject if enrollment.waiting else "none"
    match drawn:
        case "due":
            return TimerFired()
        case "approve" | "reject":
            return ApprovalDecided(subject, drawn == "approve", "mem_1")
        case "delivered" | "failed":
            return DeliveryEnded(subject, drawn == "delivered", drawn, 200, {"score": 1} if len(subject) % 2 else None)
        case "sent" | "bounced":
            return MessageEnded(subject, drawn == "sent", drawn)
        case "alone":
            return Redriven("mem_1", enrollment.step_id)
        case "late":
            return MessageEnded("msg_old", False, "550 no such user", enrollment.step_id, "message 1", 1)
        case "done":
            return TaskAnswered(subject, {"fine": True}, "key_2")
        case "answer" | "refuse":
            return Answered(subject, drawn == "answer", {"decision": "qualified"}, "why", retryable=True)
        case _:
            return drawn  # type: ignore[no-any-return]


def _enter(chosen: Version, facts: Facts, variables: dict[str, Any], now: datetime) -> Transition:
    return machine.enter(
        chosen,
        id="enr_1",
        org_id="org_1",
        contact_id="cnt_1",
        key="k",
        actor="key_1",
        variables=variables,
        event=None,
        facts=facts,
        now=now,
    )


def _check(transition: Transition, before: Enrollment | None, trace: list[TraceEntry], now: datetime) -> None:
    after = transition.enrollment
    assert after.rev == (before.rev + 1 if before else 1)
    if before is not None and after.moved_at == before.moved_at != now:
        assert _place(after) == _place(before), "only what became of a message, or a step alone, leaves it where it is"
        assert len(transition.trace) == 1
    else:
        assert after.moved_at == now
    assert transition.trace or after.held or (before is not None and before.held)
    assert [entry.seq for entry in trace] == list(range(1, after.trace_count + 1))
    assert all(entry.reason for entry in trace)
    made = [e.id for e in transition.effects if not isinstance(e, _ABOUT_OTHERS)]
    assert len(set(made)) == len(made)
    if after.state.over:
        ended = now if transition.ends else after.ended_at
        assert (after.waiting, after.due_at, after.ended_at) == (None, None, ended)
        assert after.end_reason
    else:
        assert after.waiting is not None or (after.due_at is not None and after.due_at <= now)
        assert (after.state is State.AWAITING_APPROVAL) == (
            after.waiting is not None and after.waiting.kind == "approval"
        )


def _place(enrollment: Enrollment) -> tuple[Any, ...]:
    e = enrollment
    stands = (e.state, e.step_id, e.version, e.waiting, e.due_at, e.attempts)
    return (*stands, e.held, e.skipping, e.ended_at, e.end_reason)


class History:
    """One enrollment and everything that has come of it."""

    def __init__(self, versions: tuple[Version, Version], facts: Facts, variables: dict[str, Any]):
        self.versions = versions
        self.now = START
        entered = _enter(versions[0], facts, variables, START)
        assert _enter(versions[0], facts, variables, START) == entered
        self.enrollment = entered.enrollment
        self.trace: list[TraceEntry] = []
        self.made: list[str] = []
        self._keep(entered, None)

    @property
    def version(self) -> Version:
        """Return the version it is on."""
        return self.versions[self.enrollment.version - 1]

    def happen(self, drawn: Any, seen: Facts, paused: bool) -> Transition | None:
        """Let something happen to it, and return what came of it."""
        before = self.enrollment
        self.now = max(self.now, before.due_at or self.now) if drawn == "due" else self.now + timedelta(minutes=1)
        moves_over = isinstance(drawn, str) and drawn in _MIGRATIONS
        policy = _MIGRATIONS[drawn] if moves_over else None
        version, stimulus = self.version, None if moves_over else _stimulus(drawn, before)
        if stimulus is None:
            version = self.versions[1]
            waits = {before.step_id: policy} if policy else {}
            where = destination(self.version, version, before.step_id, before.waiting, {}, waits)
            if not where.step_id:
                return None
            stimulus = Migrated(where.step_id, where.wait or "restart", "mem_1", "pln_1")
        beside = late_outcome(before, stimulus) is not None or (
            isinstance(stimulus, Redriven) and bool(stimulus.step_id)
        )
        if paused and isinstance(stimulus, Redriven) and stimulus.step_id:
            return None  # the call refuses it
        if paused and not beside and not isinstance(stimulus, TimerFired | Cancelled | Redriven | Migrated | Answered):
            moved = machine.hold(before, stimulus, self.now)
        else:
            limit = 0 if paused else machine.STEP_LIMIT
            if paused and isinstance(stimulus, TimerFired):
                return None
            moved = machine.advance(version, before, stimulus, seen, self.now, limit=limit)
            assert machine.advance(version, before, stimulus, seen, self.now, limit=limit) == moved
            if moved is not None and paused:
                assert not any(
                    isinstance(effect, SendMessage | RequestApproval | CreateTask) for effect in moved.effects
                )
        if moved is not None and beside:
            assert _place(moved.enrollment) == _place(before)
        elif before.state.over and not (before.state is State.FAILED and isinstance(stimulus, Redriven)):
            assert moved is None
        if moved is not None:
            self._keep(moved, before)
        return moved

    def _keep(self, moved: Transition, before: Enrollment | None) -> None:
        self.trace += moved.trace
        self.made += [e.id for e in moved.effects if not isinstance(e, _ABOUT_OTHERS)]
        self.enrollment = moved.enrollment
        _check(moved, before, self.trace, self.now)

    def check(self) -> None:
        """Check what must hold of the whole of it."""
        versions = {one.number: one for one in self.versions}
        assert list(wrong_turns(versions, self.enrollment, self.trace)) == []
        assert len(set(self.made)) == len(self.made), "one id was given twice"


Happening = tuple[Any, Facts, bool]
"""A stimulus, what is known then, and whether the workflow is paused."""


@settings(max_examples=80, deadline=None)
@given(
    version(),
    st.none() | version(2),
    FACTS,
    st.fixed_dictionaries({"n": SCALARS}),
    st.lists(st.tuples(STIMULI, FACTS, PAUSED), max_size=8),
)
def test_any_history_of_any_workflow(
    chosen: Version,
    other: Version | None,
    facts: Facts,
    variables: dict[str, Any],
    happenings: list[tuple[Any, Facts, bool]],
) -> None:
    untouched = copy.deepcopy((facts, variables))
    history = History((chosen, other or replace(chosen, number=2)), facts, variables)
    assert (facts, variables) == untouched
    for drawn, seen, paused in happenings:
        history.happen(drawn, seen, paused)
        assert all(explain(history.version, history.enrollment, history.trace))
    for _ in range(40):  # whatever happened, time leads on, and nobody hangs
        enrollment = history.enrollment
        if enrollment.due_at is None and not enrollment.held:
            break
        history.now = history.now if enrollment.held else max(history.now, enrollment.due_at or history.now)
        assert history.happen("due", facts, paused=False) is not None, "a due enrollment always moves"
    history.check()
    assert history.enrollment.state.over or history.enrollment.waiting is not None or history.enrollment.due_at


@settings(max_examples=60, deadline=None)
@given(version(), FACTS)
def test_a_workflow_left_to_its_timers_ends_or_waits(chosen: Version, facts: Facts) -> None:
    transition = _enter(chosen, facts, {"n": 2}, START)
    for _ in range(40):
        enrollment = transition.enrollment
        if enrollment.due_at is None:
            break
        moved = machine.advance(chosen, enrollment, TimerFired(), facts, enrollment.due_at)
        assert moved is not None, "a due enrollment always moves"
        assert moved.enrollment.moved_at == enrollment.due_at
        transition = moved


@settings(max_examples=50, deadline=None)
@given(version(), FACTS)
def test_ids_do_not_depend_on_anything_but_the_enrollment_and_its_rev(chosen: Version, facts: Facts) -> None:
    first = _enter(chosen, facts, {"n": 2}, START)
    again = _enter(chosen, replace(facts, arrived=()), {"n": 2}, START)
    assert [effect for effect in first.effects if isinstance(effect, Emit)] == [
        effect for effect in again.effects if isinstance(effect, Emit)
    ]
