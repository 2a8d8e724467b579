"""Where delivery meets the engine: an awaited message's final outcome moves its enrollment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from core.domain.enrollment import DeliveryEnded
from core.engine.driver import EnrollmentDriver
from core.store.deliveries import FinalDelivery
from core.store.transaction import Transaction


def deliveries_ended(driver: EnrollmentDriver) -> Callable[[Transaction, Sequence[FinalDelivery]], Awaitable[None]]:
    """Return the hook that the dispatcher calls inside the transaction that records final outcomes."""

    async def on_final(tx: Transaction, finals: Sequence[FinalDelivery]) -> None:
        await driver.deliveries_ended(
            tx,
            [
                (
                    final.org_id,
                    final.enrollment_id,
                    DeliveryEnded(final.message_id, final.delivered, final.outcome, final.status_code),
                )
                for final in finals
            ],
        )

    return on_final
