"""What every database keeps: texts without NUL and halves of surrogate pairs, numbers that are finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

AS_THEY_ARE = frozenset({type(None), bool, int})
"""Types of values that are kept as they are, whatever they are."""


def storable_text(text: str) -> str:
    """Return a text as every database keeps it: without NUL and without halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode(errors="ignore").decode()


def storable(value: Any) -> Any:
    """Return plain data as every database keeps it: storable texts and keys, None for a number that is not finite.

    What is so already may be the value itself, not a copy of it.
    """
    kind = type(value)
    if kind is str:
        return storable_text(value)
    if kind is int or value is None or kind is bool:
        return value
    if kind is dict:
        return value if _is_plain(value) else {storable_text(str(key)): storable(item) for key, item in value.items()}
    match value:
        case str():
            return storable_text(value)
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {storable_text(str(key)): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value


def _is_plain(entries: dict[Any, Any]) -> bool:
    """Tell whether entries are storable at a glance, as most are: short of a look into anything but ASCII."""
    for key, item in entries.items():
        if type(key) is not str or not key.isascii() or "\0" in key:
            return False
        kind = type(item)
        if kind is str:
            if not item.isascii() or "\0" in item:
                return False
        elif kind not in AS_THEY_ARE:
            return False
    return True
