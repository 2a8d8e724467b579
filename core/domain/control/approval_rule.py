"""Who decides an approval, how many of them must agree, by when, and what happens otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen

USUAL_SLA = timedelta(days=3)
SHORTEST_SLA = timedelta(minutes=1)
LONGEST_SLA = timedelta(days=90)
MOST_NAMED = 100

ROLES = ("admin", "editor", "viewer", "approver")


class Mode(StrEnum):
    """How many must agree."""

    ANY = "any"
    ALL = "all"
    QUORUM = "quorum"


class OnTimeout(StrEnum):
    """What happens when nobody decides in time."""

    FAIL = "fail"
    CANCEL = "cancel"
    GO_TO_STEP = "go_to_step"
    ESCALATE = "escalate"
    APPROVE = "approve"


@frozen
class Rule:
    """Who decides, by when, and what happens otherwise."""

    mode: Mode = Mode.ANY
    required_count: int = 1
    """For a quorum."""
    roles: tuple[str, ...] = ()
    member_ids: tuple[str, ...] = ()
    """With no role and no member, whoever holds `approvals:decide` decides."""
    sla: timedelta = USUAL_SLA
    on_timeout: OnTimeout = OnTimeout.FAIL
    escalate_to: tuple[str, ...] = ()
    """Members; empty for the admins."""

    @property
    def is_open(self) -> bool:
        """Tell whether it names nobody."""
        return not self.roles and not self.member_ids

    def longest(self, now: datetime) -> datetime:
        """Return the last moment at which one that is asked for now can be decided."""
        return now + self.sla * (2 if self.on_timeout is OnTimeout.ESCALATE else 1)

    def plain(self) -> dict[str, Any]:
        """Return it as it is kept."""
        return {
            "mode": self.mode.value,
            "required_count": self.required_count,
            "roles": list(self.roles),
            "member_ids": list(self.member_ids),
            "sla_seconds": int(self.sla.total_seconds()),
            "on_timeout": self.on_timeout.value,
            "escalate_to": list(self.escalate_to),
        }


def from_plain(kept: Mapping[str, Any]) -> Rule:
    """Return a rule as it was kept; nothing kept is the usual rule."""
    if not kept:
        return Rule()
    return Rule(
        Mode(kept["mode"]),
        kept["required_count"],
        tuple(kept["roles"]),
        tuple(kept["member_ids"]),
        timedelta(seconds=kept["sla_seconds"]),
        OnTimeout(kept["on_timeout"]),
        tuple(kept["escalate_to"]),
    )


def problems(rule: Rule, required_count: int, path: str) -> list[Violation]:
    """Return what is wrong between the parts of a rule; `required_count` as it was given, 0 for not."""
    found: list[Violation] = []

    def add(key: str, reason: str, message: str, hint: str) -> None:
        found.append(Violation(f"{path}.{key}", reason, message, hint))

    if rule.mode is Mode.QUORUM and required_count < 1:
        add("required_count", "OUT_OF_RANGE", "a quorum needs to know how many must agree", "Give 1 or more.")
    if rule.mode is not Mode.QUORUM and required_count:
        add("required_count", "CONFLICT", f"matters only for a quorum, not for {rule.mode.value}", "Leave it out.")
    if rule.mode is Mode.ALL and rule.is_open:
        add("mode", "CONFLICT", "all of nobody: no role and no member is named", "Name roles or members.")
    if rule.mode is Mode.QUORUM and rule.member_ids and not rule.roles and required_count > len(rule.member_ids):
        message = f"{required_count} must agree, and only {len(rule.member_ids)} are named"
        add("required_count", "OUT_OF_RANGE", message, "Name more members or roles, or ask for fewer.")
    if rule.on_timeout is OnTimeout.ESCALATE and rule.is_open:
        message = "everybody who may decide is asked already: no role and no member is named"
        add("on_timeout", "CONFLICT", message, "Name who is asked first, or choose another way.")
    if rule.on_timeout is not OnTimeout.ESCALATE and rule.escalate_to:
        add("escalate_to_member_ids", "CONFLICT", "matters only when on_timeout escalates", "Leave it out.")
    return found
