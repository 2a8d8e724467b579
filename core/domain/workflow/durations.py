"""Lengths of time as authors write them: `30m`, `2h`, `1d12h`, `1w`, or ISO 8601 such as `P3DT12H`."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

LONGEST = timedelta(days=3660)
"""Nothing waits longer than ten years."""

PATTERN = (
    r"^(?=.*[0-9])(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$"
    r"|^P(?=.*[0-9])(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$"
)
"""Both notations as one regular expression, for JSON Schema."""

SIGNED_PATTERN = PATTERN.replace("^", "^[-+]?")
"""The same with a sign before it, for offsets."""

EXAMPLE = "Write a number and a unit, such as 30m, 2h, 3d, 1w or 1d12h."

_NOTATION = re.compile(PATTERN)
_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
_SPOKEN = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def parse(text: str) -> timedelta:
    """Return the length of time a text stands for.

    Raises ValueError, with a sentence for the author, when it stands for none, for nothing at all or for too much.
    """
    found = _NOTATION.match(text.strip())
    if found is None or len(text) > 40:
        raise ValueError(f"{text[:40]!r} is not a length of time")
    counts = [int(count or 0) for count in found.groups()]
    try:
        length = timedelta(**{unit: a + b for unit, a, b in zip(_UNITS, counts[:5], counts[5:], strict=True)})
    except OverflowError:
        length = LONGEST * 2
    if length > LONGEST:
        raise ValueError(f"{text!r} is longer than ten years")
    if not length:
        raise ValueError(f"{text!r} is no time at all")
    return length


def parse_offset(text: str) -> timedelta:
    """Return the length of time that a text with or without a sign stands for, such as `-7d`; minus is before.

    Raises ValueError, with a sentence for the author, as `parse` does.
    """
    sign, written = text.strip()[:1], text.strip()
    if sign not in ("-", "+"):
        return parse(written)
    if written[1:2].isspace():
        raise ValueError(f"{text[:40]!r} is not a length of time")
    return -parse(written[1:]) if sign == "-" else parse(written[1:])


def render(length: timedelta) -> str:
    """Return a length of time in the short notation, to the second; a negative one begins with a minus."""
    if length < timedelta():
        return f"-{render(-length)}"
    rest = int(length.total_seconds())
    parts = []
    for suffix, seconds in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count}{suffix}")
    return "".join(parts) or "0s"


@lru_cache(maxsize=1024)  # a workflow says the same few lengths all day
def speak(length: timedelta) -> str:
    """Return a length of time for a sentence, such as `1 day 12 hours`."""
    rest = int(length.total_seconds())
    parts = []
    for word, seconds in _SPOKEN:
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count} {word}{'' if count == 1 else 's'}")
    return " ".join(parts) or "no time"


def speak_offset(offset: timedelta) -> str:
    """Return an offset for a sentence, such as `7 days before`."""
    return f"{speak(abs(offset))} {'before' if offset < timedelta() else 'after'}"
