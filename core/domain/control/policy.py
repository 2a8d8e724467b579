"""Policies: ordered rules in CEL over who does what to how much; the first that matches answers.

What cannot be told is refused: a condition that fails on a call denies it, and says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

from core.domain.control.approval_rule import OnTimeout, Rule
from core.domain.control.known_conditions import is_false
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.names import is_slug
from core.domain.nearest import did_you_mean
from core.domain.workflow.expressions import Environment, Expression, Kind

MOST = 200
"""Policies of one organization."""

VARIABLES: Mapping[str, Kind] = {
    "principal.id": "string",
    "principal.kind": "string",
    "principal.role": "string",
    "principal.scopes": "list",
    "action.method": "string",
    "action.tool": "string",
    "action.workflow_id": "string",
    "action.record_type": "string",
    "action.fields": "list",
    "action.count": "integer",
    "action.dry_run": "boolean",
    "diff": "map",
    "counts": "map",
    "now": "instant",
}

GOVERNING = frozenset(
    {
        "ApprovalService.PutPolicy",
        "ApprovalService.DeletePolicy",
        "ApprovalService.SetBudget",
        "ApprovalService.DecideApproval",
        "ApprovalService.CommentApproval",
        "ApprovalService.DelegateApproval",
        "ApprovalService.CancelApproval",
        "AuditService.NoteAnswer",
    }
)
"""Methods that only a policy which names them looks at: one for everything must not lock out who could take it back,
nor a person who says no."""


class Effect(StrEnum):
    """What a policy answers."""

    ALLOW = "allow"
    DENY = "deny"
    NEEDS_APPROVAL = "needs_approval"


@frozen
class Demand:
    """The approval that a policy wants."""

    policy_id: str
    reason: str
    rule: Rule


@frozen
class Policy:
    """A rule over who does what to how much."""

    id: str
    description: str
    effect: Effect
    methods: tuple[str, ...] = ()
    """Methods it looks at, such as `RecordService.*`; empty for every one that writes."""
    condition: str = ""
    """CEL; empty for always."""
    rule: Rule = field(default_factory=Rule)
    priority: int = 0
    enabled: bool = True

    @property
    def when(self) -> Expression | None:
        """Return its condition, compiled; None for always."""
        return compiled(self.condition) if self.condition else None

    def looks_at(self, method: str) -> bool:
        """Tell whether it is asked of a method."""
        if not self.methods:
            return method not in GOVERNING
        return any(fits(pattern, method) for pattern in self.methods)


@frozen
class Verdict:
    """What policies say of a call."""

    effect: Effect
    policy: Policy | None = None
    """The one that answered; None when none matched, and scopes alone decide."""
    reason: str = ""
    asked: tuple[str, ...] = ()
    """Policies in the order in which they were asked, and what came of each."""

    @property
    def demand(self) -> Demand | None:
        """Return the approval that it wants; None for none."""
        if self.policy is None or self.effect is not Effect.NEEDS_APPROVAL:
            return None
        return Demand(self.policy.id, self.reason, self.policy.rule)


def fits(pattern: str, method: str) -> bool:
    """Tell whether a pattern such as `RecordService.*` means a method."""
    if pattern.endswith(".*"):
        return method.startswith(pattern[:-1]) and method not in GOVERNING
    return pattern == method


@cache
def environment() -> Environment:
    """Return what conditions may name."""
    return Environment(VARIABLES)


@lru_cache(maxsize=4_000)
def compiled(condition: str) -> Expression:
    """Return a condition that was checked before."""
    return environment().compile(condition, wants="boolean")


def reads(policies: Iterable[Policy], method: str) -> frozenset[str]:
    """Return the variables that the policies asked of a method look at, such as `diff` or `action.count`."""
    asked = [policy.when for policy in policies if policy.looks_at(method)]
    return frozenset(mention.variable for when in asked if when is not None for mention in when.mentions)


def judge(policies: Sequence[Policy], method: str, values: Mapping[str, Any]) -> Verdict:
    """Return what policies say of a call; they are asked in the order in which they come.

    `values` are the variables of conditions by dotted name; one that is left out cannot be known.
    """
    asked: list[str] = []
    for policy in policies:
        if not policy.looks_at(method):
            continue
        when = policy.when
        hidden = sorted({one.variable for one in when.mentions} - values.keys()) if when is not None else []
        if hidden and is_false(policy.condition, values, compiled):
            asked.append(f"{policy.id}: did not match")
            continue
        if hidden:
            unknown = f"{' and '.join(hidden)} cannot be known of this call"
            why = f"its condition could not be told, because {unknown}"
            return Verdict(Effect.DENY, policy, why, (*asked, f"{policy.id}: {unknown}"))
        result = when.evaluate(values) if when is not None else None
        if result is not None and result.unknown:
            why = f"its condition could not be told, because {result.unknown}"
            return Verdict(Effect.DENY, policy, why, (*asked, f"{policy.id}: {result.unknown}"))
        if result is not None and not result.holds:
            asked.append(f"{policy.id}: did not match")
            continue
        return Verdict(policy.effect, policy, policy.description, (*asked, f"{policy.id}: matched"))
    return Verdict(Effect.ALLOW, asked=tuple(asked))


def grants(policies: Sequence[Policy], method: str, values: Mapping[str, Any]) -> bool:
    """Tell whether a policy allows a call by its own word, and not only because none matches; `values` as for judge."""
    verdict = judge(policies, method, values)
    return verdict.policy is not None and verdict.effect is Effect.ALLOW


def problems(policy: Policy, methods: Collection[str], path: str) -> list[Violation]:
    """Return everything that is wrong with a policy; `methods` are those that there are."""
    found: list[Violation] = []
    if not is_slug(policy.id):
        hint = "Use lower-case letters, digits, hyphens and underscores, at most 63, such as big-changes."
        found.append(Violation(f"{path}.id", "NOT_A_SLUG", "cannot be an id", hint))
    services = {f"{method.partition('.')[0]}.*" for method in methods}
    for index, pattern in enumerate(policy.methods):
        if pattern not in methods and pattern not in services:
            example = "Write such as RecordService.* or RecordService.UpdateRecord."
            hint = did_you_mean(pattern, sorted({*methods, *services}), example)
            message = f"there is no writing method {pattern[:80]}"
            found.append(Violation(f"{path}.methods[{index}]", "UNKNOWN_METHOD", message, hint))
    if policy.condition:
        _, wrong = environment().check(policy.condition, wants="boolean", path=f"{path}.when")
        found += wrong
    if policy.effect is Effect.NEEDS_APPROVAL and policy.rule.on_timeout is OnTimeout.GO_TO_STEP:
        hint = "Only an approval that a workflow's step asks for can lead to a step."
        found.append(Violation(f"{path}.approval.on_timeout", "NOT_ALLOWED", "there is no step to go to", hint))
    return found
