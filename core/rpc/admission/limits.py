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
        self._most = max(1.0, per_second * 2)
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, key_id: str) -> None:
        """Take one token. Raises RateLimited with the seconds to wait when there is none."""
        tokens, now = self._filled(key_id)
        self._check(tokens)
        self._buckets.pop(key_id, None)
        self._buckets[key_id] = (tokens - 1, now)  # put last: the oldest entry is the least used
        if len(self._buckets) > _FORGET_ABOVE:
            self._buckets.pop(next(iter(self._buckets)))

    def check(self, key_id: str) -> None:
        """Take nothing. Raises RateLimited like `admit`."""
        self._check(self._filled(key_id)[0])

    def give_back(self, key_id: str) -> None:
        """Put back a token that was taken for nothing."""
        if key_id in self._buckets:
            tokens, now = self._filled(key_id)
            self._buckets[key_id] = (min(self._most, tokens + 1), now)

    def _filled(self, key_id: str) -> tuple[float, float]:
        """Return the tokens that a key has by now, and the instant; a clock that was put back takes none away."""
        now = self._clock.now().timestamp()
        tokens, seen = self._buckets.get(key_id, (self._most, now))
        return min(self._most, tokens + max(0.0, now - seen) * self._per_second), now

    def _check(self, tokens: float) -> None:
        if tokens < 1:
            raise RateLimited(limit=f"{self._per_second:g}", retry_after=(1 - tokens) / self._per_second)
