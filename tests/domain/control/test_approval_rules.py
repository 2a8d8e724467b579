from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.domain.control import approval_rule
from core.domain.control.approval import (
    Approval,
    ApprovalState,
    Party,
    Rule,
    Vote,
    decide,
    delegate,
    is_overdue,
    missing,
    time_out,
    use,
    withdraw,
)
from core.domain.control.approval_rule import Mode, OnTimeout, from_plain
from core.domain.errors import ApprovalMismatch, DripstoneError, PermissionDenied, PersonRequired, WrongState

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ASKED = Approval("apr_1", "plan", "pln_1", "sha256:a", "key_agent", NOW, NOW + timedelta(days=3))
TWO = Rule(Mode.QUORUM, 2, member_ids=("mem_1", "mem_2", "mem_3"))
NAMED = frozenset({"mem_1", "mem_2", "mem_3"})


def approve(approval: Approval = ASKED, *, by: str | Party = "mem_1", at: datetime = NOW, **more: Any) -> Approval:
    party = by if isinstance(by, Party) else Party(by)
    return decide(approval, party, **{"approved": True, "comment": "fine", "now": at, **more})


def reject(approval: Approval, by: str, **more: Any) -> Approval:
    return approve(approval, by=by, approved=False, **more)


def test_another_principal_decides() -> None:
    assert approve() == replace(
        ASKED,
        state=ApprovalState.APPROVED,
        decider_id="mem_1",
        comment="fine",
        decided_at=NOW,
        votes=(Vote("mem_1", True),),
    )
    assert reject(ASKED, "mem_1").state is ApprovalState.REJECTED


@pytest.mark.parametrize(
    ("attempt", "error", "reason"),
    [
        (lambda: approve(by="key_agent"), PermissionDenied, "PERMISSION_DENIED"),
        (lambda: approve(approve()), WrongState, "WRONG_STATE"),
        (lambda: approve(at=NOW + timedelta(days=3)), WrongState, "WRONG_STATE"),
        (lambda: approve(subject_hash="sha256:b"), ApprovalMismatch, "APPROVAL_MISMATCH"),
        (lambda: use(ASKED, "sha256:a"), WrongState, "WRONG_STATE"),
        (lambda: use(approve(), "sha256:b"), ApprovalMismatch, "APPROVAL_MISMATCH"),
        (lambda: use(use(approve(), "sha256:a"), "sha256:a"), WrongState, "WRONG_STATE"),
    ],
)
def test_what_is_not_allowed_is_refused_with_a_way_out(
    attempt: object, error: type[DripstoneError], reason: str
) -> None:
    with pytest.raises(error) as caught:
        attempt()  # type: ignore[operator]
    assert caught.value.reason == reason
    assert caught.value.way_out


DEPLOYER = Party("mem_boss", "member")
TWIN = Party("key_twin", "service", frozenset({"mem_boss"}))
AGENT = Party("key_agent", "agent", frozenset({"agt_1", "mem_boss"}))


@pytest.mark.parametrize(
    ("decider", "requester", "may"),
    [
        (Party("key_other", "agent", frozenset({"agt_1", "mem_boss"})), AGENT, False),  # the agent's other key
        (Party("key_second", "agent", frozenset({"agt_2", "mem_boss"})), AGENT, False),  # its deployer's other agent
        (Party("key_second", "agent", frozenset({"agt_2", "mem_boss"})), DEPLOYER, False),  # an agent of who asks
        (Party("key_svc", "service", frozenset({"mem_boss"})), DEPLOYER, False),  # a key that who asks has minted
        (Party("key_minted", "service", frozenset({"key_agent"})), AGENT, False),  # a key that the agent has minted
        (Party("key_svc", "service", frozenset({"mem_boss"})), TWIN, False),  # its maker's other program
        (DEPLOYER, TWIN, False),  # what a program asks is asked by who made it
        (Party("mem_1", "member", frozenset({"mem_boss"})), DEPLOYER, False),  # by a key whose secret who asks knows
        (Party("mem_1", "member", frozenset({"mem_boss"})), TWIN, False),  # who asks by a program knows the key, too
        (Party("mem_1", "member", frozenset({"mem_boss"})), AGENT, False),
        (Party("mem_1", "member", frozenset({"key_agent"})), AGENT, False),  # the agent itself has minted it
        (Party("mem_1", "member", frozenset({"mem_else"})), TWIN, True),
        (DEPLOYER, AGENT, True),  # the person who deployed it
        (Party("key_foreign", "agent", frozenset({"agt_3", "mem_else"})), AGENT, True),
        (Party("mem_1"), DEPLOYER, True),
    ],
)
def test_whoever_acts_for_the_requester_is_the_requester(decider: Party, requester: Party, may: bool) -> None:
    asked = replace(ASKED, requester_id=requester.id)
    decider = replace(decider, trusted=True)
    if may:
        assert approve(asked, by=decider, requester=requester).state is ApprovalState.APPROVED
    else:
        with pytest.raises(PermissionDenied):
            approve(asked, by=decider, requester=requester)


