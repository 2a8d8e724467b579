"""How a condition and what it looked at are told to people: in one sentence, with the values that decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.workflow.expressions import Expression, Result

_MOST_SHOWN = 5
_LONGEST_SHOWN = 60


def tell(condition: Expression, result: Result) -> str:
    """Return a clause such as `lead.score > 50 does not hold (lead.score is 12)`."""
    text = condition.text.strip()
    if result.unknown:
        return f"{text} cannot be told, because {result.unknown}"
    looked = shown(result.inputs)
    values = f" ({looked})" if looked else ""
    return f"{text} {'holds' if result.holds else 'does not hold'}{values}"


def shown(inputs: Mapping[str, Any]) -> str:
    """Return inputs as a clause such as `lead.score is 12, lead.tier is not known`."""
    parts = [
        f"{label} is {_spoken(value)}" if value is not None else f"{label} is not known"
        for label, value in list(inputs.items())[:_MOST_SHOWN]
    ]
    more = len(inputs) - len(parts)
    return ", ".join([*parts, f"and {more} more"] if more > 0 else parts)


def _spoken(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case Mapping() | list():
            return f"{len(value)} {'fields' if isinstance(value, Mapping) else 'items'}"
        case _:
            text = str(value)
            return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
