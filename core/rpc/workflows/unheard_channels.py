"""Channels that a workflow writes to and nobody carries: told when a document is checked, before it fails anybody."""

from __future__ import annotations

from sqlalchemy import select

from core.domain.errors import Violation
from core.domain.steps.message import EMAIL, Message
from core.domain.workflow.version import Version
from core.store.systems import connections
from core.store.transaction import Transaction
from core.store.webhooks import subscribers

REQUESTED = "message.requested"
"""What endpoints are told of a message that no connection carries."""


async def advise(tx: Transaction, version: Version) -> tuple[Violation, ...]:
    """Return the message steps whose channel no connection carries and no endpoint is told of.

    Whether a server for e-mail is there, only the process that sends knows.
    """
    used = {
        f"steps[{index}]": node.step.channel
        for index, node in enumerate(version.steps.values())
        if isinstance(node.step, Message) and node.step.channel != EMAIL
    }
    if not used or await subscribers.anybody_wants(tx, REQUESTED):
        return ()
    c = connections.connections.c
    carried = {row.channel for row in await tx.all(select(c.channel).where(c.channel.in_(sorted(set(used.values())))))}
    return tuple(
        Violation(
            path,
            "NOBODY_CARRIES",
            f"nobody carries messages on {channel}: they will fail",
            f"Make a connection for {channel}, or an endpoint that takes {REQUESTED}.",
        )
        for path, channel in used.items()
        if channel not in carried
    )
