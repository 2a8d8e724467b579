"""Whose turn it is: how the free places of a process are shared among the endpoints and lanes that have work.

Organizations take turns, in each its endpoints; first attempts, retries and replays take turns everywhere. Nobody's
backlog holds up what is new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from typing import TypeVar

from core.store.webhooks.outbox import LANES, EndpointKey

_Item = TypeVar("_Item")

AT_ONCE = 4
"""Deliveries under way to one endpoint while many are ready; a few of them may share half of the free places."""

AT_ONCE_MOST = 16
"""The same while hardly any other is ready; an endpoint's own limit may be higher."""

AT_ONCE_FAILING = 1
"""The same for an endpoint whose last attempt failed: a dead one costs a slot, not the workers."""


@dataclass(slots=True)
class Ready:
    """An endpoint for which something is due."""

    key: EndpointKey
    failing: bool = False
    limited: bool = False
    """A limit of it has to be looked up, and written, while its row is held."""
    max_in_flight: int = 0
    """Most attempts under way at once; 0 for what it is given."""
    rate_until: datetime | None = None
    ordering: str = ""
    lanes: list[int] = field(default_factory=list)
    """In which something is due."""

    def share(self, healthy: int, busy: int) -> int:
        """Return how many deliveries it may get now."""
        most = AT_ONCE_FAILING if self.failing else healthy
        if self.max_in_flight:
            most = min(most, self.max_in_flight) if self.failing else self.max_in_flight
        return max(most - busy, 0)


def allot(
    ready: Sequence[Ready], busy: Mapping[EndpointKey, int], limit: int, offset: int
) -> dict[tuple[EndpointKey, int], int]:
    """Return how many deliveries each endpoint may have now from each lane, `limit` together.

    `offset` rotates who comes first.
    """
    healthy = min(max(AT_ONCE, limit // (2 * len(ready))), AT_ONCE_MOST) if ready else 0
    left = {one.key: one.share(healthy, busy.get(one.key, 0)) for one in ready}
    queues = _queues([one for one in ready if left[one.key]], offset)
    chosen: dict[tuple[EndpointKey, int], int] = {}
    while limit > 0 and any(queues.values()):
        for lane, queue in queues.items():
            key = _next(queue, left)
            if key is not None and limit > 0:
                chosen[key, lane] = chosen.get((key, lane), 0) + 1
                left[key] -= 1
                limit -= 1
                queue.append(key)
    return chosen


def _next(queue: deque[EndpointKey], left: Mapping[EndpointKey, int]) -> EndpointKey | None:
    while queue:
        key = queue.popleft()
        if left[key] > 0:
            return key
    return None


def _queues(ready: Sequence[Ready], offset: int) -> dict[int, deque[EndpointKey]]:
    """Return for each lane its endpoints, those of different organizations in turn."""
    by_org: dict[str, list[Ready]] = {}
    for one in ready:
        by_org.setdefault(one.key[0], []).append(one)
    orgs = _rotated(list(by_org.values()), offset)
    in_turn = [one for turn in zip_longest(*(_rotated(org, offset) for org in orgs)) for one in turn if one]
    return {lane: deque(one.key for one in in_turn if lane in one.lanes) for lane in _rotated(list(LANES), offset)}


def _rotated(items: list[_Item], offset: int) -> list[_Item]:
    start = offset % len(items) if items else 0
    return items[start:] + items[:start]
