"""Where what left the process meets the engine again: final outcomes move who waits for them, and are told to all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from core.domain.enrollment import MessageEnded
from core.engine.driver import EnrollmentDriver
from core.store.transaction import Transaction
from core.store.webhooks.deliveries import FinalDelivery


def deliveries_ended(driver: EnrollmentDriver) -> Callable[[Transaction, Sequence[FinalDelivery]], Awaitable[None]]:
    """Return the hook that the dispatcher calls inside the transaction that records final outcomes."""

    async def on_final(tx: Transaction, finals: Sequence[FinalDelivery]) -> None:
        await driver.ended(tx, [(final.org_id, final.enrollment_id, final.stimulus) for final in finals])

    return on_final


def messages_ended(
    driver: EnrollmentDriver,
) -> Callable[[Transaction, Sequence[tuple[str, str, MessageEnded]]], Awaitable[None]]:
    """Return the hook that the mailer calls inside the transaction that records what became of messages."""

    async def on_ended(tx: Transaction, ended: Sequence[tuple[str, str, MessageEnded]]) -> None:
        await driver.ended(tx, ended)

    return on_ended
