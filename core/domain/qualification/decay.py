"""Points that fade with age: exact decimals of a fixed precision, the same everywhere, rounded once at the end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

_EXACT = Context(prec=34, rounding=ROUND_HALF_EVEN)
_HALF = Decimal("0.5")
_WHOLE = Decimal(1)
_MICROSECOND = timedelta(microseconds=1)


def remaining(points: int, ages: Iterable[timedelta], half_life: timedelta | None) -> int:
    """Return what is left of points given once for each age: summed exactly, then rounded, half to even."""
    if half_life is None:
        return points * sum(1 for _ in ages)
    share = Decimal(0)
    for age in sorted(ages):  # one order, so that the last digit is the same whatever order they came in
        share = _EXACT.add(share, _share(age, half_life))
    return int(_EXACT.multiply(Decimal(points), share).quantize(_WHOLE, ROUND_HALF_EVEN, _EXACT))


def _share(age: timedelta, half_life: timedelta) -> Decimal:
    """Return the part that is left after an age; what lies ahead has not begun to fade."""
    if age <= timedelta():
        return _WHOLE
    halvings = _EXACT.divide(Decimal(age // _MICROSECOND), Decimal(half_life // _MICROSECOND))
    return _EXACT.power(_HALF, halvings)
