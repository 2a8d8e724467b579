"""Why an expression came to nothing: something it looks at is not known, or it cannot be computed from what is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.workflow.storable import storable_text

_OF_NULL = ("null_type", "Key not found")
"""What the engine says of nothing where it wants something."""
_MAY_BE_OF_NULL = ("SELECT", "found : <", "found : @in", "found : !_", "found : _&&_", "found : _||_")
"""What it says without telling of which kind the value is."""


def is_want(error: str, something_missing: bool) -> bool:
    """Tell whether an error of the engine is for want of a value; all others are errors also of those that know it."""
    if any(said in error for said in _OF_NULL):
        return True
    return something_missing and any(said in error for said in _MAY_BE_OF_NULL)


def why_unknown(inputs: Mapping[str, Any], error: str) -> str:
    """Return which inputs are not known, as a clause."""
    missing = [label for label, value in inputs.items() if value is None]
    if not missing:
        return why_broken(error)
    names = missing[0] if len(missing) == 1 else ", ".join(missing[:-1]) + " and " + missing[-1]
    return f"{names} {'is' if len(missing) == 1 else 'are'} not known"


def why_broken(error: str) -> str:
    """Return what an error of the engine says, as a clause."""
    if "divide by zero" in error:
        return "it divides by zero"
    if "Iteration budget" in error:
        return "it runs over too many list items"
    if "No matching overload" in error:
        return "its values are not of the kinds it compares"
    told = storable_text(error.partition(": ")[2][:100])  # the engine quotes keys and values
    return "it could not be evaluated" + (f" ({told})" if ": " in error else "")
