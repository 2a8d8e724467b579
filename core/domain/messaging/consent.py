"""Who may be sent what: stored answers of contacts, suppressed addresses, and the one rule that reads them.

An answer belongs to a contact, a suppression to an address: it outlives the contact that had the address.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.domain.frozen import frozen
from core.domain.messaging import addresses

EVERY = "*"
"""Every channel, or every purpose but `transactional`."""

TRANSACTIONAL = "transactional"
"""What a contact needs whatever they want to be sent: only a dead address or an answer that names it stops it."""


class Cause(StrEnum):
    """Why an address gets nothing."""

    UNSUBSCRIBED = "unsubscribed"
    COMPLAINED = "complained"
    BOUNCED = "bounced"
    ERASED = "erased"


_ADDRESS_IS_DEAD = frozenset({Cause.BOUNCED, Cause.ERASED})
_SPOKEN = {
    Cause.UNSUBSCRIBED: "its owner unsubscribed",
    Cause.COMPLAINED: "its owner reported spam",
    Cause.BOUNCED: "it bounced",
    Cause.ERASED: "its owner was erased",
}


@frozen
class Answer:
    """What a contact said, or somebody said for them, about messages of a channel and a purpose."""

    channel: str
    """`*` for every one."""
    purpose: str
    """`*` for every one but `transactional`."""
    granted: bool
    at: datetime
    actor: str = ""

    def covers(self, channel: str, purpose: str) -> bool:
        """Tell whether it speaks of such a message."""
        if self.channel not in (EVERY, channel):
            return False
        return self.purpose == purpose or (self.purpose == EVERY and purpose != TRANSACTIONAL)


@frozen
class Suppression:
    """An address that gets nothing of a purpose."""

    key: str
    """Of the address and its channel; see `addresses.key`."""
    purpose: str
    """`*` for every one."""
    cause: Cause

    def holds(self, purpose: str) -> bool:
        """Tell whether it stops messages of a purpose."""
        if self.purpose == purpose:
            return True
        return self.purpose == EVERY and (purpose != TRANSACTIONAL or self.cause in _ADDRESS_IS_DEAD)


@frozen
class Consent:
    """What is stored about a contact and their addresses."""

    answers: tuple[Answer, ...] = ()
    suppressions: tuple[Suppression, ...] = ()
    org_id: str = ""
    """Whose keys the suppressions have."""

    def refusal(self, channel: str, purpose: str) -> Answer | None:
        """Return the answer that refuses such a message: of those that cover it the newest one decides."""
        covering = [one for one in self.answers if one.covers(channel, purpose)]
        newest = max(covering, key=lambda one: (one.at, not one.granted), default=None)
        return None if newest is None or newest.granted else newest

    def suppression(self, channel: str, purpose: str, address: str) -> Suppression | None:
        """Return what stops such a message to an address."""
        holding = [one for one in self.suppressions if one.holds(purpose)]
        if not holding:
            return None
        key = addresses.key(self.org_id, channel, address)
        return next((one for one in holding if one.key == key), None)


NOTHING_STORED = Consent()


@frozen
class Objection:
    """Why a message must not be sent."""

    told: str
    """A clause, such as `the contact has unsubscribed`."""
    inputs: Mapping[str, Any]
    """What was looked at."""


def objection(consent: Consent, *, unsubscribed: bool, channel: str, purpose: str, address: str) -> Objection | None:
    """Return why a message must not be sent; None where nothing speaks against it.

    `unsubscribed` is the contact's field, which means every channel and every purpose but `transactional`.
    """
    if unsubscribed and purpose != TRANSACTIONAL:
        return Objection("the contact has unsubscribed", {"contact.unsubscribed": True})
    refusal = consent.refusal(channel, purpose)
    if refusal is not None:
        what = "everything" if refusal.purpose == EVERY else refusal.purpose
        where = "" if refusal.channel == EVERY else f" by {refusal.channel}"
        told = f"the contact refused {what}{where} on {refusal.at:%Y-%m-%d} ({refusal.actor})"
        return Objection(told, {f"consent.{refusal.channel}.{refusal.purpose}": False})
    found = consent.suppression(channel, purpose, address)
    if found is not None:
        told = f"the address is suppressed: {_SPOKEN[found.cause]}"
        return Objection(told, {f"suppression.{found.purpose}": found.cause})
    return None
