"""People who were erased and must not come back by import, event or call: their addresses are known as hashes."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.errors import Violation
from core.domain.messaging import addresses
from core.domain.records.identity import Identifier
from core.store.messages import suppressions
from core.store.transaction import Transaction

CHANNELS = {"email": addresses.EMAIL, "phone": "sms"}
"""Kind of identifier to the channel whose addresses it has."""

REFUSED = Violation(
    "email",
    "ERASED",
    "is of a person who was erased, and who is not brought back",
    "Leave the person out. Who comes back by their own will needs the suppression of the reason `erased` lifted first.",
)


async def among(tx: Transaction, identifiers: Iterable[Identifier]) -> set[Identifier]:
    """Return which of these belonged to people who were erased."""
    by_address = {(CHANNELS[kind], value): (kind, value) for kind, value in identifiers if kind in CHANNELS}
    if not by_address:
        return set()
    return {by_address[one] for one in await suppressions.erased(tx, by_address)}
