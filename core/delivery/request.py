"""What is sent by the guarded client, and what comes back."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.domain.frozen import frozen

MAX_RESPONSE_BYTES = 16_384


class NotSendable(Exception):
    """A header of the request is not one line."""


@frozen
class Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    shown: ssl.SSLContext | None = None
    """The TLS context with the certificate to show; connections are kept apart by it."""
    most_bytes: int = MAX_RESPONSE_BYTES
    """Bytes of the answer that are read."""


@dataclass(slots=True)
class Answer:
    """What has arrived so far, kept outside the deadline's reach."""

    status_code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        """Return the body as text that both databases can keep."""
        if not self.body:
            return ""
        return self.body.decode("utf-8", "replace").replace("\0", "\ufffd")  # PostgreSQL has no NUL in text
