"""JSON of strangers as plain values that every database keeps, within limits; what few can hold is told otherwise."""

from __future__ import annotations

import json
from typing import Any

from core.domain.errors import Violation
from core.domain.workflow.storable import storable

DEEPEST = 32
"""Levels of objects and lists in one another."""

_LARGEST_INTEGER = 2**63


class Unreadable(Exception):
    """A body, or a part of it, cannot be read; `fault` says why."""

    def __init__(self, reason: str, message: str, hint: str):
        super().__init__(message)
        self.fault = Violation("body", reason, message, hint)


def parse(text: str) -> Any:
    """Return the value of a JSON text: NUL characters are left out, numbers that are not finite are null.

    Raises Unreadable.
    """
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=lambda _: None)
        _check_depth(value)
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


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [
        inner
        for item in level
        if isinstance(item, dict | list)
        for inner in (item.values() if isinstance(item, dict) else item)
    ]:
        depth += 1
        if depth > DEEPEST:
            raise _too_deep()


def _too_deep() -> Unreadable:
    return Unreadable("TOO_DEEP", f"is nested deeper than {DEEPEST} levels", "Send fewer levels.")
