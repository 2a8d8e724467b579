"""What holds of every workflow and every history: pure, ordered, stable under repetition, never a raise."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain import machine
from core.domain.effects import CancelApproval, CancelTask, CreateTask, Emit, RequestApproval, SendMessage, UpdateRecord
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
    State,
    Stimulus,
    TaskAnswered,
    TimerFired,
)
from core.domain.explain import explain
from core.domain.trace import TraceEntry, Transition
from core.domain.workflow.compile import compile_document
from core.domain.workflow.migration import destination
from core.domain.workflow.version import Version
from tests.chaos.way import wrong_turns

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
IDS = [f"s{number}" for number in range(6)]
CONDITIONS = st.sampled_from(
    ['lead.tier == "A"', "contact.employees > 3", "event.fields.x == 1", "vars.n > 1", "has(lead.id)"]
)
TEXTS = st.sampled_from(["x", "{{ contact.email }}", "{{ event.fields.x | plus: 1 }}", "{{ 1 | divided_by: vars.n }}"])
RULES = [{"when": 'lead.tier == "A"'}, {"event": "b", "when": "contact.employees > 3"}, {"event": "b"}]
RULED = st.sampled_from([False, False, True])
SCALARS = st.sampled_from([None, True, 0, 1, 5, "A", "x", 2.5, [1], {"y": 1}])


@st.composite
def step(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Draw a step with exits anywhere."""
    kind = draw(st.sampled_from([*_ACTING, *_CHOOSING]))
    made: dict[str, Any] = {"id": name, "kind": kind}
    following = IDS[min(IDS.index(name) + 1, len(IDS) - 1)]
    targets = st.sampled_from([following] * 12 + [*IDS, "end"])  # mostly straight on, so that much can be reached
    if draw(st.booleans()):
        made["on_error"] = draw(st.sampled_from(["fail", "continue"]) | targets)
    if draw(st.booleans()):
        made["retry"] = {"attempts": 2, "delay": "1h"}
    return made | draw(_choosing(kind, targets) if kind in _CHOOSING else _acting(kind, targets))


_CHOOSING = ("wait", "filter", "branch", "split", "wait_for_event", "approval", "score", "exit")
_ACTING = (
    *("webhook", "message", "update", "create", "list", "agent_task", "emit_event", "enroll", "assign_owner", "goal"),
    "log",
)


