"""People who were erased and must not come back by import, event or call: what named them is known as hashes."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.errors import Violation
from core.domain.messaging import addresses
from core.domain.records import identity
from core.domain.records.identity import Identifier
from core.store.messages import suppressions
from core.store.transaction import Transaction

CHANNELS = {"email": addresses.EMAIL, "phone": "sms"}
"""Kind of identifier to the channel whose addresses it has."""


def channel_of(kind: str) -> str:
    """Return the channel of an identifier's kind; for an id that names one person, what stands for one; else nothing.

    What people share, such as a browser, keeps nobody out.
    """
    return CHANNELS.get(kind) or (f"{addresses.ID}{kind}" if identity.is_strong((kind, "")) else "")


REFUSED = Violation(
    "email",
    "ERASED",
    "is of a person who was erased, and who is not brought back",
    "Leave the person out. Who comes back by their own will needs the suppression of the reason `erased` lifted first.",
)


async def among(tx: Transaction, identifiers: Iterable[Identifier]) -> set[Identifier]:
    """Return which of these belonged to people who were erased."""
    by_address = {(channel, one[1]): one for one in identifiers if (channel := channel_of(one[0]))}
    if not by_address:
        return set()
    return {by_address[one] for one in await suppressions.erased(tx, by_address)}
