"""What becomes of what an approval was asked for: each kind of subject says here what follows a decision.

A kind is registered where its table is. Its function runs in the transaction that decides, withdraws or expires the
approval, bound to the approval's organization; it is told once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Row

from core.domain.control.approval import ApprovalState
from core.domain.frozen import frozen
from core.store.transaction import Transaction


@frozen
class Settlement:
    """What became of an approval."""

    state: ApprovalState
    """`APPROVED`, `REJECTED`, `EXPIRED` or `CANCELLED`."""
    decider_id: str = ""
    comment: str = ""

    @property
    def approved(self) -> bool:
        """Tell whether it may happen."""
        return self.state is ApprovalState.APPROVED


Hold = Callable[[Transaction, Sequence[tuple[str, str]]], Awaitable[None]]
"""Lock subjects `(organization, id)`, in the order of both."""
Settle = Callable[[Transaction, Row[Any], Settlement], Awaitable[None]]
"""Told of an approval as it was asked, and what became of it."""


@frozen
class SubjectKind:
    """A kind of thing that approvals are asked for."""

    settle: Settle
    used_at_once: bool
    """What is approved happens in `settle`; otherwise somebody comes back and uses the approval."""
    hold: Hold | None = None
    """Locks subjects; None where nobody locks one before its approval."""


_KINDS: dict[str, SubjectKind] = {}


def register(kind: str, settle: Settle, *, used_at_once: bool = False, hold: Hold | None = None) -> None:
    """Say what follows when approvals of a kind of subject are settled."""
    _KINDS[kind] = SubjectKind(settle, used_at_once, hold)


def kinds_held() -> tuple[str, ...]:
    """Return the kinds of subjects that are locked before their approvals."""
    return tuple(name for name, kind in _KINDS.items() if kind.hold is not None)


async def hold(tx: Transaction, kind: str, subjects: Sequence[tuple[str, str]]) -> None:
    """Lock subjects before their approvals, as whoever applies or stops one does: the other order could deadlock."""
    found = _KINDS.get(kind)
    if found is not None and found.hold is not None and subjects:
        await found.hold(tx, subjects)


def used_at_once(kind: str) -> bool:
    """Tell whether an approval of this kind is used by its approval itself."""
    found = _KINDS.get(kind)
    return found is not None and found.used_at_once


async def settle(tx: Transaction, row: Row[Any], settlement: Settlement) -> None:
    """Tell the subject of an approval what became of it; a kind that nobody registered has nothing to do."""
    found = _KINDS.get(row.subject_kind)
    if found is not None:
        await found.settle(tx.within(row.org_id), row, settlement)
