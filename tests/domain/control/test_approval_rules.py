from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.domain.control.approval import Approval, ApprovalState, decide, is_overdue, use, withdraw
from core.domain.errors import ApprovalMismatch, DripstoneError, PermissionDenied, WrongState

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
ASKED = Approval("apr_1", "plan", "pln_1", "sha256:a", "key_agent", NOW, NOW + timedelta(days=3))


def approve(approval: Approval = ASKED, *, by: str = "mem_1", at: datetime = NOW, seen: str = "") -> Approval:
    return decide(approval, decider_id=by, approved=True, comment="fine", now=at, subject_hash=seen)


def test_another_principal_decides() -> None:
    assert approve() == replace(ASKED, state=ApprovalState.APPROVED, decider_id="mem_1", comment="fine", decided_at=NOW)
    rejected = decide(ASKED, decider_id="mem_1", approved=False, comment="", now=NOW)
    assert rejected.state is ApprovalState.REJECTED


@pytest.mark.parametrize(
    ("attempt", "error", "reason"),
    [
        (lambda: approve(by="key_agent"), PermissionDenied, "PERMISSION_DENIED"),
        (lambda: approve(approve()), WrongState, "WRONG_STATE"),
        (lambda: approve(at=NOW + timedelta(days=3)), WrongState, "WRONG_STATE"),
        (lambda: approve(seen="sha256:b"), ApprovalMismatch, "APPROVAL_MISMATCH"),
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


def test_it_is_used_once_for_what_was_approved() -> None:
    assert use(approve(seen="sha256:a"), "sha256:a").state is ApprovalState.USED


def test_one_that_nobody_decided_in_time_has_expired_and_is_not_withdrawn() -> None:
    late = NOW + timedelta(days=3)
    assert not is_overdue(ASKED, NOW)
    assert is_overdue(ASKED, late)
    assert not is_overdue(replace(ASKED, expires_at=None), late)
    assert withdraw(ASKED, late).state is ApprovalState.EXPIRED
    assert withdraw(ASKED, NOW).state is ApprovalState.CANCELLED
    assert withdraw(approve(), NOW) == approve()
