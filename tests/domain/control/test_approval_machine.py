"""Whatever anybody tries with an approval, in whatever order: it is used once, and never agreed to by who asked."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from core.domain.control import approval as rules
from core.domain.control.approval import Approval, ApprovalState, Party, Rule
from core.domain.control.approval_rule import Mode, OnTimeout
from core.domain.errors import DripstoneError

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
PEOPLE = ("mem_1", "mem_2", "mem_3", "mem_4")
PARTIES = {
    **{one: Party(one) for one in PEOPLE},
    "key_agent": Party("key_agent", "agent", frozenset({"agt_1", "mem_4"})),
    "key_twin": Party("key_twin", "agent", frozenset({"agt_2", "mem_4"})),
    "key_own": Party("key_own", "service", frozenset({"key_agent"})),
}
NEVER = {"key_agent", "key_twin", "key_own"}
WHO = st.sampled_from(sorted(PARTIES))


class Approvals(RuleBasedStateMachine):
    @initialize(
        mode=st.sampled_from(list(Mode)),
        count=st.integers(1, 3),
        named=st.sets(st.sampled_from(PEOPLE), min_size=1),
        late=st.sampled_from([OnTimeout.FAIL, OnTimeout.CANCEL, OnTimeout.ESCALATE]),
    )
    def begin(self, mode: Mode, count: int, named: set[str], late: OnTimeout) -> None:
        self.now = NOW
        self.electors = frozenset(named)
        rule = Rule(mode, count, member_ids=tuple(sorted(named)), on_timeout=late)
        self.approval = Approval("apr_1", "call", "c", "h", "key_agent", NOW, NOW + rule.sla, rule=rule)
        self.used = 0
        self.ended: Approval | None = None

    @rule(who=WHO, approved=st.booleans(), seen=st.sampled_from(["", "h", "other"]))
    def vote(self, who: str, approved: bool, seen: str) -> None:
        with suppress(DripstoneError):
            self.approval = rules.decide(
                self.approval,
                PARTIES[who],
                approved=approved,
                comment="",
                now=self.now,
                requester=PARTIES["key_agent"],
                electors=self.electors,
                subject_hash=seen,
            )
            assert seen != "other"

    @rule(who=WHO, to=WHO)
    def hand_on(self, who: str, to: str) -> None:
        with suppress(DripstoneError):
            self.approval = rules.delegate(
                self.approval,
                PARTIES[who],
                PARTIES[to],
                now=self.now,
                requester=PARTIES["key_agent"],
                electors=self.electors,
            )

    @rule(subject=st.sampled_from(["h", "other"]))
    def use(self, subject: str) -> None:
        with suppress(DripstoneError):
            self.approval = rules.use(self.approval, subject)
            self.used += 1
            assert subject == "h"

    @rule(hours=st.integers(1, 80))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.approval = rules.time_out(self.approval, self.now)

    @rule()
    def take_back(self) -> None:
        self.approval = rules.withdraw(self.approval, self.now)

    @invariant()
    def holds(self) -> None:
        approval = self.approval
        voters = [vote.principal_id for vote in approval.votes]
        assert len(voters) == len(set(voters))
        assert not NEVER & {*voters, *approval.delegations.values()}
        assert self.used <= 1
        agreeing = {vote.principal_id for vote in approval.votes if vote.approved}
        if approval.state in (ApprovalState.APPROVED, ApprovalState.USED):
            wanted = approval.rule.required_count if approval.rule.mode is Mode.QUORUM else 1
            assert len(agreeing) >= wanted
            if approval.rule.mode is Mode.ALL:
                assert {rules.holder(approval, who) for who in self.electors} <= agreeing
        if self.ended is not None:
            assert approval == self.ended
        final = (ApprovalState.REJECTED, ApprovalState.EXPIRED, ApprovalState.USED, ApprovalState.CANCELLED)
        if approval.state in final:
            self.ended = approval


TestApprovals = Approvals.TestCase
TestApprovals.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