@st.composite
def _choosing(draw: st.DrawFn, kind: str, targets: st.SearchStrategy[str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    match kind:
        case "wait":
            made |= {"for": draw(st.sampled_from(["1s", "1h", "2d"])), "next": draw(targets)}
        case "branch":
            made |= {"cases": [{"name": "one", "when": draw(CONDITIONS)}]}
            made["exits"] = {"one": draw(targets), "else": draw(targets)}
        case "filter":
            made |= {"when": draw(CONDITIONS), "exits": {"next": draw(targets)}}
            if draw(st.booleans()):
                made["exits"]["otherwise"] = draw(targets)
        case "split":
            made |= {"ways": {"a": draw(st.integers(1, 9)), "b": 1}, "exits": {"a": draw(targets), "b": draw(targets)}}
        case "wait_for_event":
            made |= {"any_of": [{"event": "a", "when": draw(CONDITIONS), "exit": "first"}, {"event": "b"}]}
            made["exits"] = {"first": draw(targets), "matched": draw(targets)}
            if draw(st.booleans()):
                made |= {"timeout": "1h", "exits": {**made["exits"], "timeout": draw(targets)}}
            if draw(st.booleans()):
                made["match"] = {"x": {"cel": "vars.n"}}
        case "approval":
            made |= {"title": draw(TEXTS), "timeout": "1h"}
            made["exits"] = {"approved": draw(targets), "rejected": draw(targets)}
        case "score":
            made["exits"] = {"next": draw(targets), "qualified": draw(targets)}
        case "exit":
            made |= {"reason": draw(TEXTS), "result": {"a": {"cel": draw(CONDITIONS)}}}
    return made


@st.composite
def _acting(draw: st.DrawFn, kind: str, targets: st.SearchStrategy[str]) -> dict[str, Any]:
    made: dict[str, Any] = {"next": draw(targets)}
    match kind:
        case "webhook":
            made |= {"event_type": "x.y", "data": {"a": draw(TEXTS), "b": {"cel": draw(CONDITIONS)}}}
            if draw(st.booleans()):
                made = {**made, "await": True, "exits": {"delivered": draw(targets), "failed": draw(targets)}}
                del made["next"]
                made |= draw(st.sampled_from([{}, {"timeout": "1h"}, {"answer_schema": {"type": "object"}}]))
        case "message":
            made |= {"subject": draw(TEXTS), "text": draw(TEXTS)}
            if draw(st.booleans()):
                made = {**made, "await": True, "exits": {"sent": draw(targets), "failed": draw(targets)}}
                del made["next"]
        case "update":
            made |= {"set": {"employees": {"cel": "vars.n"}, "job_title": draw(TEXTS)}}
        case "create":
            made |= {"set": {"source": draw(TEXTS)}}
        case "list":
            made |= {"add": ["one"], "remove": ["two"]}
        case "agent_task":
            made |= {"title": draw(TEXTS), "output_schema": {"type": "object"}, "timeout": "1h"}
            made["exits"] = {"answered": made.pop("next"), "timeout": draw(targets)}
        case "emit_event":
            made |= {"event": "a", "fields": {"x": {"cel": "vars.n"}}}
        case "assign_owner":
            made |= {"among": ["mem_a", "mem_b"]}
        case "enroll":
            made |= {"workflow": "other", "variables": {"n": {"cel": "vars.n"}}}
        case "goal":
            made |= {"name": "won"}
        case "log":
            made |= {"message": draw(TEXTS)}
    return made


@st.composite
def version(draw: st.DrawFn, number: int = 1, rules: st.SearchStrategy[bool] = RULED) -> Version:
    """Draw a version: whatever of a random graph can be published."""
    head: dict[str, Any] = {}
    for key in ("goals", "exit_on"):
        if draw(rules):
            head[key] = [
                {"name": "rule", **draw(st.sampled_from(RULES)), **draw(st.sampled_from([{}, {"event": "b"}]))}
            ]
    document = {**head, "steps": [draw(step(name)) for name in IDS]}
    while True:
        compiled = compile_document(document, workflow_id="w", number=number)
        if compiled.version is not None:
            return compiled.version
        document = {**head, **_repaired(document, {problem.field for problem in compiled.problems})}


def _repaired(document: dict[str, Any], wrong: set[str]) -> dict[str, Any]:
    """Turn a step at fault into a wait, or remove it when nothing leads to it."""
    kept: list[dict[str, Any]] = []
    for index, one in enumerate(document["steps"]):
        fields = {field for field in wrong if field.startswith(f"steps[{index}]")}
        reachable = f"steps[{index}]" not in wrong or one["kind"] != "wait"
        if not fields:
            kept.append(one)
        elif reachable:
            kept.append({"id": one["id"], "kind": "wait", "for": "1h", "next": "end"})
    ids = {one["id"] for one in kept}
    for one in kept:
        if one.get("next") not in (None, "end", *ids):
            one["next"] = "end"
        one.update({"exits": {k: v if v in ids else "end" for k, v in one["exits"].items()}} if "exits" in one else {})
        if one.get("on_error") not in (None, "fail", "continue", "end", *ids):
            one["on_error"] = "continue"
    return {"steps": kept}


RECORD = st.dictionaries(st.sampled_from(["email", "employees", "tier", "custom", "job_title"]), SCALARS)
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
    lambda fields, lead, arrived: Facts(RecordFacts("cnt_1", "contact", fields), lead, tuple(arrived)),
    RECORD,
    LEAD,
    st.lists(EVENTS, max_size=2),
)
STIMULI = st.one_of(
    st.just("due"),
    EVENTS.map(EventArrived),
    st.sampled_from(["approve", "reject", "delivered", "failed", "sent", "bounced", "done", "answer", "refuse"]),
    st.sampled_from([Cancelled("mem_1"), Redriven("mem_1"), "migrate"]),
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
    assert after.moved_at == now
    assert transition.trace or after.held or (before is not None and before.held)
    assert [entry.seq for entry in trace] == list(range(1, after.trace_count + 1))
    assert all(entry.reason for entry in trace)
    made = [e.id for e in transition.effects if not isinstance(e, UpdateRecord | CancelApproval | CancelTask)]
    assert len(set(made)) == len(made)
    if after.state.over:
        assert (after.waiting, after.due_at, after.ended_at) == (None, None, now)
        assert after.end_reason
    else:
        assert after.waiting is not None or (after.due_at is not None and after.due_at <= now)
        assert (after.state is State.AWAITING_APPROVAL) == (
            after.waiting is not None and after.waiting.kind == "approval"
        )


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
        version, stimulus = self.version, _stimulus(drawn, before) if drawn != "migrate" else None
        if stimulus is None:
            version = self.versions[1]
            where = destination(self.version, version, before.step_id, before.waiting, {})
            if not where.step_id:
                return None
            stimulus = Migrated(where.step_id, where.keeps_waiting, "mem_1", "pln_1")
        if paused and not isinstance(stimulus, TimerFired | Cancelled | Redriven | Migrated | Answered):
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
        if before.state.over and not (before.state is State.FAILED and isinstance(stimulus, Redriven)):
            assert moved is None
        if moved is not None:
            self._keep(moved, before)
        return moved

    def _keep(self, moved: Transition, before: Enrollment | None) -> None:
        self.trace += moved.trace
        self.made += [e.id for e in moved.effects if not isinstance(e, UpdateRecord | CancelApproval | CancelTask)]
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
