"""A plan: a previewed change, hashed over all it read and all it does, so that it is applied exactly or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from core.domain.control.digest import digest
from core.domain.frozen import frozen
from core.domain.records.changes import Change

LASTS = timedelta(hours=24)
"""How long a plan can be applied."""

MOST_ITEMS = 10_000
SAMPLE = 10
"""Items that a plan shows of itself."""

_MOST_NAMED = 3


class PlanState(StrEnum):
    """Where a plan is in its life."""

    OPEN = "open"
    AWAITING_APPROVAL = "awaiting_approval"
    APPLIED = "applied"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Risk(StrEnum):
    """How much could go wrong."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@frozen
class Item:
    """One record's part of a plan."""

    record_id: str
    title: str = ""
    """Its name to people."""
    changes: tuple[Change, ...] = ()
    excluded_reason: str = ""
    """Why it is left out; empty for one that is changed."""
    read: Any = None
    """What else of it decides, such as its etag: part of the hash, not kept."""


@frozen
class Weighed:
    """What a plan would do now."""

    title: str
    """What it does, in one line."""
    items: Sequence[Item] = ()
    """What it changes and what it leaves out."""
    read: Any = None
    """Whatever else it read and does, as a JSON value: part of the hash."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often what is done; counted from the items where nothing is said."""
    risk: Risk = Risk.LOW
    approval_reason: str = ""
    """Why a person must decide, whatever policies say; empty when its kind does not ask for it."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What a person needs to decide; counts and the first items where nothing is said."""
    own_hash: str = ""
    """The hash of a kind that computes its own."""
    found: Any = None
    """What its kind needs to apply it; no part of the hash."""

    def hash(self) -> str:
        """Return the hash of all it read and does."""
        if self.own_hash:
            return self.own_hash
        items = [
            [one.record_id, one.excluded_reason, one.read, [[c.field, c.old, c.new] for c in one.changes]]
            for one in self.items
        ]
        return digest({"read": self.read, "items": items})

    @property
    def changed(self) -> Sequence[Item]:
        """Return the items that it changes."""
        return [one for one in self.items if not one.excluded_reason]

    def counted(self) -> dict[str, int]:
        """Return how often what is done, such as `{"field.tier": 120}`."""
        if self.counts:
            return dict(self.counts)
        return dict(Counter(f"field.{change.field}" for one in self.changed for change in one.changes))


def difference(planned: Mapping[str, Mapping[str, Any]], present: Weighed) -> str:
    """Return in one clause what has changed between the items of a plan and what would be done now.

    `planned` has what each item said, as `plain` does, by record.
    """
    now = {one.record_id: plain(one) for one in present.items}
    clauses = [
        _told(word, [id_ for id_ in (*planned, *(set(now) - set(planned))) if which(planned.get(id_), now.get(id_))])
        for word, which in (
            ("no longer concerned", lambda was, is_now: is_now is None),
            ("concerned now", lambda was, is_now: was is None),
            ("different from what it was", lambda was, is_now: was and is_now and was != is_now),
        )
    ]
    return "; ".join(clause for clause in clauses if clause) or "what it read has changed"


def plain(item: Item) -> dict[str, Any]:
    """Return what an item does, as it is kept."""
    changes = [{"field": one.field, "old": one.old, "new": one.new} for one in item.changes]
    return {"changes": changes, "excluded_reason": item.excluded_reason}


def _told(word: str, record_ids: Sequence[str]) -> str:
    if not record_ids:
        return ""
    named = ", ".join(sorted(record_ids)[:_MOST_NAMED])
    more = f" and {len(record_ids) - _MOST_NAMED:,} more" if len(record_ids) > _MOST_NAMED else ""
    return f"{named}{more} {'is' if len(record_ids) == 1 else 'are'} {word}"
