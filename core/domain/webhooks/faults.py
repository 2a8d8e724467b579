"""What is no fault of a receiver: then no attempt is counted against the delivery or its endpoint.

A destination that this deployment forbids, secrets whose master key is not here, and names that nobody here can resolve
just now. Else an operator's mistake would turn off the endpoints of customers.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlsplit

from core.domain.webhooks.classify import Outcome

FORBIDDEN_FOR = timedelta(minutes=5)
"""How long an endpoint waits whose destination is not allowed."""

LOCKED_FOR = timedelta(minutes=5)
"""How long what is sent waits where its secrets cannot be opened: an operator has to bring the key."""

UNRESOLVED_FOR = timedelta(seconds=30)
"""How long an endpoint waits while nothing here resolves names."""

GIVEN_UP_AFTER = timedelta(hours=76)
"""Age of a delivery, as long as the longest schedule, from which on such attempts count after all."""

_HOSTS = 5
_MEMORY = timedelta(seconds=30)

_SAYS_NOTHING = frozenset({Outcome.DESTINATION_NOT_ALLOWED, Outcome.TOKEN_FAILED, Outcome.KEY_MISSING})


class ResolverWatch:
    """Tells an outage of one's own resolver from dead names of others, by what attempts bring."""

    def __init__(self) -> None:
        self._failed: dict[str, datetime] = {}

    def saw(self, url: str, outcome: Outcome, now: datetime) -> None:
        """Note what an attempt brought; one name that resolves says that the resolver works."""
        if outcome is Outcome.DNS_FAILED:
            self._failed[_host(url)] = now
        elif self._failed and outcome not in _SAYS_NOTHING and not _is_literal(_host(url)):
            self._failed.clear()

    def is_out(self, now: datetime) -> bool:
        """Tell whether several names failed lately and none was resolved since."""
        if self._failed:
            self._failed = {host: at for host, at in self._failed.items() if now - at < _MEMORY}
        return len(self._failed) >= _HOSTS


def wait_of(outcome: Outcome, created_at: datetime, now: datetime, *, resolver_is_out: bool) -> timedelta | None:
    """Return how long to wait after an attempt that is not counted; None for one that is."""
    if now - created_at >= GIVEN_UP_AFTER:
        return None
    if outcome is Outcome.DESTINATION_NOT_ALLOWED:
        return FORBIDDEN_FOR
    if outcome is Outcome.KEY_MISSING:
        return LOCKED_FOR
    return UNRESOLVED_FOR if outcome is Outcome.DNS_FAILED and resolver_is_out else None


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_literal(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
