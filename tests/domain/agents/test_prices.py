"""What work costs: the closer name counts, and sums are exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.agents import prices

KINDS = ("agent_task", "log", "message")
TARIFF = {
    "step:message": 0.1,
    "step:message/welcome": 2.0,
    "input_token": 0.001,
    "output_token": 0.002,
    "output_token/large": 0.01,
}


@pytest.mark.parametrize(
    ("kind", "step_id", "outcome", "cost"),
    [
        ("message", "welcome", "ok", "2.0"),
        ("message", "later", "ok", "0.1"),
        ("message", "later", "failed", "0.1"),
        ("message", "later", "skipped", "0"),
        ("message", "later", "held", "0"),
        ("log", "welcome", "ok", "0"),
    ],
)
def test_a_step_costs_what_the_closest_price_says_once_it_was_carried_out(
    kind: str, step_id: str, outcome: str, cost: str
) -> None:
    assert prices.of_step(TARIFF, kind, step_id, outcome) == Decimal(cost)


@pytest.mark.parametrize(
    ("model", "read", "written", "cost"),
    [("", 1000, 10, "1.02"), ("large", 1000, 10, "1.1"), ("small", 0, 0, "0"), ("large", 0, 3, "0.03")],
)
def test_tokens_cost_what_their_model_says(model: str, read: int, written: int, cost: str) -> None:
    assert prices.of_tokens(TARIFF, model, read, written) == Decimal(cost)


def test_what_is_no_price_is_told_all_at_once() -> None:
    given_prices = [
        ("step:mesage", 1.0),
        ("tokens", 1.0),
        ("step:log", -1.0),
        ("step:log", 1.0),
        ("input_token/a b", 1.0),
        ("output_token/large", float("nan")),
        ("step:message/welcome", prices.DEAREST),
    ]
    found = prices.check(given_prices, KINDS, "costs")
    assert [(one.field, one.reason) for one in found] == [
        ("costs[0].unit", "UNKNOWN_STEP_KIND"),
        ("costs[1].unit", "UNKNOWN_UNIT"),
        ("costs[2].cost", "OUT_OF_RANGE"),
        ("costs[3].unit", "DUPLICATE"),
        ("costs[4].unit", "UNKNOWN_UNIT"),
        ("costs[5].cost", "OUT_OF_RANGE"),
    ]
    assert "message" in found[0].hint


@settings(max_examples=20)
@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_many_steps_cost_the_price_times_their_number(costs_in_cents: list[int]) -> None:
    tariff = {f"step:log/s{number}": cents / 100 for number, cents in enumerate(costs_in_cents)}
    total = sum(
        (prices.of_step(tariff, "log", f"s{number}", "ok") for number in range(len(costs_in_cents))), Decimal(0)
    )
    assert total * 100 == sum(costs_in_cents)
