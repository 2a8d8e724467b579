"""Filters of endpoints, CEL conditions on an event: `emit`, `TryFilter` and `ExplainDelivery` ask the same function."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.workflow.conditions import tell
from core.domain.workflow.expressions import Environment, Expression, Kind

VARIABLES: Mapping[str, Kind] = {"event.type": "string", "event.time": "instant", "event.data": "map"}
"""What a filter may look at."""

_MOST_KEPT = 1_024
"""Compiled filters a process keeps: those of all endpoints it meets, by their text."""

_ENVIRONMENT = Environment(VARIABLES)


@frozen
class FilteredEvent:
    """What a filter looks at."""

    type: str
    at: datetime
    data: Mapping[str, Any]
    """As the receiver will read it: JSON values."""


@frozen
class FilterVerdict:
    """What a filter says of one event."""

    passed: bool
    reason: str
    """Whether it holds and why, or why it cannot be told, as a clause; empty where there is no filter."""
    inputs: Mapping[str, Any]
    """Each value it looked at, by path; None where it was not known."""


EVERYTHING = FilterVerdict(True, "", {})
"""The verdict of an endpoint without a filter."""


def problems(text: str, path: str = "filter") -> tuple[Violation, ...]:
    """Return everything that is wrong with a filter; an empty one is none and right."""
    return _ENVIRONMENT.check(text, wants="boolean", path=path)[1] if text.strip() else ()


def passes(text: str, event: FilteredEvent) -> FilterVerdict:
    """Tell whether an event is wanted by a filter; one that it cannot be told for is not."""
    if not text.strip():
        return EVERYTHING
    compiled = _compiled(text)
    if compiled is None:  # written when the rules were others: never a reason to send what was not asked for
        return FilterVerdict(False, "the filter can no longer be read", {})
    values = {"event.type": event.type, "event.time": event.at, "event.data": event.data}
    result = compiled.evaluate(values)
    return FilterVerdict(result.holds, tell(compiled, result), result.inputs)


@lru_cache(maxsize=_MOST_KEPT)
def _compiled(text: str) -> Expression | None:
    return _ENVIRONMENT.check(text, wants="boolean", path="filter")[0]
