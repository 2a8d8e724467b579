"""The rate limit of each key: a token bucket in memory, per process."""

from __future__ import annotations

from core.clock import Clock
from core.domain.errors import RateLimited

_FORGET_ABOVE = 10_000


class RateLimiter:
    """Admits `per_second` calls of a key on average and twice as many in a burst."""

    def __init__(self, clock: Clock, per_second: float):
        self._clock = clock
        self._per_second = per_second
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, key_id: str) -> None:
        """Take one token. Raises RateLimited with the seconds to wait when there is none."""
        now = self._clock.now().timestamp()
        most = self._per_second * 2
        tokens, seen = self._buckets.pop(key_id, (most, now))
        tokens = min(most, tokens + (now - seen) * self._per_second)
        if tokens < 1:
            self._buckets[key_id] = (tokens, now)
            raise RateLimited(limit=f"{self._per_second:g}", retry_after=(1 - tokens) / self._per_second)
        self._buckets[key_id] = (tokens - 1, now)  # put last: the oldest entry is the least used
        if len(self._buckets) > _FORGET_ABOVE:
            self._buckets.pop(next(iter(self._buckets)))
