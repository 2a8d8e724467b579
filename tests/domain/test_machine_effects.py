"""The one evaluator: what steps send, set, ask for and fail at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.domain import machine
from core.domain.control.approval_rule import OnTimeout, Rule
from core.domain.effects import CancelApproval, Emit, RequestApproval, UpdateRecord
from core.domain.enrollment import (
    ApprovalDecided,
    Cancelled,
    DeliveryEnded,
    EventArrived,
    RecordFacts,
    State,
    Stimulus,
    TimerFired,
    Waiting,
)
from tests.domain.machine_cases import (
    APPROVAL,
    AWAITED,
    DAY,
    HOUR,
    START,
    compiled,
    entered,
    happened,
    known,
    moved,
    told,
    types,
)


def test_a_webhook_is_handed_over_and_the_enrollment_goes_on() -> None:
    version = compiled(
        """
steps:
  - id: tell
    kind: webhook
    event_type: nurture.hot
    endpoint: ep_1
    data: {email: "{{ contact.email }}", tier: "{{ lead.tier }}", fit: {cel: lead.fit}, n: {cel: 1 + 1}, all: [1, "x"]}
"""
    )
    transition = entered(version)
    created, sent, completed = transition.effects
    assert isinstance(sent, Emit)
    assert isinstance(created, Emit)
    assert isinstance(completed, Emit)
    assert len({created.id, sent.id, completed.id}) == 3
    assert sent == Emit(
        sent.id,
        "nurture.hot",
        {"email": "ada@example.com", "tier": "B", "fit": None, "n": 2, "all": [1, "x"]},
        "ep_1",
    )
    assert transition.trace[1].reason == "Sent nurture.hot to ep_1. Left empty: lead.fit is not known."
    assert transition.trace[1].effects == (sent.id,)
    assert transition.enrollment.outputs["tell"] == {"message_id": sent.id}


@pytest.mark.parametrize(
    ("delivered", "state", "reason"),
    [(True, State.COMPLETED, "completed"), (False, State.EXITED, "not delivered (500)")],
)
def test_an_awaited_webhook_holds_until_its_delivery_has_ended(delivered: bool, state: State, reason: str) -> None:
    version = compiled(AWAITED)
    first = entered(version)
    sent = first.effects[1]
    assert isinstance(sent, Emit)
    assert sent.awaited
    assert sent.data == {"enrollment_id": "enr_1", "workflow_id": "nurture", "contact_id": "cnt_1"}
    assert first.enrollment.waiting == Waiting("delivery", sent.id, START)
    assert first.enrollment.due_at is None
    other = DeliveryEnded("msg_other", delivered, "x", 500)
    assert machine.advance(version, first.enrollment, other, known(), START + HOUR) is None
    ended = DeliveryEnded(sent.id, delivered, "exhausted", 500)
    after = moved(version, first.enrollment, ended, START + HOUR)
    assert (after.enrollment.state, after.enrollment.end_reason) == (state, reason)
    assert after.enrollment.outputs["tell"] == {"message_id": sent.id, "delivered": delivered, "status_code": 500}


def test_an_update_is_seen_by_the_steps_after_it() -> None:
    version = compiled(
        """
steps:
  - id: set
    kind: update
    set:
      lifecycle_stage: engaged
      city: null
      custom.plan: {cel: vars.plan}
      custom.n: {cel: vars.nothing}
      phone: {cel: contact.phone}
      job_title: "{{ lead.decision }}"
  - {id: set_lead, kind: update, record: lead, set: {status: working}}
  - id: say
    kind: log
    message: "{{ contact.lifecycle_stage }} {{ contact.custom.plan }} {{ lead.status }} [{{ contact.city }}]"
"""
    )
    facts = known("B", city="Berlin", custom={"old": 1})
    transition = entered(version, facts, variables={"plan": "pro"})
    updates = [effect for effect in transition.effects if isinstance(effect, UpdateRecord)]
    assert updates == [
        UpdateRecord("cnt_1", "contact", {"lifecycle_stage": "engaged", "city": None, "custom.plan": "pro"}),
        UpdateRecord("lead_1", "lead", {"status": "working"}),
    ]
    assert transition.trace[1].reason == (
        "Set city, custom.plan, lifecycle_stage of the contact. custom.n stays as it is: vars.nothing is not known. "
        "phone stays as it is: contact.phone is not known. job_title stays as it is: lead.decision is not known."
    )
    assert transition.trace[1].effects == ("cnt_1",)
    assert transition.trace[3].reason == "engaged pro working []"
    assert facts == known("B", city="Berlin", custom={"old": 1})


def test_an_update_of_the_company_changes_neither_the_lead_nor_the_contact() -> None:
    version = compiled(
        """
steps:
  - {id: set, kind: update, record: company, set: {city: Rome}}
  - {id: say, kind: log, message: "{{ company.city }} [{{ contact.city }}] {{ lead.tier }}"}
