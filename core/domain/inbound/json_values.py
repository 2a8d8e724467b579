"""JSON of strangers as plain values that every database keeps, within limits; what few can hold is told otherwise."""

from __future__ import annotations

import json
import math
from typing import Any

from core.domain.errors import Violation
from core.domain.workflow.storable import storable, storable_text

DEEPEST = 32
"""Levels of objects and lists in one another."""

_LARGEST_INTEGER = 2**63
_LONGEST_NAME = 64
"""Characters of a key that are told."""


class Unreadable(Exception):
    """A body, or a part of it, cannot be read; `fault` says why, and where."""

    def __init__(self, reason: str, message: str, hint: str, path: str = "body"):
        super().__init__(message)
        self.fault = Violation(path, reason, message, hint)


def parse(text: str) -> Any:
    """Return the value of a JSON text: NUL characters are left out.

    Raises Unreadable, also for numbers that are not finite: JSON has none, and null would be another value.
    """
    try:
        value = json.loads(text, parse_int=_integer)
        if _check_depth(value):
            raise _not_finite(value)
        return storable(value)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Unreadable("NOT_JSON", f"is not JSON; the fault is at {where}", "Send JSON, or a form.") from None
    except RecursionError:
        raise _too_deep() from None


def _integer(digits: str) -> int | str:
    """Return a whole number; one that few can hold, such as a very long id, stays as its digits."""
    exact = int(digits) if len(digits) <= 20 else _LARGEST_INTEGER
    return exact if -_LARGEST_INTEGER <= exact < _LARGEST_INTEGER else digits


def _check_depth(value: Any) -> bool:
    """Tell whether there are numbers that are not finite. Raises Unreadable for what is nested too deep."""
    level, depth, odd = [value], 0, _is_odd(value)
    while level := [
        inner
        for item in level
        if isinstance(item, dict | list)
        for inner in (item.values() if isinstance(item, dict) else item)
    ]:
        depth += 1
        if depth > DEEPEST:
            raise _too_deep()
        odd = odd or any(map(_is_odd, level))
    return odd


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _not_finite(value: Any) -> Unreadable:
    path = storable_text(_path_of_odd(value, "body"))
    return Unreadable("NOT_FINITE", "is no number that JSON has", "Send a finite number, or leave the field out.", path)


def _path_of_odd(value: Any, path: str) -> str:
    """Return where the first number stands that is not finite; empty where all are."""
    if _is_odd(value):
        return path
    if isinstance(value, dict):
        inner = ((item, f"{path}.{name[:_LONGEST_NAME]}") for name, item in value.items())
    elif isinstance(value, list):
        inner = ((item, f"{path}[{number}]") for number, item in enumerate(value))
    else:
        return ""
    return next((found for item, place in inner if (found := _path_of_odd(item, place))), "")


def _too_deep() -> Unreadable:
    return Unreadable("TOO_DEEP", f"is nested deeper than {DEEPEST} levels", "Send fewer levels.")
