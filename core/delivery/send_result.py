"""What one attempt brought, as whoever sends, judges or asks for tokens sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta

from core.domain.frozen import frozen
from core.domain.webhooks.classify import Outcome, Ruling


@frozen
class SendResult:
    """What one attempt brought."""

    ruling: Ruling
    duration: timedelta
    status_code: int = 0
    response_text: str = ""
    """First 16 KiB of the answer."""
    error: str = ""
    """What went wrong, in one sentence that names no address."""
    retry_after: str = ""
    """The header as received."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the answer, names in lower case."""

    @property
    def outcome(self) -> Outcome:
        """Return how the attempt ended."""
        return self.ruling.outcome
