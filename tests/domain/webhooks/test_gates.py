"""The rules that let a delivery through, in order, and what each says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from core.domain.webhooks import gates
from core.domain.webhooks.gates import Surroundings
from tests.conftest import START

LATER = START + timedelta(hours=1)
ORDER = ["state", "verification", "retry_gate", "breaker", "rate", "slots", "order", "due"]


@dataclass(frozen=True)
class Endpoint:
    state: str = "active"
    disabled_reason: str = ""
    verification: str = "not_required"
    gate_until: datetime | None = None
    gate_reason: str = ""
    failures: int = 0
    rate_per_second: float = 0
    pace: float = 1
    rate_until: datetime | None = None
    max_in_flight: int = 0
    ordering: str = "best_effort"


@dataclass(frozen=True)
class Delivery:
    state: str = "pending"
    due_at: datetime | None = START
    lease_token: str | None = None
    contact_id: str = "cnt_1"


OPEN, DUE, ALONE = Endpoint(), Delivery(), Surroundings()


def test_every_rule_is_told_in_order_also_when_all_let_through() -> None:
    found = gates.rules(OPEN, DUE, START)
    assert [rule.name for rule in found] == ORDER
    assert gates.first_failing(found) is None
    assert [rule.name for rule in gates.rules(OPEN, None, START)] == ORDER[:6]


@pytest.mark.parametrize(
    ("endpoint", "delivery", "around", "failing", "until"),
    [
        (Endpoint(state="paused"), DUE, ALONE, "state", None),
        (Endpoint(state="disabled", disabled_reason="failing"), DUE, ALONE, "state", None),
        (Endpoint(verification="unverified", gate_until=LATER, gate_reason="unverified"), DUE, ALONE, "verification",
         LATER),
        (Endpoint(verification="verified", gate_until=LATER, gate_reason="unverified"), DUE, ALONE, "", None),
        (Endpoint(verification="unverified", gate_until=START, gate_reason="unverified"), DUE, ALONE, "", None),
        (Endpoint(gate_until=LATER, gate_reason="retry_after"), DUE, ALONE, "retry_gate", LATER),
        (Endpoint(gate_until=LATER, gate_reason="our_fault"), DUE, ALONE, "retry_gate", LATER),
        (Endpoint(gate_until=LATER, gate_reason="breaker", failures=10), DUE, ALONE, "breaker", LATER),
        (Endpoint(gate_until=LATER, gate_reason="breaker", failures=0), DUE, ALONE, "", None),
        (Endpoint(gate_until=START, gate_reason="breaker", failures=12), DUE, ALONE, "", None),
        (Endpoint(rate_per_second=1, rate_until=LATER), DUE, ALONE, "rate", LATER),
        (Endpoint(rate_per_second=0, rate_until=LATER), DUE, ALONE, "", None),
        (Endpoint(pace=0.5, rate_until=LATER), DUE, ALONE, "rate", LATER),
        (Endpoint(max_in_flight=2), DUE, Surroundings(in_flight=2), "slots", None),
        (Endpoint(max_in_flight=2), DUE, Surroundings(in_flight=1), "", None),
        (OPEN, DUE, Surroundings(in_flight=999, ahead="msg_3"), "", None),
        (Endpoint(ordering="by_contact"), DUE, Surroundings(ahead="msg_3"), "order", None),
        (Endpoint(ordering="by_contact"), replace(DUE, contact_id=""), Surroundings(ahead="msg_3"), "", None),
        (OPEN, replace(DUE, due_at=LATER), ALONE, "due", LATER),
        (OPEN, replace(DUE, due_at=LATER, lease_token="lse_1"), ALONE, "due", LATER),
        (OPEN, replace(DUE, state="delivered", due_at=None), ALONE, "due", None),
    ],
)  # fmt: skip
def test_the_first_rule_that_does_not_let_through_is_named(
    endpoint: Endpoint, delivery: Delivery, around: Surroundings, failing: str, until: datetime | None
) -> None:
    found = gates.first_failing(gates.rules(endpoint, delivery, START, around))
    assert (found.name if found else "", found.until if found else None) == (failing, until)
    assert found is None or (not found.detail[0].isupper() and not found.detail.endswith("."))
