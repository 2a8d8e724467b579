"""Lengths of time and shares as authors of a simulation write them: `2d`, `[1d, 3d]`, `0.3`, `30%`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.workflow import durations

_NOTHING = timedelta()


@frozen
class Span:
    """A length of time, or where it lies when it is drawn."""

    least: timedelta = _NOTHING
    most: timedelta = _NOTHING

    def at(self, point: float) -> timedelta:
        """Return the length at a point from 0 to 1, to the second."""
        if self.least == self.most:
            return self.least
        return timedelta(seconds=round((self.least + (self.most - self.least) * point).total_seconds()))


AT_ONCE = Span()


def read_length(raw: Any, path: str, problems: list[Violation]) -> timedelta:
    """Return a length of time, zero included, or report what is wrong."""
    text = str(raw).strip().removeprefix("+").strip()
    if text in ("0", "0s", "now"):
        return _NOTHING
    try:
        return durations.parse(text)
    except ValueError as error:
        problems.append(Violation(path, "NOT_A_DURATION", str(error), durations.EXAMPLE))
        return _NOTHING


def read_span(raw: Any, path: str, problems: list[Violation]) -> Span:
    """Return a span, `1d` or `[1d, 3d]`, or report what is wrong."""
    if not isinstance(raw, list):
        length = read_length(raw, path, problems)
        return Span(length, length)
    if len(raw) != 2:
        problems.append(Violation(path, "WRONG_COUNT", "this must be the least and the most", "Write [1d, 3d]."))
        return AT_ONCE
    least, most = (read_length(one, f"{path}[{index}]", problems) for index, one in enumerate(raw))
    if most < least:
        problems.append(Violation(path, "WRONG_ORDER", "the most is less than the least", "Write [1d, 3d]."))
    return Span(least, max(least, most))


def read_share(raw: Any, path: str, problems: list[Violation]) -> float:
    """Return a share from 0 to 1, written `0.3` or `30%`, or report what is wrong."""
    share: float | None = None
    if isinstance(raw, str) and raw.strip().endswith("%"):
        try:
            share = float(raw.strip()[:-1]) / 100
        except ValueError:
            share = None
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        share = float(raw)
    if share is None or not 0 <= share <= 1:
        problems.append(Violation(path, "NOT_A_SHARE", f"{str(raw)[:40]} is not a share", "Write 0.3, or 30%."))
        return 0.0
    return share
