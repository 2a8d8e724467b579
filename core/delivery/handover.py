"""Handing a message over: what a try came to, and who can make one on a channel other than e-mail."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from core.domain.frozen import frozen
from core.domain.webhooks.retry import Preset
from core.store.messages.outgoing import ClaimedMessage

Verdict = Literal["sent", "later", "never", "held"]


@frozen
class Answer:
    """What became of one try."""

    verdict: Verdict
    """`held` was not tried at all: no attempt is counted, and `due_at` says when to ask again."""
    outcome: str
    """What was said, or what went wrong or holds it, in one line; stored, so nothing secret."""
    due_at: datetime | None = None
    """Not before this; the schedule's own wait may be longer."""
    preset: Preset = Preset.STANDARD
    """On which schedule `later` is tried again."""
    provider_id: str = ""
    """The other system's id of the message."""
    bounced: bool = False
    """The address itself was refused for good: nothing more goes to it on this channel."""


class Carrier(Protocol):
    """What takes messages of channels other than e-mail to where they go."""

    async def send(self, message: ClaimedMessage, now: datetime) -> Answer | None:
        """Try once, within the mailer's lease and outside any transaction; None where nothing carries the channel.

        It may be called again for the same message, whose id never changes: a process can die before it records.
        """
