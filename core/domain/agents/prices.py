"""What an agent's work costs: declared prices of steps and tokens, in exact decimals.

A price is named `step:<kind>` or, for one step alone, `step:<kind>/<step id>`; `input_token` and `output_token`, or for
one language model `input_token/<model>`. The closer name counts; what has no price costs nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

from core.domain.errors import Violation
from core.domain.nearest import did_you_mean

_STEP = re.compile(r"step:([a-z_]+)(?:/[A-Za-z0-9_-]{1,63})?")
_TOKEN = re.compile(r"(?:input|output)_token(?:/\S{1,80})?")
DEAREST = 1_000_000.0
"""The highest price of one of something."""

RAN = frozenset({"ok", "failed", "ended"})
"""Outcomes of steps that cost something: they were carried out."""

Prices = Mapping[str, float]


def check(prices: Iterable[tuple[str, float]], kinds: Collection[str], path: str) -> list[Violation]:
    """Return what is wrong with prices `(unit, price)`; `kinds` are the kinds of steps there are."""
    found: list[Violation] = []
    seen: set[str] = set()
    for index, (unit, price) in enumerate(prices):
        at = f"{path}[{index}]"
        step = _STEP.fullmatch(unit)
        if step is not None and step[1] not in kinds:
            hint = did_you_mean(step[1], kinds, f"Kinds: {', '.join(sorted(kinds))}.")
            found.append(Violation(f"{at}.unit", "UNKNOWN_STEP_KIND", f"there is no step kind `{step[1]}`", hint))
        elif step is None and not _TOKEN.fullmatch(unit):
            hint = "Use step:<kind>, step:<kind>/<step id>, input_token, output_token, or input_token/<model>."
            found.append(Violation(f"{at}.unit", "UNKNOWN_UNIT", f"nothing is counted as `{unit[:100]}`", hint))
        if unit in seen:
            found.append(Violation(f"{at}.unit", "DUPLICATE", f"`{unit}` has a price already", "Name it once."))
        seen.add(unit)
        if not (math.isfinite(price) and 0 <= price <= DEAREST):
            message, hint = "is no price", f"Give 0 to {DEAREST:,.0f}."
            found.append(Violation(f"{at}.cost", "OUT_OF_RANGE", message, hint))
    return found


def of_step(prices: Prices, kind: str, step_id: str, outcome: str) -> Decimal:
    """Return what a step cost."""
    if outcome not in RAN:
        return Decimal(0)
    return _price(prices, f"step:{kind}/{step_id}", f"step:{kind}")


def of_tokens(prices: Prices, model: str, read: int, written: int) -> Decimal:
    """Return what a language model cost that read and wrote so many tokens."""
    inward = _price(prices, f"input_token/{model}", "input_token")
    return read * inward + written * _price(prices, f"output_token/{model}", "output_token")


def told(cost: float) -> float:
    """Return a sum of costs as it is told: to a billionth, without what adding in binary leaves behind it."""
    return round(cost, 9)


def _price(prices: Prices, *names: str) -> Decimal:
    found = next((prices[name] for name in names if name in prices), 0)
    return Decimal(str(found))