"""
    )
    facts = replace(known("B"), company=RecordFacts("cmp_1", "company", {"city": "Bern"}))
    transition = entered(version, facts)
    assert UpdateRecord("cmp_1", "company", {"city": "Rome"}) in transition.effects
    assert [entry.reason for entry in transition.trace[1:3]] == ["Set city of the company.", "Rome [] B"]


@pytest.mark.parametrize(("record", "fields"), [("lead", "status: working"), ("company", "city: Rome")])
def test_an_update_of_a_record_that_is_not_there_is_skipped_with_a_reason(record: str, fields: str) -> None:
    version = compiled(f"steps: [{{id: set, kind: update, record: {record}, set: {{{fields}}}}}]")
    transition = entered(version, known(None))
    assert told(transition)[1] == ("set", "skipped", f"There is no {record} to update.")
    assert transition.enrollment.state is State.COMPLETED


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ("{id: a, kind: update, set: {email: {cel: vars.email}}}", "email: is no e-mail address"),
        ("{id: a, kind: log, message: '{{ 1 | divided_by: vars.zero }}'}", "The message could not be made: divided_by"),
        (
            "{id: a, kind: webhook, event_type: a.b, data: {x: '{% for i in (1..99999) %}x{% endfor %}'}}",
            "The data of a.b",
        ),
        (
            "{id: a, kind: exit, result: {x: {cel: vars.big}, y: {cel: vars.big}}}",
            "The result has more than 65,536 bytes.",
        ),
    ],
)
def test_a_step_that_cannot_be_carried_out_fails_the_enrollment(step: str, reason: str) -> None:
    variables = {"email": "nobody", "zero": 0, "big": "x" * 40_000}
    transition = entered(compiled(f"steps: [{step}]"), variables=variables)
    assert transition.enrollment.state is State.FAILED
    assert transition.enrollment.end_reason.startswith(reason)
    assert transition.trace[-1].outcome == "failed"
    assert types(transition) == ["enrollment.created", "enrollment.failed"]


def test_an_approval_is_asked_for() -> None:
    transition = entered(compiled(APPROVAL))
    request = transition.effects[1]
    assert isinstance(request, RequestApproval)
    rule = Rule(sla=DAY, on_timeout=OnTimeout.GO_TO_STEP)  # where the step's exit leads
    assert request == RequestApproval(request.id, "Offer for ada@example.com?", {"tier": "B"}, START + DAY, rule)
    assert transition.enrollment.state is State.AWAITING_APPROVAL
    assert transition.enrollment.waiting == Waiting("approval", request.id, START)
    assert transition.enrollment.due_at == START + DAY


@pytest.mark.parametrize(("approved", "reason"), [(True, "mem_1 said yes"), (False, "rejected")])
def test_a_decision_moves_the_enrollment(approved: bool, reason: str) -> None:
    version = compiled(APPROVAL)
    waiting = entered(version).enrollment
    assert waiting.waiting is not None
    other = ApprovalDecided("apr_other", approved, "mem_1")
    assert machine.advance(version, waiting, other, known(), START + HOUR) is None
    after = moved(version, waiting, ApprovalDecided(waiting.waiting.subject, approved, "mem_1", "fine"), START + HOUR)
    assert (after.enrollment.state, after.enrollment.end_reason) == (State.EXITED, reason)
    assert after.trace[0].reason == f"mem_1 {'approved' if approved else 'rejected'} it: fine."


def test_an_approval_that_nobody_decides_is_withdrawn_and_counts_as_rejected() -> None:
    version = compiled(APPROVAL)
    waiting = entered(version).enrollment
    assert waiting.waiting is not None
    after = moved(version, waiting, TimerFired(), START + DAY)
    assert (after.enrollment.end_reason, after.trace[0].exit) == ("timeout", "timeout")
    assert after.effects[0] == CancelApproval(waiting.waiting.subject)


def test_cancelling_withdraws_what_was_asked() -> None:
    version = compiled(APPROVAL)
    waiting = entered(version).enrollment
    assert waiting.waiting is not None
    after = moved(version, waiting, Cancelled("mem_2", "moved away"), START + HOUR)
    assert (after.enrollment.state, after.enrollment.end_reason) == (State.CANCELLED, "moved away")
    assert told(after) == [("ask", "ended", "Cancelled by mem_2: moved away.")]
    assert after.effects[0] == CancelApproval(waiting.waiting.subject)
    assert types(after) == ["enrollment.exited"]


@pytest.mark.parametrize("stimulus", [TimerFired(), Cancelled("mem_1"), EventArrived(happened("a", START))])
def test_nothing_happens_once_it_is_over(stimulus: Stimulus) -> None:
    version = compiled("steps: [{id: done, kind: exit}]")
    over = entered(version).enrollment
    assert over.state is State.EXITED
    assert machine.advance(version, over, stimulus, known(), START + DAY) is None


def test_a_long_way_is_gone_in_several_transitions() -> None:
    text = "steps:\n" + "".join(f"  - {{id: s{index}, kind: log, message: x}}\n" for index in range(40))
    version = compiled(text)
    transition = entered(version)
    assert (transition.enrollment.step_id, transition.enrollment.due_at) == ("s16", START)
    assert transition.enrollment.waiting is None
    transition = moved(version, transition.enrollment, TimerFired(), START)
    assert (transition.enrollment.step_id, transition.enrollment.due_at) == ("s32", START)
    transition = moved(version, transition.enrollment, TimerFired(), START)
    assert (transition.enrollment.state, transition.enrollment.trace_count) == (State.COMPLETED, 42)
