from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from core.domain.control import policy as rules
from core.domain.control.approval_rule import OnTimeout, Rule
from core.domain.control.policy import Effect, Policy

UPDATE = "RecordService.UpdateRecord"
METHODS = (UPDATE, "RecordService.MergeRecords", "ApprovalService.DeletePolicy")
FACTS: dict[str, Any] = {
    "principal.id": "key_1",
    "principal.kind": "agent",
    "principal.role": "",
    "principal.scopes": ["records:write"],
    "action.method": UPDATE,
    "action.tool": "",
    "action.workflow_id": "",
    "action.record_type": "contact",
    "action.fields": ["email"],
    "action.count": 1,
    "action.dry_run": False,
    "diff": {"email": {"old": "a@example.com", "new": "b@example.com"}},
    "counts": {},
    "now": datetime(2026, 3, 2, 9, tzinfo=UTC),
}
AGENTS = Policy("agents", "Agents leave e-mails alone", Effect.DENY, condition='principal.kind == "agent"')
BIG = Policy("big", "Many at once", Effect.NEEDS_APPROVAL, ("RecordService.*",), "action.count > 100", Rule())


def judged(*policies: Policy, method: str = UPDATE, **facts: Any) -> tuple[str, str, tuple[str, ...]]:
    verdict = rules.judge(policies, method, FACTS | {name.replace("__", "."): value for name, value in facts.items()})
    return verdict.effect.value, verdict.policy.id if verdict.policy else "", verdict.asked


def test_the_first_that_matches_answers_and_the_rest_is_not_asked() -> None:
    assert judged(BIG, AGENTS) == ("deny", "agents", ("big: did not match", "agents: matched"))
    assert judged(BIG, AGENTS, action__count=101) == ("needs_approval", "big", ("big: matched",))
    assert judged(BIG) == ("allow", "", ("big: did not match",))
    let = replace(AGENTS, id="let", effect=Effect.ALLOW, condition='"email" in action.fields')
    assert judged(let, AGENTS)[:2] == ("allow", "let")


def test_a_condition_that_cannot_be_told_denies_and_says_why() -> None:
    lax = Policy("lax", "Owners stay", Effect.ALLOW, condition='diff.owner_id.new == "mem_1"')
    verdict = rules.judge([lax], UPDATE, FACTS)
    assert (verdict.effect, verdict.reason) == (
        Effect.DENY,
        "its condition could not be told, because diff.owner_id.new is not known",
    )
    careful = replace(lax, condition='has(diff.owner_id) && diff.owner_id.new == "mem_1"')
    assert judged(careful)[0] == "allow"


@pytest.mark.parametrize(
    ("condition", "effect"),
    [
        ("has(diff.owner_id)", "deny"),
        ('principal.kind == "agent" && has(diff.owner_id)', "deny"),
        ('principal.kind == "member" && has(diff.owner_id)', "allow"),  # false, whatever changes
        ('principal.id == "http://x" && has(diff.owner_id)', "allow"),
        ("has(diff.owner_id) // not for tests && false", "deny"),  # a comment decides nothing
        ('has(diff.owner_id) || principal.id == """a " && false || " b"""', "deny"),
        ("(has(diff.owner_id) // )\n) // && false", "deny"),
        ('(principal.kind == "member") && ("&&" in diff || size(diff) > 3)', "allow"),
        ('has(diff.owner_id) || principal.kind == "member"', "deny"),
        ("(has(diff.owner_id) && action.count > 9) || (action.count > 5 && has(diff.tier))", "allow"),
        ('principal.kind == "member" ? has(diff.owner_id) : false', "deny"),
        ("action.count > 100 // && never", "allow"),
    ],
)
def test_what_cannot_be_known_denies_unless_the_rest_decides(condition: str, effect: str) -> None:
    known = {name: value for name, value in FACTS.items() if name != "diff"}
    needs = Policy("p", "d", Effect.NEEDS_APPROVAL, condition=condition)
    assert rules.judge([needs], UPDATE, known).effect.value == effect


def test_a_policy_for_everything_does_not_lock_out_who_could_take_it_back() -> None:
    everything = Policy("stop", "Nothing goes", Effect.DENY)
    assert judged(everything)[0] == "deny"
    assert judged(everything, method="ApprovalService.DeletePolicy") == ("allow", "", ())
    assert (
        judged(replace(everything, methods=("ApprovalService.*",)), method="ApprovalService.DeletePolicy")[0] == "allow"
    )
    named = replace(everything, methods=("ApprovalService.DeletePolicy",))
    assert judged(named, method="ApprovalService.DeletePolicy")[0] == "deny"


def test_only_what_is_looked_at_must_be_known() -> None:
    assert rules.reads([BIG, AGENTS], UPDATE) == {"action.count", "principal.kind"}
    assert rules.reads([BIG], "EventService.IngestEvent") == frozenset()


@pytest.mark.parametrize(
    ("policy", "field", "hint"),
    [
        (replace(AGENTS, id="No Slug"), "p.id", "lower-case"),
        (replace(BIG, methods=("RecordService.UpdateRecrd",)), "p.methods[0]", "RecordService.UpdateRecord"),
        (replace(BIG, condition="principal.knd == 'agent'"), "p.when", "principal.kind"),
        (replace(BIG, condition="action.count"), "p.when", "condition"),
        (replace(BIG, condition="action.count >"), "p.when", ""),
        (replace(BIG, rule=Rule(on_timeout=OnTimeout.GO_TO_STEP)), "p.approval.on_timeout", "step"),
    ],
)
def test_what_is_wrong_with_a_policy_is_found_before_it_is_in_force(policy: Policy, field: str, hint: str) -> None:
    (found,) = rules.problems(policy, METHODS, "p")
    assert found.field == field
    assert hint in found.hint


def test_everything_that_is_wrong_is_told_at_once() -> None:
    bad = Policy("No Slug", "", Effect.DENY, ("Nothing.Here", "Nor.Here"), "nothing == here")
    assert len(rules.problems(bad, METHODS, "p")) >= 4