@pytest.mark.parametrize("kind", ["agent", "service"])
def test_a_key_without_a_person_decides_only_where_it_is_trusted_and_nobody_is_named(kind: str) -> None:
    key = Party("key_foreign", kind, frozenset({"mem_else"}))
    trusted = replace(key, trusted=True)
    with pytest.raises(PersonRequired, match=r"apr_1 is a person's, and key_foreign is the key of a"):
        approve(ASKED, by=key)
    with pytest.raises(PersonRequired):
        delegate(ASKED, key, Party("mem_3"), now=NOW)
    assert approve(ASKED, by=trusted).state is ApprovalState.APPROVED
    with pytest.raises(PermissionDenied, match="others were asked"):
        approve(replace(ASKED, rule=TWO), by=trusted, electors=NAMED)


def test_a_quorum_needs_so_many_of_those_who_are_named() -> None:
    asked = replace(ASKED, rule=TWO)
    once = approve(asked, electors=NAMED)
    assert (once.state, missing(once, NAMED)) == (ApprovalState.PENDING, 1)
    with pytest.raises(PermissionDenied, match="voted on this approval already"):
        approve(once, electors=NAMED)
    with pytest.raises(PermissionDenied, match="others were asked"):
        approve(once, by="mem_9", electors=NAMED)
    assert approve(once, by="mem_3", electors=NAMED).state is ApprovalState.APPROVED
    gone = NAMED - {"mem_1"}  # removed since, or in another role: the vote counts no more
    assert approve(once, by="mem_3", electors=gone).state is ApprovalState.PENDING


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(
    "voters",
    [
        (Party("mem_1"), Party("key_own", "service", frozenset({"mem_1"}))),
        (Party("mem_1"), Party("mem_2", "member", frozenset({"mem_1"}))),
        (Party("key_1", "service", frozenset({"mem_1"})), Party("key_2", "service", frozenset({"mem_1"}))),
    ],
)
def test_one_person_is_no_quorum(voters: tuple[Party, Party], first: int) -> None:
    asked = replace(ASKED, rule=Rule(Mode.QUORUM, 2))
    one, other = (replace(voter, trusted=True) for voter in (voters[first], voters[1 - first]))
    once = approve(asked, by=one)
    with pytest.raises(PermissionDenied, match="count as one"):
        approve(once, by=other)
    assert approve(once, by="mem_3").state is ApprovalState.APPROVED


def test_a_quorum_is_lost_once_it_cannot_be_reached() -> None:
    once = reject(replace(ASKED, rule=TWO), "mem_1", electors=NAMED)
    assert once.state is ApprovalState.PENDING
    assert reject(once, "mem_2", electors=NAMED).state is ApprovalState.REJECTED


def test_all_means_everybody_and_one_objection_ends_it() -> None:
    asked = replace(ASKED, rule=Rule(Mode.ALL, roles=("approver",)))
    two = approve(approve(asked, electors=NAMED), by="mem_2", electors=NAMED)
    assert (two.state, missing(two, NAMED)) == (ApprovalState.PENDING, 1)
    assert approve(two, by="mem_3", electors=NAMED).state is ApprovalState.APPROVED
    assert reject(two, "mem_3", electors=NAMED).state is ApprovalState.REJECTED
    assert missing(asked, frozenset()) == 1  # nobody is there, which is nobody's agreement


