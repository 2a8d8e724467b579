"""What a commit would do, as plain data: the same facts always give the same plan, and so the same hash."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from core.domain.frozen import frozen
from core.domain.qualification.claims import Claim
from core.domain.qualification.model import TierEffect
from core.domain.qualification.routing import Choice
from core.domain.qualification.score import Score
from core.domain.records.changes import Change

_WORDS = {
    "lead_id": "the lead",
    "contact_id": "the contact",
    "owner_id": "the owner",
    "decision": "the decision",
    "approval_reason": "the demand for an approval",
    "contributions": "what the rules give",
    "changes": "what would be set",
    "claims": "the claims that count",
    "enrolls_in": "the workflow it enrolls in",
    "notes_event": "the event it notes",
}
_WIDE = frozenset({"contributions", "changes", "claims"})


@frozen
class Setting:
    """Fields that a commit sets on one record."""

    record: str
    """The record's id; its type for one that the commit creates."""
    changes: tuple[Change, ...]


def body(
    *,
    subject: Mapping[str, Any],
    model_id: str,
    model_version: int,
    result: Score,
    choice: Choice | None,
    approval_reason: str,
    settings: Iterable[Setting],
    claims: Sequence[Claim] = (),
    effect: TierEffect | None = None,
    obstacle: str = "",
) -> dict[str, Any]:
    """Return what a commit would do; `subject` says to whom. Instants of the call are no part of it."""
    return {
        **subject,
        "model_id": model_id,
        "model_version": model_version,
        "decision": result.decision.value,
        "score": result.score,
        "fit": result.fit,
        "engagement": result.engagement,
        "tier": result.tier,
        "contributions": [[one.rule_id, one.points] for one in (*result.contributions, *result.disqualifiers)],
        "owner_id": choice.member_id if choice else "",
        "owner_method": choice.method if choice else "",
        "approval_reason": approval_reason,
        "changes": [[one.record, change.field, change.old, change.new] for one in settings for change in one.changes],
        "claims": [[one.path, one.value, one.source, one.confidence] for one in sorted(claims, key=_path)],
        "enrolls_in": effect.enroll if effect and not obstacle else "",
        "notes_event": effect.event if effect else "",
    }


def _path(claim: Claim) -> str:
    return claim.path


def difference(planned: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """Return in one clause what has changed between a plan and what would be done now; empty when nothing has."""
    clauses = []
    differing = [key for key in sorted({*planned, *present}) if planned.get(key) != present.get(key)]
    for key in [key for key in differing if key not in _WIDE] or differing:
        name = _WORDS.get(key, key)
        if key in _WIDE or key.endswith("_id"):
            clauses.append(f"{name} has changed")
        else:
            was, present_now = planned.get(key), present.get(key)
            clauses.append(f"{name} was {_said(was)}, is {_said(present_now)}")
    return "; ".join(clauses)


def _said(value: Any) -> str:
    return "none" if value is None or value == "" else str(value)
