"""Chance that can be repeated: a number drawn from a hash, whatever was drawn before it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

_T = TypeVar("_T")
_SPAN = float(1 << 64)


def draw(seed: int, *parts: object) -> float:
    """Return a number from 0 up to, not including, 1: always the same one for the same seed and parts."""
    text = "\x1f".join(map(str, (seed, *parts)))
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest()) / _SPAN


def pick(choices: Sequence[_T], seed: int, *parts: object) -> _T:
    """Return one of several, each as likely as the others."""
    return choices[int(draw(seed, *parts) * len(choices))]