def test_a_decision_that_was_handed_on_is_the_others() -> None:
    asked = replace(ASKED, rule=Rule(Mode.ALL, member_ids=("mem_1", "mem_2")))
    both = frozenset({"mem_1", "mem_2"})
    handed = delegate(asked, Party("mem_1"), Party("mem_9"), now=NOW, electors=both)
    with pytest.raises(PermissionDenied, match="handed its decision to mem_9"):
        approve(handed, electors=both)
    voted = approve(handed, by="mem_9", electors=both)
    assert approve(voted, by="mem_2", electors=both).state is ApprovalState.APPROVED


def test_a_decision_goes_neither_in_a_ring_nor_to_who_asked() -> None:
    handed = delegate(ASKED, Party("mem_1"), Party("mem_2"), now=NOW)
    further = delegate(handed, Party("mem_2"), Party("mem_3"), now=NOW)
    with pytest.raises(PermissionDenied):
        delegate(further, Party("mem_3"), Party("mem_1"), now=NOW)
    with pytest.raises(PermissionDenied):
        delegate(ASKED, Party("mem_1"), Party("key_agent"), now=NOW)
    with pytest.raises(PermissionDenied):
        delegate(ASKED, Party("key_agent"), Party("mem_1"), now=NOW)
    with pytest.raises(PermissionDenied):
        delegate(ASKED, Party("mem_1"), Party("key_helper", "agent", frozenset({"key_agent"})), now=NOW)


def test_it_is_used_once_for_what_was_approved() -> None:
    assert use(approve(subject_hash="sha256:a"), "sha256:a").state is ApprovalState.USED


def test_one_that_nobody_decided_in_time_has_expired_and_is_not_withdrawn() -> None:
    late = NOW + timedelta(days=3)
    assert not is_overdue(ASKED, NOW)
    assert is_overdue(ASKED, late)
    assert not is_overdue(replace(ASKED, expires_at=None), late)
    assert withdraw(ASKED, late).state is ApprovalState.EXPIRED
    assert withdraw(ASKED, NOW).state is ApprovalState.CANCELLED
    assert withdraw(approve(), NOW) == approve()


def test_what_happens_when_nobody_decides_in_time_is_in_the_rule() -> None:
    late = NOW + timedelta(days=3)
    outcomes = {
        way: time_out(replace(ASKED, rule=Rule(on_timeout=way)), late).state
        for way in (OnTimeout.FAIL, OnTimeout.CANCEL, OnTimeout.APPROVE)
    }
    assert [outcomes[way].value for way in outcomes] == ["expired", "cancelled", "approved"]
    escalating = replace(ASKED, rule=Rule(roles=("approver",), on_timeout=OnTimeout.ESCALATE))
    asked_again = time_out(escalating, late)
    assert (asked_again.state, asked_again.expires_at) == (ApprovalState.PENDING, late + timedelta(days=3))
    assert time_out(asked_again, late) == asked_again
    assert time_out(asked_again, late + timedelta(days=3)).state is ApprovalState.EXPIRED
    assert time_out(ASKED, NOW) == ASKED


def test_a_rule_is_kept_as_it_is() -> None:
    rule = Rule(Mode.QUORUM, 2, ("admin",), ("mem_1",), timedelta(hours=4), OnTimeout.ESCALATE, ("mem_2",))
    assert from_plain(rule.plain()) == rule
    assert from_plain({}) == Rule()


@pytest.mark.parametrize(
    ("rule", "count", "field"),
    [
        (Rule(Mode.QUORUM), 0, "r.required_count"),
        (Rule(Mode.ANY), 2, "r.required_count"),
        (Rule(Mode.ALL), 0, "r.mode"),
        (Rule(Mode.QUORUM, member_ids=("mem_1",)), 2, "r.required_count"),
        (Rule(on_timeout=OnTimeout.ESCALATE), 0, "r.on_timeout"),
        (Rule(escalate_to=("mem_1",)), 0, "r.escalate_to_member_ids"),
    ],
)
def test_a_rule_that_cannot_be_met_is_found(rule: Rule, count: int, field: str) -> None:
    (found,) = approval_rule.problems(rule, count, "r")
    assert (found.field, bool(found.hint)) == (field, True)
