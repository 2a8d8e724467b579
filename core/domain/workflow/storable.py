"""What every database keeps: texts without NUL and halves of surrogate pairs, numbers that are finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def storable_text(text: str) -> str:
    """Return a text as every database keeps it: without NUL and without halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text if text.isascii() else text.encode(errors="ignore").decode()


def storable(value: Any) -> Any:
    """Return plain data as every database keeps it: storable texts and keys, None for a number that is not finite."""
    kind = type(value)
    if kind is str:
        return storable_text(value)
    if kind is int or value is None or kind is bool:
        return value
    if kind is dict:
        return {storable_text(str(key)): storable(item) for key, item in value.items()}
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
